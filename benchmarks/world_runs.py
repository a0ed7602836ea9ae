"""Trainings of the embedded model on synthetic worlds, settings × seeds, for the pages of nbs/findings.

python benchmarks/world_runs.py --runs RUNS [--seeds 0 1 2 3 4] [--names NAME ...]

Each seed has a world of 600 users of its own, the quick start's settings with 20 steps, and 120 users never trained
on, whose sampled profiles are scored by every judge and by the truth: how many of the user's traits they name. A run
that is done is not done again; one that was interrupted is trained anew. `gathered` reads them for the findings.
"""

import argparse
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np

from bump.cli.quickstart import quick_config
from bump.engines.make import make_engine
from bump.files import write_json
from bump.interactions import User, user_split
from bump.intrinsic import score_arms
from bump.judges import make_judge
from bump.profiles import write_profiles
from bump.training.fit import train
from bump.world import WorldConfig, WorldUser, describe, make_world, named_things, named_traits, world_users

STEPS, SCORED, WARM = 20, 120, "warm start"
JUDGES = ("likelihood", "yesno", "letters", "embed:minilm", "bm25")
SETTINGS: dict[str, dict] = {
    "likelihood": {},
    "bm25": dict(judge="bm25"),
    "embed:minilm": dict(judge="embed:minilm"),
    "yesno": dict(judge="yesno"),
    "letters": dict(judge="letters"),
    "likelihood, InfoNCE": dict(reward="infonce"),
    "bm25, InfoNCE": dict(judge="bm25", reward="infonce"),
    "embed:minilm, InfoNCE": dict(judge="embed:minilm", reward="infonce"),
    "forward only": dict(backward_weight=0.0),
    "backward only": dict(forward_weight=0.0),
    "no length penalty": dict(length_slope=0.0),
    "similar users' profiles": dict(negatives="hard", encoder="bm25"),
    "similar users' profiles and records": dict(negatives="hard", hard_records=True, encoder="bm25"),
    "four hidden records": dict(hold_out=4),
    **{f"P = {P}": dict(hold_out=P) for P in (1, 2, 4, 8)},
    (FAIR := "without false negatives"): {},
}
KEPT_BACK = 8  # records of the settings "P = 1" to "P = 8", which all let the writer read the same other ones


def world(seed: int, name: str) -> tuple[list[User], list[User], dict[str, WorldUser]]:
    "Users to train on, with as many records hidden as the setting hides, users to score, with one, and everybody."
    hidden, equal = SETTINGS.get(name, {}).get("hold_out", 1), name.startswith("P = ")
    people = make_world(WorldConfig(n_users=600, seed=seed, **(dict(n_records=(16, 20)) if equal else {})))
    parts: dict[str, list[User]] = {"train": [], "validation": [], "test": []}
    for p in people:
        part = user_split(p.user_id)
        shown = hidden if part == "train" else 1
        (u,) = world_users([p], hold_out=KEPT_BACK if equal else shown)
        parts[part].append(replace(u, held_out=u.held_out[:shown]))
    return parts["train"], (parts["test"] + parts["validation"])[:SCORED], {p.user_id: p for p in people}


def right_as_well(people: Mapping[str, WorldUser]) -> Callable[..., dict[str, frozenset[str]]]:
    "In place of `bump.pools.false_negatives`: whoever's hidden record names a thing that the other one likes."

    def fits(reader: str, texts: Sequence[str]) -> bool:
        return any(named_things(t, people[reader].traits) for t in texts)

    def false(held_out: Mapping[str, Sequence[str]], *_) -> dict[str, frozenset[str]]:
        return {
            u: frozenset(o for o in held_out if o == u or fits(u, held_out[o]) or fits(o, held_out[u]))
            for u in held_out
        }

    return false


def trained(name: str, seed: int, users: Sequence[User], people: Mapping, folder: Path) -> tuple[str, dict]:
    "A writer by name, and what its training cost; the warm start costs nothing."
    if name == WARM:
        return "embedded", {}
    shutil.rmtree(folder / "run", ignore_errors=True)
    with patch("bump.reward.false_negatives", right_as_well(people)) if name == FAIR else nullcontext():
        train(users, "embedded", quick_config(folder / "run", STEPS, seed, **SETTINGS[name]))
    rows, seconds = ([json.loads(line) for line in (folder / "run" / f).read_text().splitlines()]
                     for f in ("metrics.jsonl", "timings.jsonl"))  # fmt: skip
    tokens = sum(r.get("bump/judge_prefill_tokens", 0) + r.get("bump/judge_decode_tokens", 0) for r in rows)
    cost = dict(judge_tokens=tokens, judge_seconds=round(sum(r["judge"] for r in seconds), 1))
    cost["copied"] = [round(r["bump/copied"], 3) for r in rows]
    return str(folder / "run"), cost | dict(curve=[round(r["reward"], 4) for r in rows], spread=rows[0]["reward_std"])


def scores(users: Sequence[User], texts: Mapping[str, str], judges: Mapping) -> dict:
    "Judge → user → sum of both directions."
    arms = {name: score_arms(users, texts, judge, controls=())["profiles"] for name, judge in judges.items()}
    return {name: {u: round(p.forward + p.backward, 5) for u, p in arm.items()} for name, arm in arms.items()}


def one_run(name: str, seed: int, folder: Path, judges: Mapping) -> dict:
    mine, others, people = world(seed, name)
    traits = {u: p.traits for u, p in people.items()}
    started = time.perf_counter()
    writer, cost = trained(name, seed, mine, people, folder)
    cost["seconds"] = round(time.perf_counter() - started, 1)
    how = dict(max_prompt_tokens=320, max_new_tokens=64, batch_size=64, temperature=1.0, seed=seed)
    written = {p.user_id: p for p in write_profiles(others, make_engine(writer), **how)}
    texts = {u.user_id: written[u.user_id].profile for u in others}
    result = dict(name=name, seed=seed, cost=cost, scores=scores(others, texts, judges))
    result["named"] = {u: len(named_traits(t, traits[u])) for u, t in texts.items()}
    result["tokens"] = {u: p.tokens for u, p in written.items()}
    if name == WARM:
        result["truth"] = scores(others, {u: describe(traits[u]) for u in texts}, judges)
    return result | dict(profiles=texts)


def gathered(runs: Path) -> dict[tuple[str, int], dict]:
    "The finished runs, by setting and seed."
    found = [json.loads(p.read_text()) for p in sorted(runs.glob("*/result.json"))]
    return {(r["name"], r["seed"]): r for r in found}


def make_runs(runs: Path, seeds: Sequence[int], names: Sequence[str]) -> dict[tuple[str, int], dict]:
    "All finished runs, after those of these settings and seeds that were missing have been trained."
    judges: dict = {}
    for seed in seeds:
        for name in names:
            folder = runs / f"{name.replace(', ', '-').replace(' ', '-').replace(':', '-')}-{seed}"
            if not (folder / "result.json").exists():
                judges = judges or {judge: make_judge(judge) for judge in JUDGES}
                folder.mkdir(parents=True, exist_ok=True)
                result = one_run(name, seed, folder, judges)
                write_json(folder / "result.json", result)
                shown = {k: round(float(np.mean(list(v.values()))), 3) for k, v in result["scores"].items()}
                print(seed, name, shown, f"traits {np.mean(list(result['named'].values())):.2f}", flush=True)
    return gathered(runs)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--names", nargs="+", default=[WARM, *SETTINGS], choices=[WARM, *SETTINGS])
    args = parser.parse_args()
    make_runs(args.runs, args.seeds, args.names)


if __name__ == "__main__":
    main()
