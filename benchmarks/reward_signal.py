"""How much of what a profile is worth does its reward see? On worlds whose truth is known, without training.

python benchmarks/reward_signal.py positives false_negatives

The embedded model writes eight profiles of each user, and their rewards are compared with the truth, how many of the
user's traits a profile names: the correlation inside groups of eight, which is all that GRPO learns from. `positives`
varies how many records must be found, P, at equal cost; `false_negatives` varies who may not compete. Five worlds, 20
users each. Each part writes results/findings_NAME.json.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
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
SEEDS, SCORED, G, K, LONGEST = (
    5,
    40,
    8,
    8,
    8,
)  # worlds, users of each, profiles of a user, competitors, held-out records
DRAWS = {1: 5, 2: 3, 4: 2, 8: 1}  # P → draws of competitors, so that all cost about the same
JUDGES = ("likelihood", "bm25")
LOGS = {
    "MovieLens": "movielens",
    "LaMP-7": "lamp/LaMP_7",
    "stackexchange": "stackexchange/logs.jsonl",
    "papers": "papers/logs.jsonl",
}
THRESHOLDS, SIZES = (0.95, 0.8, 0.6), (2, 4, 8, 16, 32)


@dataclass
class World:
    "Users of a world, profiles of each by the embedded model, and how many true traits each names."

    seed: int
    people: dict[str, WorldUser]
    users: list[User]
    profiles: dict[str, list[str]]
    truth: np.ndarray  # shape (users, G)

    @classmethod
    @cache
    def of(cls, seed: int) -> "World":
        people = make_world(WorldConfig(n_users=SCORED, n_records=(16, 20), seed=100 + seed))
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

    def batches(self, size: int) -> list[list[User]]:
        return [self.users[i : i + size] for i in range(0, len(self.users), size)]


@dataclass
class Masked(Batch):
    "A batch in which it is given who must not compete with whom."

    avoid: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def pools(self, users: Sequence[str], s: PoolSettings, step: int) -> dict[str, Pool]:
        held_out, rollouts = ({u: len(v) for u, v in part.items()} for part in (self.held_out, self.profiles))
        roster = Roster.of(held_out)
        return {
            u: draw_pool(u, held_out, rollouts, s.num_negatives, 1, s.seed, step, avoid=self.avoid[u], roster=roster)
            for u in users
        }


def rewards(batch: Batch, judge, step: int, seed: int) -> np.ndarray:  # shape (2, users, G)
    "The forward and the backward NDCG of each profile."
    pools = batch.pools(list(batch.profiles), RewardSettings(num_negatives=K, num_shuffles=1, seed=seed), step)
    asked = {
        (u, g): rollout_rankings(batch, u, text, pools[u], n_orders=1, rollout=g)
        for u, texts in batch.profiles.items()
        for g, text in enumerate(texts)
    }
    parts = judge_profiles(asked, judge)
    of = {d: [[getattr(parts[u, g], d) for g in range(G)] for u in batch.profiles] for d in ("forward", "backward")}
    return np.array(list(of.values()))


def of_positives(world: World, judge, P: int) -> np.ndarray:  # shape (draws, 2, users, G)
    def batch(users: Sequence[User]) -> Batch:
        held_out = {u.user_id: [r.text for r in u.held_out[:P]] for u in users}
        return Batch(held_out, {u.user_id: world.profiles[u.user_id] for u in users})

    def draw(step: int) -> np.ndarray:
        return np.concatenate([rewards(batch(users), judge, step, world.seed) for users in world.batches(10)], axis=1)

    return np.array([draw(step) for step in range(DRAWS[P])])


def inside(x: np.ndarray) -> np.ndarray:
    return x - x.mean(-1, keepdims=True)


def correlation(reward: np.ndarray, truth: np.ndarray) -> float:  # both of shape (users, G)
    a, b = inside(reward).ravel(), inside(truth).ravel()
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def with_interval(measure, *arrays: np.ndarray) -> list[float]:
    "A measure of arrays over users, and its 95% interval when users are drawn anew."
    n, rng = len(arrays[0]), named_rng(0, 0, "", "bootstrap of users")
    draws = [measure(*(a[i] for a in arrays)) for i in (rng.integers(n, size=n) for _ in range(1000))]
    return [round(float(x), 3) for x in (measure(*arrays), *np.nanquantile(draws, (0.025, 0.975)))]


def difference(a: np.ndarray, b: np.ndarray, truth: np.ndarray) -> float:
    return correlation(a, truth) - correlation(b, truth)


def signal(reward: np.ndarray, truth: np.ndarray) -> dict:
    spread = reward.std(-1)
    return dict(
        correlation=with_interval(correlation, reward, truth),
        deviation_inside=round(float(spread.mean()), 3),
        groups_without_spread=round(float((spread < 1e-9).mean()), 3),
    )


def compared(drawn: Mapping[int, np.ndarray], truth: np.ndarray) -> dict:  # P → shape (draws, users, G)
    "What each P sees in one draw of competitors and at equal cost."
    equal = {P: x.mean(0) for P, x in drawn.items()}
    return {
        f"P={P}": dict(
            one_draw=signal(x[0], truth),
            equal_cost=signal(equal[P], truth),
            less_P1=with_interval(difference, equal[P], equal[1], truth),
        )
        for P, x in drawn.items()
    }


def positives(args) -> dict:
    worlds = [World.of(seed) for seed in range(SEEDS)]
    truth = np.concatenate([w.truth for w in worlds])
    found: dict[str, dict] = {}
    for name in JUDGES:
        judge = make_judge(name)
        drawn = {P: np.concatenate([of_positives(w, judge, P) for w in worlds], axis=2) for P in DRAWS}
        parts = {"sum": lambda x: x.sum(1), "forward": lambda x: x[:, 0], "backward": lambda x: x[:, 1]}
        found[name] = {part: compared({P: f(x) for P, x in drawn.items()}, truth) for part, f in parts.items()}
        print(name, json.dumps(found[name]), flush=True)
    costs = {f"P={P}": dict(candidates=P + K + P * (1 + K), draws=n) for P, n in DRAWS.items()}
    facts = dict(worlds=SEEDS, users=len(truth), profiles=G, negatives=K, traits=round(float(truth.mean()), 3))
    return dict(**facts, costs=costs, judges=found)


def fits(world: World, u: str, other: User) -> bool:
    "Whether the hidden record of another user names a thing that `u` likes: it would be found by a true profile of u."
    return named_things(other.held_out[0].text, world.people[u].traits) > 0


def masks(world: World, users: Sequence[User]) -> dict[str, dict[str, frozenset[str]]]:
    own = {u.user_id: frozenset({u.user_id}) for u in users}
    true = {u.user_id: own[u.user_id] | {o.user_id for o in users if fits(world, u.user_id, o)} for u in users}
    rng = named_rng(world.seed, 0, "", "as many others")
    as_many = {
        u: own[u] | set(rng.permutation([o.user_id for o in users if o.user_id != u])[: len(avoid - {u})].tolist())
        for u, avoid in true.items()
    }
    return {"nobody": own, "false negatives": true, "as many others": as_many}


def of_masks(world: World, judge) -> dict[str, np.ndarray]:
    found: dict[str, list[np.ndarray]] = {}
    for users in world.batches(20):
        texts = {u.user_id: [u.held_out[0].text] for u in users}
        for name, avoid in masks(world, users).items():
            batch = Masked(texts, {u: world.profiles[u] for u in texts}, avoid=avoid)
            found.setdefault(name, []).append(rewards(batch, judge, 0, world.seed).sum(0))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def rates(share: float) -> dict[str, float]:
    "How often a pool has at least one false negative, where a competitor is one with this probability."
    return {str(k): round(1 - (1 - share) ** k, 4) for k in SIZES}


def share_on_world(world: World) -> float:
    pairs = [fits(world, u.user_id, o) for u in world.users for o in world.users if o is not u]
    return float(np.mean(pairs))


def shares_on_logs(data: Path) -> dict:
    "Of two users' hidden records, how often are they alike, by the cosine of MiniLM?"
    encoder = make_judge("embed:minilm").encoder
    found = {}
    for log, path in LOGS.items():
        texts = [u.held_out[0].text for u in load_logs(data / path, hold_out=1).users]
        vectors = encoder.encode(texts, normalize_embeddings=True, show_progress_bar=False)
        alike = cosines(vectors, vectors)[np.triu_indices(len(texts), 1)]
        shares = {str(t): float((alike >= t).mean()) for t in THRESHOLDS}
        found[log] = dict(users=len(texts), shares=shares, pools={t: rates(x) for t, x in shares.items()})
    return found


def false_negatives(args) -> dict:
    worlds = [World.of(seed) for seed in range(SEEDS)]
    truth = np.concatenate([w.truth for w in worlds])
    found: dict[str, dict] = {}
    for name in JUDGES:
        judge = make_judge(name)
        parts = [of_masks(w, judge) for w in worlds]
        arms = {arm: np.concatenate([p[arm] for p in parts]) for arm in parts[0]}
        found[name] = {
            arm: signal(x, truth) | dict(less_nobody=with_interval(difference, x, arms["nobody"], truth))
            for arm, x in arms.items()
        }
        print(name, json.dumps(found[name]), flush=True)
    share = float(np.mean([share_on_world(w) for w in worlds]))
    world = dict(share=round(share, 4), pools=rates(share))
    return dict(worlds=SEEDS, users=len(truth), judges=found, world=world, logs=shares_on_logs(args.data))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=["positives", "false_negatives"])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="the real logs, for false_negatives")
    args = parser.parse_args()
    for name in args.names:
        write_json(RESULTS / f"findings_{name}.json", globals()[name](args))


if __name__ == "__main__":
    main()
