"""How much of what a profile is worth does its reward see? On worlds whose truth is known, without training.

python benchmarks/reward_signal.py many_records
python benchmarks/reward_signal.py false_negatives --data FOLDER

The embedded model writes eight profiles of each user, and their rewards are compared with the truth, how many of the
user's traits a profile names: the correlation inside groups of eight, which is all that GRPO learns from.
`many_records` varies how many records must be found, P, at equal cost; `false_negatives` varies who may not compete,
and counts on the real logs in FOLDER how often hidden records are alike. Five worlds, batches of their 20 users. Each
part writes results/findings_NAME.json.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bump.engines.make import make_engine
from bump.files import write_json
from bump.interactions import User, load_logs
from bump.judges import make_judge
from bump.neighbours import cosines
from bump.pools import Pool, PoolSettings, Roster, draw_pool
from bump.profiles import write_profiles
from bump.reward import Batch, RewardSettings, judge_profiles, rollout_rankings
from bump.seeds import named_rng
from bump.world import WorldConfig, WorldUser, make_world, named_things, named_traits, world_users

RESULTS = Path(__file__).parent / "results"
SEEDS = range(100, 105)  # worlds
USERS = 20  # of each, one batch
G, K = 8, 8  # profiles of a user, competitors
LONGEST = 8  # held-out records
DRAWS = {1: 5, 2: 3, 4: 2, 8: 1}  # P → draws of competitors, so that all cost about the same
MASK_DRAWS = 4
JUDGES = ("likelihood", "bm25")
LOGS = {
    "film ratings": "movielens",
    "tweets": "lamp/LaMP_7/dev_questions.json",
    "posts and comments": "stackexchange/logs.jsonl",
    "abstracts": "papers/logs.jsonl",
}
THRESHOLDS, SIZES = (0.95, 0.8, 0.6), (2, 4, 8, 16, 32)
DIRECTIONS = {"sum": lambda x: x.sum(0), "forward": lambda x: x[0], "backward": lambda x: x[1]}
Avoid = Mapping[str, frozenset[str]]  # user → who must not compete


@dataclass
class World:
    "Users of a world, profiles of each by the embedded model, and how many true traits each names."

    seed: int
    people: dict[str, WorldUser]
    users: list[User]
    profiles: dict[str, list[str]]
    truth: np.ndarray  # shape (users, G)

    @classmethod
    def of(cls, seed: int) -> "World":
        people = make_world(WorldConfig(n_users=USERS, n_records=(16, 20), seed=seed))
        users = world_users(people, hold_out=LONGEST)
        profiles: dict[str, list[str]] = {u.user_id: [] for u in users}
        writer = make_engine("embedded")
        for g in range(G):
            how = dict(max_prompt_tokens=320, max_new_tokens=64, batch_size=64, temperature=1.0, seed=seed * G + g)
            for p in write_profiles(users, writer, **how):
                profiles[p.user_id].append(p.profile)
        by_id = {p.user_id: p for p in people}
        truth = [[len(named_traits(t, by_id[u].traits)) for t in texts] for u, texts in profiles.items()]
        return cls(seed, by_id, users, profiles, np.array(truth, float))


@dataclass
class Masked(Batch):
    "A batch in which it is given who must not compete with whom."

    avoid: Avoid = field(default_factory=dict)

    def pools(self, users: Sequence[str], s: PoolSettings, step: int) -> dict[str, Pool]:
        held_out, rollouts = ({u: len(v) for u, v in part.items()} for part in (self.held_out, self.profiles))
        roster = Roster.of(held_out)
        return {
            u: draw_pool(u, held_out, rollouts, s.num_negatives, 1, s.seed, step, avoid=self.avoid[u], roster=roster)
            for u in users
        }


def rewards(batch: Batch, judge, step: int, seed: int) -> np.ndarray:  # shape (2, users, G)
    "The forward and the backward NDCG of each profile, for one draw of competitors."
    pools = batch.pools(list(batch.profiles), RewardSettings(num_negatives=K, num_shuffles=1, seed=seed), step)
    asked = {
        (u, g): rollout_rankings(batch, u, text, pools[u], n_orders=1, rollout=g)
        for u, texts in batch.profiles.items()
        for g, text in enumerate(texts)
    }
    parts = judge_profiles(asked, judge)
    of = {d: [[getattr(parts[u, g], d) for g in range(G)] for u in batch.profiles] for d in ("forward", "backward")}
    return np.array(list(of.values()))


def inside(x: np.ndarray) -> np.ndarray:
    return x - x.mean(-1, keepdims=True)


def pooled(reward: np.ndarray, truth: np.ndarray) -> float:  # both of shape (users, G)
    "The correlation of what is left of both when each group's mean is taken off."
    a, b = inside(reward).ravel(), inside(truth).ravel()
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def by_group(reward: np.ndarray, truth: np.ndarray) -> float:
    "The mean of the groups' own correlations, where reward and truth both vary."
    a, b = inside(reward), inside(truth)
    varies = (a.std(-1) > 1e-9) & (b.std(-1) > 1e-9)
    a, b = a[varies], b[varies]
    return float(((a * b).sum(-1) / np.sqrt((a * a).sum(-1) * (b * b).sum(-1))).mean())


MEASURES = {"pooled": pooled, "by group": by_group}


def with_interval(measure: Callable[..., float], *arrays: np.ndarray) -> list[float]:
    "A measure of arrays over users, and its 95% interval when users are drawn anew."
    n, rng = len(arrays[0]), named_rng(0, 0, "", "bootstrap of users")
    draws = [measure(*(a[i] for a in arrays)) for i in (rng.integers(n, size=n) for _ in range(2000))]
    return [round(float(x), 3) for x in (measure(*arrays), *np.nanquantile(draws, (0.025, 0.975)))]


def signal(reward: np.ndarray, truth: np.ndarray, less: np.ndarray | None = None) -> dict:
    "What a reward sees of the truth, and what it sees more than another one does."
    spread = reward.std(-1)
    told = {name: with_interval(f, reward, truth) for name, f in MEASURES.items()}
    if less is not None:
        gain = {name: lambda a, b, t, f=f: f(a, t) - f(b, t) for name, f in MEASURES.items()}
        told |= {f"{name}, difference": with_interval(g, reward, less, truth) for name, g in gain.items()}
    return told | dict(deviation=round(float(spread.mean()), 3), alike=round(float((spread < 1e-9).mean()), 3))


def of_records(world: World, judge, P: int) -> np.ndarray:  # shape (draws, 2, users, G)
    held_out = {u.user_id: [r.text for r in u.held_out[:P]] for u in world.users}
    batch = Batch(held_out, world.profiles)
    return np.array([rewards(batch, judge, step, world.seed) for step in range(DRAWS[P])])


def many_records(args) -> dict:
    worlds = [World.of(seed) for seed in SEEDS]
    truth, found = np.concatenate([w.truth for w in worlds]), {}
    for name in JUDGES:
        judge = make_judge(name)
        drawn = {P: np.concatenate([of_records(w, judge, P) for w in worlds], axis=2) for P in DRAWS}
        found[name] = {}
        for part, of in DIRECTIONS.items():
            equal = {P: of(x.mean(0)) for P, x in drawn.items()}
            found[name][part] = {
                f"P = {P}": dict(one_draw=signal(of(x[0]), truth), equal_cost=signal(equal[P], truth, equal[1]))
                for P, x in drawn.items()
            }
        print(name, json.dumps(found[name]), flush=True)
    costs = {f"P = {P}": dict(draws=n, candidates=n * (P + K + P * (1 + K))) for P, n in DRAWS.items()}
    return dict(worlds=len(worlds), users=len(truth), traits=round(float(truth.mean()), 3), costs=costs, judges=found)


def fits(world: World, reader: str, writer: User) -> bool:
    "Whether the hidden record of `writer` names a thing that `reader` likes, so that it suits a true profile of them."
    return named_things(writer.held_out[0].text, world.people[reader].traits) > 0


def false_competitors(world: World) -> dict[str, Avoid]:  # direction → user → competitors who are right as well
    forward = {u.user_id: {o.user_id for o in world.users if o is not u and fits(world, u.user_id, o)}
               for u in world.users}  # fmt: skip
    backward = {u.user_id: {o.user_id for o in world.users if o is not u and fits(world, o.user_id, u)}
                for u in world.users}  # fmt: skip
    return dict(forward=_frozen(forward), backward=_frozen(backward))


def _frozen(sets: Mapping[str, set[str]]) -> Avoid:
    return {u: frozenset(s | {u}) for u, s in sets.items()}


def as_many_others(world: World, avoid: Avoid, direction: str) -> Avoid:
    "As many users for each who are not in `avoid`."
    drawn = {}
    for u, gone in avoid.items():
        others = sorted(set(avoid) - gone)
        rng = named_rng(world.seed, 0, u, f"as many others, {direction}")
        drawn[u] = {others[i] for i in rng.permutation(len(others))[: len(gone) - 1]}
    return _frozen(drawn)


def masks(world: World) -> dict[str, dict[str, Avoid]]:  # arm → direction → user → who must not compete
    nobody, false = _frozen({u.user_id: set() for u in world.users}), false_competitors(world)
    return {
        "everybody competes": dict(forward=nobody, backward=nobody),
        "without false negatives": false,
        "without as many others": {d: as_many_others(world, avoid, d) for d, avoid in false.items()},
    }


def of_mask(world: World, judge, avoid: Mapping[str, Avoid]) -> np.ndarray:  # shape (2, users, G)
    "Both directions, each with those left out who are right in it; the mean of several draws."
    texts = {u.user_id: [u.held_out[0].text] for u in world.users}
    kept = []
    for n, direction in enumerate(("forward", "backward")):
        batch = Masked(texts, world.profiles, avoid=avoid[direction])
        kept.append(np.mean([rewards(batch, judge, step, world.seed)[n] for step in range(MASK_DRAWS)], axis=0))
    return np.array(kept)


def rates(shares: np.ndarray) -> dict[str, float]:  # of each user, the share of others who are right as well
    "How often a pool has at least one such competitor, by its size."
    return {str(k): round(float(np.mean(1 - (1 - shares) ** k)), 3) for k in SIZES}


def shares_on_logs(data: Path) -> dict:
    "Of each user's hidden record, how many others' are like it, by the cosine of MiniLM?"
    encoder, found = make_judge("embed:minilm").encoder, {}
    for log, path in LOGS.items():
        texts = [u.held_out[0].text for u in load_logs(data / path, hold_out=1).users]
        vectors = encoder.encode(texts, normalize_embeddings=True, show_progress_bar=False)
        alike = cosines(vectors, vectors)
        np.fill_diagonal(alike, -1)
        shares = {t: (alike >= t).sum(1) / (len(texts) - 1) for t in THRESHOLDS}
        told = {str(t): dict(share=round(float(x.mean()), 5), pools=rates(x)) for t, x in shares.items()}
        found[log] = dict(users=len(texts), thresholds=told)
    return found


def false_negatives(args) -> dict:
    worlds = [World.of(seed) for seed in SEEDS]
    truth, found = np.concatenate([w.truth for w in worlds]), {}
    for name in JUDGES:
        judge = make_judge(name)
        arms: dict[str, list[np.ndarray]] = {}
        for w in worlds:
            for arm, avoid in masks(w).items():
                arms.setdefault(arm, []).append(of_mask(w, judge, avoid))
        x = {arm: np.concatenate(parts, axis=1) for arm, parts in arms.items()}
        plain = x["everybody competes"]
        found[name] = {
            part: {arm: signal(of(v), truth, of(plain)) for arm, v in x.items()} for part, of in DIRECTIONS.items()
        }
        print(name, json.dumps(found[name]), flush=True)
    sets = [false_competitors(w) for w in worlds]
    share = {d: np.array([(len(s) - 1) / (USERS - 1) for f in sets for s in f[d].values()]) for d in sets[0]}
    world = {d: dict(share=round(float(x.mean()), 4), pools=rates(x)) for d, x in share.items()}
    return dict(worlds=len(worlds), users=len(truth), draws=MASK_DRAWS, judges=found, world=world,
                logs=shares_on_logs(args.data))  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=["many_records", "false_negatives"])
    parser.add_argument("--data", type=Path, help="the real logs, for false_negatives")
    args = parser.parse_args()
    if "false_negatives" in args.names and not args.data:
        parser.error("false_negatives needs --data, the folder of the logs")
    for name in args.names:
        write_json(RESULTS / f"findings_{name}.json", globals()[name](args))


if __name__ == "__main__":
    main()
