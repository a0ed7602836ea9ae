"""NDCG of many rankings at once: `bump.ndcg` beside scikit-learn, ranx and torchmetrics.

    pip install '.[bench]'
    python benchmarks/ndcg.py

Scores 4096 rankings of 9 and of 64 candidates with one positive each (seed 0, no ties, since the libraries
break ties differently),
compares the values one by one, and takes the best of five runs of each in this process. ranx compiles at its
first call, which is not timed.
Converting arrays to what a library wants (dictionaries, tensors) is not timed either. torchmetrics adds up in
float32 whatever it is given, so
it can agree to about 1e-6 only.
"""

import json
import time
from pathlib import Path

import numpy as np

from bump.ndcg import ndcg


def competitors(scores: np.ndarray, positives: np.ndarray) -> dict:
    "Library → a call that returns the NDCG of each ranking."
    import ranx
    import torch
    from sklearn.metrics import ndcg_score
    from torchmetrics.functional.retrieval import retrieval_normalized_dcg

    names = [str(j) for j in range(scores.shape[1])]
    qrels = ranx.Qrels({str(i): {names[j]: 1 for j in np.flatnonzero(p)} for i, p in enumerate(positives)})
    run = ranx.Run({str(i): dict(zip(names, map(float, s))) for i, s in enumerate(scores)})
    tensors = [(torch.tensor(s), torch.tensor(p)) for s, p in zip(scores, positives)]
    place = np.argsort([int(k) for k in run])
    return {
        "bump": lambda: ndcg(scores, positives),
        "scikit-learn, a call a ranking": lambda: np.array(
            [ndcg_score(p[None], s[None]) for s, p in zip(scores, positives)]
        ),
        "scikit-learn, one call": lambda: np.array(ndcg_score(positives, scores)),  # gives the mean only
        "ranx": lambda: ranx.evaluate(qrels, run, "ndcg", return_mean=False)[place],
        "torchmetrics": lambda: np.array([retrieval_normalized_dcg(s, p).item() for s, p in tensors]),
    }


def measure(n: int, rows: int = 4096) -> dict:
    rng = np.random.default_rng(0)
    scores, positives = rng.normal(size=(rows, n)), np.arange(n) == rng.integers(n, size=(rows, 1))
    results, expected = {}, None
    for name, call in competitors(scores, positives).items():
        values, times = call(), []
        for _ in range(5):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        expected = values if expected is None else expected
        results[name] = dict(
            seconds=round(min(times), 5),
            largest_difference=float(np.abs(values - (expected if values.ndim else expected.mean())).max()),
        )
    for r in results.values():
        r["times_as_long_as_bump"] = round(r["seconds"] / results["bump"]["seconds"], 1)
    return results


if __name__ == "__main__":
    result = dict(rankings=4096, seed=0, candidates={str(n): measure(n) for n in (9, 64)})
    out = Path(__file__).parent / "results" / "ndcg.json"
    out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
