"""Kill a training run at random moments, resume it each time, and compare it with one that was never stopped.

python benchmarks/resume.py [--kills 20]
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bump.world import WorldConfig, make_world, save_world

HERE = Path(__file__).parent
FILES = (
    "model.safetensors",
    "metrics.jsonl",
    "samples.jsonl",
)  # weights, every number of every step, users and profiles of every step


def command(log: Path, out: Path, judge: str) -> list[str]:
    "Two epochs of ten batches, each used for two updates: 40 steps, a checkpoint every 2."
    return [
        sys.executable,
        "-m",
        "bump",
        "train",
        "--logs",
        str(log),
        "--users",
        "all",
        "--output_dir",
        str(out),
        "--judge",
        judge,
        "--users_per_step",
        "9",
        "--num_generations",
        "2",
        "--num_iterations",
        "2",
        "--per_device_train_batch_size",
        "9",
        "--num_train_epochs",
        "2",
        "--save_steps",
        "2",
        "--sample_steps",
        "1",
        "--max_prompt_tokens",
        "256",
        "--max_completion_length",
        "16",
        "--length_threshold",
        "12",
    ]


def start(argv: list[str]) -> subprocess.Popen:
    return subprocess.Popen(
        argv,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    )


def step(out: Path) -> int:  # the last one in the metrics
    file = out / "metrics.jsonl"
    return file.read_bytes().count(b"\n") if file.exists() else 0  # a line a step


def unfinished(out: Path) -> bool:
    return any(not (c / "complete").exists() for c in out.glob("checkpoint-*"))


def digest(out: Path) -> dict[str, str]:
    return {name: hashlib.sha256((out / name).read_bytes()).hexdigest()[:16] for name in FILES}


def kill_at_random(
    argv: list[str], out: Path, rng: random.Random
) -> dict | None:  # where it was killed; None if it had ended
    "Kill -9 while it starts, some steps on, or while a checkpoint is being written."
    p, started, how = start(argv), time.monotonic(), rng.choices(("starting", "training", "saving"), (1, 4, 3))[0]
    wanted = step(out) + rng.choice([1, 2, 3])

    def wait_for(condition):
        while p.poll() is None and not condition():
            time.sleep(0.001)

    if how == "starting":
        time.sleep(rng.uniform(0, 8))
    else:
        wait_for(lambda: step(out) >= wanted)
        if how == "training":
            time.sleep(rng.uniform(0, 1))
        else:
            wait_for(lambda: unfinished(out))
            time.sleep(rng.uniform(0, 0.05))
    if p.poll() is not None:
        if p.returncode:
            raise SystemExit(p.stderr.read())
        return None
    p.send_signal(signal.SIGKILL)
    p.wait()
    return dict(
        while_=how, step=step(out), half_a_checkpoint=unfinished(out), seconds=round(time.monotonic() - started, 1)
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--judge", default="likelihood")
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    log = save_world(make_world(WorldConfig(n_users=90)), folder / "world")
    whole = start(command(log, folder / "whole", a.judge))
    _, trouble = whole.communicate()
    if whole.returncode:
        raise SystemExit(trouble)
    rng, kills, argv = random.Random(a.seed), [], command(log, folder / "killed", a.judge)
    while len(kills) < a.kills:
        begun = (folder / "killed/run.json").exists()
        killed = kill_at_random(argv + ["--resume_from_checkpoint", "true"] * begun, folder / "killed", rng)
        if killed is None:
            break
        kills.append(killed)
        print(len(kills), killed, flush=True)
    last = start(argv + ["--resume_from_checkpoint", "true"])
    _, trouble = last.communicate()
    if last.returncode:
        raise SystemExit(trouble)
    one, two = digest(folder / "whole"), digest(folder / "killed")
    result = dict(
        kills=kills,
        n_kills=len(kills),
        steps=step(folder / "whole"),
        in_second_epoch=sum(k["step"] >= 20 for k in kills),
        in_mid_generation_cycle=sum(k["step"] % 2 for k in kills),
        with_half_a_checkpoint=sum(k["half_a_checkpoint"] for k in kills),
        equal={name: one[name] == two[name] for name in FILES},
        sha256=one,
        judge=a.judge,
        seed=a.seed,
    )
    print(json.dumps({k: v for k, v in result.items() if k != "kills"}, indent=1))
    (HERE / "results/resume.json").write_text(json.dumps(result) + "\n")
    if not all(result["equal"].values()):
        raise SystemExit(f"not equal; see {folder}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
