"The build of the embedded model survives kill -9, and the wheel carries the model."

import json
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import torch
from conftest import ROOT
from processes import Started
from safetensors.torch import load_file

from bump.embedded import Recipe, train_embedded
from bump.models import EMBEDDED
from bump.prompts import PROMPT_VERSION

TINY = dict(hidden_size=32, num_layers=1, drills=40, steps=40)  # drills only: no lesson is made


def build(work: str) -> None:
    train_embedded(Path(work), Recipe(**TINY), save_steps=5)


def prepare(work):
    "A training at step 0 with the shipped tokenizer."
    from dataclasses import asdict

    work.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        if (EMBEDDED / name).exists():
            shutil.copy(EMBEDDED / name, work)
    (work / "recipe.json").write_text(json.dumps(dict(asdict(Recipe(**TINY)), prompt_version=PROMPT_VERSION)))


def test_build_killed_twice_equals_build_not_killed(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    prepare(whole)
    prepare(killed)
    Started(whole, call=build).finish()
    for wanted in (5, 20):
        p = Started(killed, call=build)
        while p.poll() is None and not (killed / f"checkpoint-{wanted}" / "trainer_state.json").exists():
            time.sleep(0.01)
        assert p.poll() is None, "finished before it could be killed"
        p.send_signal(signal.SIGKILL)
        p.wait()
        (killed / "checkpoint-22").mkdir(exist_ok=True)
        (killed / "checkpoint-22" / "trainer_state.json").touch()  # as a kill in the middle of the writing leaves it
    Started(killed, call=build).finish()
    a, b = (load_file(folder / "checkpoint-40" / "model.safetensors") for folder in (whole, killed))
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_another_recipe_does_not_continue_a_build(tmp_path, bump):
    prepare(tmp_path / "model.work")
    refusal = bump("embedded", "build", "--output_dir", tmp_path / "model", code=2).stderr
    assert "was begun with hidden_size=32, now it is 128" in refusal
    assert "exists already" in bump("embedded", "build", "--output_dir", tmp_path, code=2).stderr
    assert "bump embedded build" in bump("embedded", code=2).stderr


def test_wheel_contains_the_model(tmp_path):
    shutil.copytree(
        ROOT, tmp_path / "src", ignore=shutil.ignore_patterns(".venv*", ".git", "nbs", "runs", "build", "*.egg-info")
    )
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "-q",
            "--no-deps",
            "--no-build-isolation",
            "-w",
            str(tmp_path),
            str(tmp_path / "src"),
        ],
        check=True,
        capture_output=True,
    )
    names = zipfile.ZipFile(next(tmp_path.glob("bump-*.whl"))).namelist()
    for name in ("model.safetensors", "config.json", "tokenizer.json", "README.md"):
        assert f"bump/weights/{name}" in names
