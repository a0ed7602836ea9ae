"""What `bump score` costs apart from its judge, for more and more users: time should grow as their number does.

python benchmarks/score.py [--users 10000 100000]
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from bump.interactions import Interaction, User
from bump.intrinsic import score_arms
from bump.neighbours import likeness
from bump.pools import PoolSettings
from bump.seeds import named_rng

HERE = Path(__file__).parent
WORDS = 20_000


class Silent:
    "A judge that costs nothing: every candidate is as good as the others."

    order_free, name = True, "silent"

    def __call__(self, rankings):
        return [np.zeros(len(r.candidates)) for r in rankings]


def made_users(n: int, shared: float) -> list[User]:
    "Users with eight records of eight words; a share of them hold out one of ten records that many have in common."

    def one(i: int) -> User:
        rng = named_rng(0, 0, str(i), "words")
        own = rng.integers(200) + 200 * rng.integers(WORDS // 200, size=(9, 4))  # words of one in two hundred users
        words = np.concatenate([own, rng.integers(WORDS, size=(9, 4))], axis=1)
        texts = [" ".join(f"word{w}" for w in row) for row in words]
        if rng.random() < shared:
            texts[-1] = f"a record of many: {int(rng.integers(10))}"
        records = [Interaction(t) for t in texts]
        return User(str(i), tuple(records[:-1]), tuple(records[-1:]))

    return [one(i) for i in range(n)]


def seconds(users: list[User], settings: PoolSettings, encoder: str | None) -> float:
    started = time.perf_counter()
    score_arms(users, {u.user_id: "a profile" for u in users}, Silent(), settings, likeness(users, encoder))
    return time.perf_counter() - started


CASES = dict(
    random=(0.0, PoolSettings(), None),
    shared_records=(0.5, PoolSettings(), None),
    hard=(0.0, PoolSettings(negatives="hard"), "bm25"),
)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    args, result = parser.parse_args(), {}
    for name in args.cases:
        shared, settings, encoder = CASES[name]
        for n in args.users:
            result.setdefault(name, {})[n] = round(seconds(made_users(n, shared), settings, encoder), 1)
            print(name, n, result[name][n], flush=True)
    path = HERE / "results/score.json"
    before = json.loads(path.read_text())["seconds"] if path.exists() else {}  # of cases that were not measured now
    facts = dict(cores=2, num_negatives=8, judge="none", seconds=before | result)
    path.write_text(json.dumps(facts, indent=1) + "\n")
    ratios = {name: s[args.users[-1]] / s[args.users[0]] for name, s in result.items()}
    more = args.users[-1] / args.users[0]
    print(f"ratio of seconds for {more:g} times the users:", {k: round(v, 1) for k, v in ratios.items()})


if __name__ == "__main__":
    main()
