"""Does an old profile still find new records? Real logs with times, a small real model, and no training.

    python benchmarks/drift.py --data FOLDER [--ages 6]

FOLDER holds the logs named below. Of each user with enough records the newest `--ages` are held out, SmolLM2 writes a
profile from the others, and each held-out record is scored by itself in pools of 1 + 8: the first one when the profile
is new, the last one when it is five records old. Quoted records of as many words, chosen at the same time, age beside
it. Each log is written to results/drift.json when it is done.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from bump.files import read_facts, write_json
from bump.interactions import User, load_logs
from bump.intrinsic import score_arms
from bump.judges import Judge, make_judge
from bump.ndcg import chance_reward
from bump.neighbours import likeness
from bump.profiles import WriterSettings, WriterTask
from bump.prompts import load_prompt
from bump.statistics import bootstrap_mean

LOGS = {"papers": "papers/logs.jsonl", "stackexchange": "stackexchange/logs.jsonl", "movielens": "movielens"}
TASK = WriterTask("smollm2", WriterSettings(max_prompt_tokens=384, max_new_tokens=40), 16, load_prompt("subjects"))
RESULT = Path(__file__).parent / "results" / "drift.json"
ARMS = ("profiles", "raw_records")
LEAST = 4  # visible records
DAY = 86_400


def days_since(users: list[User], age: int) -> float:
    "Median of the days between the newest visible record and a held-out one."
    return float(np.median([(u.held_out[age].time - u.visible[-1].time) / DAY for u in users]))


def by_age(users: list[User], texts: dict[str, str], judge: Judge, ages: int) -> list[dict]:
    "Arm → user → sum of both NDCGs, for the first held-out record, the second, …"
    of_age = ([replace(u, held_out=u.held_out[k : k + 1]) for u in users] for k in range(ages))
    found = [score_arms(some, texts, judge, known=likeness(some), controls=ARMS[1:]) for some in of_age]
    return [{arm: {u: p.forward + p.backward for u, p in x[arm].items()} for arm in ARMS} for x in found]


def summary(sums: list[dict]) -> dict:
    "Means by age, and the change of the second half of the ages since the first, paired by user and between the arms."
    late, first = sums[len(sums) // 2 :], sums[0]
    changes = {arm: {u: float(np.mean([s[arm][u] for s in late]) - x) for u, x in first[arm].items()} for arm in ARMS}
    means = {arm: [bootstrap_mean(list(s[arm].values())) for s in sums] for arm in ARMS}
    return dict(
        means={arm: [[m.mean, m.low, m.high] for m in x] for arm, x in means.items()},
        chance=chance_reward(1, 8),
        late_less_first={arm: str(bootstrap_mean(list(x.values()))) for arm, x in changes.items()},
        profiles_less_quotes=str(bootstrap_mean([x - changes[ARMS[1]][u] for u, x in changes[ARMS[0]].items()])),
    )


def one_log(path: Path, ages: int, judges: list[str]) -> dict:
    users = [u for u in load_logs(path, hold_out=ages).users if len(u.visible) >= LEAST]
    started = time.perf_counter()
    profiles = list(TASK.write(users))
    seconds = time.perf_counter() - started
    texts = {p.user_id: p.profile for p in profiles}
    read = [float(np.median(x)) for x in zip(*((p.last_record - p.first_record + 1, p.last_record) for p in profiles))]
    by_judge = {name: summary(by_age(users, texts, make_judge(name), ages)) for name in judges}
    days = [round(days_since(users, k), 1) for k in range(ages)]
    facts = dict(users=len(users), read=read, writing_seconds=round(seconds, 1), median_days=days)
    return facts | dict(judges=by_judge)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--ages", type=int, default=6)
    parser.add_argument("--judges", nargs="+", default=["embed:minilm", "bm25"])
    parser.add_argument("--logs", nargs="+", default=list(LOGS), choices=LOGS)
    args = parser.parse_args()
    for name in args.logs:
        found = one_log(args.data / LOGS[name], args.ages, args.judges)
        print(json.dumps({name: found}), flush=True)
        before = read_facts(RESULT)["logs"] if RESULT.exists() else {}
        write_json(RESULT, dict(ages=args.ages, logs=before | {name: found}))
