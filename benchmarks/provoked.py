"""Seven trainings that go as they should, or wrong in a known way, for the page tutorials/reading_a_run.

python benchmarks/provoked.py --runs RUNS [--names NAME ...]

Each is `bump train` with the embedded model on one synthetic world of 300 users, the quick start's settings with 20
steps, and what is changed below. A run that is done is not done again. Writes results/provoked.json: curves, and what
the command printed when an alarm was raised.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import yaml

from bump.files import write_json
from bump.report import read_run, verdict
from bump.world import WorldConfig, make_world, save_world

RESULT = Path(__file__).parent / "results/provoked.json"
QUICK = dict(model="embedded", judge="likelihood", users_per_step=10, num_generations=8, max_prompt_tokens=320)
QUICK |= dict(max_completion_length=64, length_threshold=48, learning_rate=5e-4, max_steps=20, seed=0, sample_steps=20)
CHANGED: dict[str, dict] = {
    "healthy": {},
    "at chance": dict(judge="yesno"),
    "cut off": dict(max_completion_length=8, length_threshold=8),
    "fooling the judge": dict(learning_rate=1e-2),
    "collapse": dict(learning_rate=5e-2),
    "a biased judge": dict(judge="letters", num_shuffles=1),
    "a pool of two": dict(users_per_step=2, num_negatives=1),
}
TRIED = {"padding": dict(judge="embed:minilm", forward_weight=0.0, length_slope=0.0)}  # and it did not go wrong
CURVES = ("reward", "entropy", "completions/mean_length", "bump/copied", "bump/truncated", "bump/groups_without_spread")
CURVES += ("bump/hit1_forward",)


def train(name: str, folder: Path, log: Path) -> None:
    "`bump train`, as a user would; what it prints is kept."
    run, settings = folder / "run", QUICK | (CHANGED | TRIED)[name]
    flags = [word for k, v in settings.items() for word in (f"--{k}", str(v))]
    command = [sys.executable, "-m", "bump", "train", "--logs", str(log), "--output_dir", str(run), *flags]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    (folder / "said.txt").write_text(done.stderr)


def told(name: str, folder: Path) -> dict:
    run = read_run(folder / "run")
    alarms = [line for line in (folder / "said.txt").read_text().splitlines() if line.startswith("bump: step ")]
    curves = {c: [None if r.get(c) is None else round(r[c], 4) for r in run.metrics] for c in CURVES}
    first, last = ([s for s in run.samples if s["step"] == step] for step in (1, run.samples[-1]["step"]))
    return dict(
        name=name,
        changed=(CHANGED | TRIED)[name],
        chance=run.chance,
        curves=curves,
        alarms=alarms,
        profiles=[first[0]["profile"], last[0]["profile"]],
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--names", nargs="+", default=[*CHANGED, *TRIED], choices=[*CHANGED, *TRIED])
    args = parser.parse_args()
    log = args.runs / "world" / "logs.jsonl"
    if not log.exists():
        save_world(make_world(WorldConfig(n_users=300)), log.parent)
    rows = []
    for name in args.names:
        folder = args.runs / name.replace(" ", "-")
        if not (folder / "said.txt").exists():
            folder.mkdir(parents=True, exist_ok=True)
            train(name, folder, log)
        rows.append(told(name, folder))
        print(name, verdict(read_run(folder / "run")), rows[-1]["alarms"], flush=True)
        print(" ", yaml.safe_dump(rows[-1]["profiles"], allow_unicode=True), flush=True)
    if len(rows) == len(CHANGED | TRIED):
        parts = {part: [r for r in rows if r["name"] in names] for part, names in (("runs", CHANGED), ("tried", TRIED))}
        write_json(RESULT, dict(settings=QUICK, **parts))


if __name__ == "__main__":
    main()
