"LaMP from the command line: killed three times, wrong input, and predictions in the promised form."
import json, signal, subprocess, sys, time

import pytest

from conftest import SHARED
from test_cli import one_sentence

FLAGS = ["lamp", "eval", "--task", "3", "--method", "recent:2", "--batch_size", "8", "--max_prompt_tokens", "256"]


@pytest.fixture(scope="module")
def lamp_world(tmp_path_factory):
    from bump.lamp import save_lamp_world
    from bump.world import WorldConfig, make_world
    return save_lamp_world(make_world(WorldConfig(n_users=200)), tmp_path_factory.mktemp("lamp"))


def test_eval_survives_kill_9(bump, lamp_world, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    first = bump(*FLAGS, "--data", lamp_world, "--output_dir", whole)
    answers, kills = killed / "predictions.jsonl", 0
    for wanted in (8, 56, 120):
        p = subprocess.Popen([sys.executable, "-m", "bump", *FLAGS, "--data", str(lamp_world), "--output_dir", str(killed)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while p.poll() is None and (not answers.exists() or answers.read_bytes().count(b"\n") < wanted): time.sleep(0.005)
        if p.poll() is None: p.send_signal(signal.SIGKILL); kills += 1
        p.wait()
    assert kills == 3 and not (killed / "scores.json").exists()
    last = bump(*FLAGS, "--data", lamp_world, "--output_dir", killed)
    assert first.stdout == last.stdout and "mae" in last.stdout
    assert json.loads((whole / "scores.json").read_text()) == json.loads((killed / "scores.json").read_text())
    rows = [json.loads(line) for line in answers.read_text().splitlines()]
    assert len({r["id"] for r in rows}) == len(rows) == 200 and all(set(r) == {"id", "prediction"} for r in rows)


def test_mistakes_are_one_sentence(bump, lamp_world, tmp_path):
    def says(*argv): return one_sentence(bump("lamp", *argv, code=2).stderr)
    assert "unknown" in says("eval", "--task", "6", "--data", lamp_world, "--output_dir", tmp_path / "x")
    assert "no such file" in says("eval", "--task", "7", "--data", tmp_path, "--output_dir", tmp_path / "x")
    assert "is unknown" in says("eval", "--task", "7", "--data", lamp_world, "--method", "magic", "--output_dir", tmp_path / "x")
    assert "Give --output_dir" in says("eval", "--task", "7", "--data", lamp_world)
    assert "there are no scores" in says("table", tmp_path)
    assert not (tmp_path / "x").exists()


@pytest.mark.skipif(not SHARED.exists(), reason="the LaMP data lies outside the repository, in ../shared/data, and is not here")
def test_copying_the_real_tweets(bump, tmp_path):
    bump("lamp", "eval", "--task", "7", "--data", SHARED / "lamp", "--method", "copy", "--output_dir", tmp_path / "copy")
    scores = json.loads((tmp_path / "copy" / "scores.json").read_text())["scores"]
    assert scores["rouge1"]["n"] == 1000 and 0.4 < scores["rouge1"]["mean"] < 0.5 and scores["rougeL"]["mean"] < scores["rouge1"]["mean"]
