"""Where a training step's time goes, with and without BUMP+, in one process and one run.

python benchmarks/throughput.py
"""

import json
import tempfile
from pathlib import Path

import numpy as np

from bump.interactions import load_logs
from bump.judges import make_judge
from bump.training.config import BumpConfig
from bump.training.fit import train
from bump.world import WorldConfig, make_world, save_world

HERE = Path(__file__).parent
SETTINGS = dict(
    judge="likelihood",
    users_per_step=10,
    num_generations=8,
    max_prompt_tokens=320,
    max_completion_length=64,
    length_threshold=48,
    learning_rate=5e-4,
    max_steps=7,
    seed=0,
)
METHODS = dict(
    bump=dict(), bump_plus=dict(negatives="hard", positives="hardest_of_window", positive_window=3, encoder="bm25")
)


def shares(run: Path) -> dict[str, float]:  # medians over steps, the first one (warming up) left out
    rows = [json.loads(line) for line in (run / "timings.jsonl").read_text().splitlines()][1:]
    parts = {k: float(np.median([r[k] / r["seconds"] for r in rows])) for k in ("generation", "judge", "pools")}
    return dict(
        steps_per_minute=round(60 / float(np.median([r["seconds"] for r in rows])), 1),
        **{k: round(v, 3) for k, v in parts.items()},
        backward_and_rest=round(1 - sum(parts.values()), 3),
    )


def main():
    folder, judge, result = Path(tempfile.mkdtemp()), make_judge("likelihood"), {}
    log = save_world(make_world(WorldConfig(n_users=1500)), folder)
    for name, method in METHODS.items():
        config = BumpConfig(output_dir=str(folder / name), save_steps=1000, **SETTINGS, **method)
        result[name] = shares(train(load_logs(log, config.n_hidden).part("train"), "embedded", config, judge))
        print(name, result[name], flush=True)
    (HERE / "results/throughput.json").write_text(
        json.dumps(dict(settings=SETTINGS, methods=METHODS, shares=result, cores=2), indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
