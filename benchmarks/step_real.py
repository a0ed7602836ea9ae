"""A real model on real logs, prompts read once and once for every rollout: the same rewards, and where time goes.

python benchmarks/step_real.py --model smollm2 --logs LOGS --output_dir RUNS

Two runs of `bump train` (LoRA, MiniLM as judge, seed 0), one after the other; an interrupted one goes on. Both see the
same users at the same step and the same pools; their rollouts are other samples of a policy that learns alike.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from scipy.stats import ttest_rel

from bump.statistics import bootstrap_mean

HERE = Path(__file__).parent
SETTINGS = dict(
    judge="embed:minilm",
    use_peft=True,
    learning_rate=1e-4,
    users_per_step=4,
    num_negatives=3,
    num_generations=4,
    max_prompt_tokens=200,
    max_completion_length=32,
    save_steps=5,
    seed=0,
)
PARTS = ("seconds", "generation", "judge", "pools")


def lines(path: Path) -> list[dict]:
    "The objects of a JSONL file."
    return [json.loads(line) for line in path.read_text().splitlines()]


def train(model: str, logs: str, out: Path, steps: int, shared: bool) -> None:
    "`bump train`, as a user would; what is finished is not done again."
    if (out / "adapter_model.safetensors").exists():
        return
    flags = dict(SETTINGS, logs=logs, model=model, output_dir=out, max_steps=steps, share_prompts=shared)
    if (out / "run.json").exists():
        flags["resume_from_checkpoint"] = "true"
    command = [sys.executable, "-m", "bump", "train"]
    subprocess.run(command + [word for k, v in flags.items() for word in (f"--{k}", str(v))], check=True)


def seconds_of(out: Path) -> dict[str, float]:
    "Seconds of a step and of its parts; the first step, which warms up, left out."
    rows = lines(out / "timings.jsonl")[1:]
    parts = {p: float(np.mean([row.get(p, 0) for row in rows])) for p in PARTS}
    parts["loss and update"] = parts["seconds"] - sum(parts[p] for p in PARTS[1:])
    return {p: round(v, 2) for p, v in parts.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--logs", required=True)
    parser.add_argument("--output_dir", required=True, type=Path)
    parser.add_argument("--steps", type=int, default=20)
    args = parser.parse_args()
    ways = dict(shared=True, trl=False)
    for name, shared in ways.items():
        train(args.model, args.logs, args.output_dir / name, args.steps, shared)
    rewards = {name: [row["reward"] for row in lines(args.output_dir / name / "metrics.jsonl")] for name in ways}
    apart = np.subtract(rewards["shared"], rewards["trl"])
    result = dict(
        model=Path(args.model).name,
        logs=Path(args.logs).name,
        steps=args.steps,
        settings=SETTINGS,
        seconds={name: seconds_of(args.output_dir / name) for name in ways},
        rewards={name: [round(r, 4) for r in values] for name, values in rewards.items()},
        difference=str(bootstrap_mean(apart)),  # of the steps' mean rewards, shared less TRL, paired by step
        p=round(float(ttest_rel(rewards["shared"], rewards["trl"]).pvalue), 3),
    )
    (HERE / "results/step_real.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))
    print("ratio", f"seconds {result['seconds']['trl']['seconds'] / result['seconds']['shared']['seconds']:.2f}")


if __name__ == "__main__":
    main()
