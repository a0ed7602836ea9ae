"The command line in real processes: the whole way, bad input, and kill -9 in the middle."

import json, signal, subprocess, sys, time

import pytest

from conftest import SHARED

GOOD = '{"user_id": "a", "text": "x", "time": 1}\n{"user_id": "a", "text": "y", "time": 2}\n'
BAD = {
    "unparsable": (GOOD + "{oops\n", ":3: the line is not a JSON object"),
    "missing text": (GOOD + '{"user_id": "a", "time": 3}\n', ":3: the text is missing"),
    "empty text": (GOOD + '{"user_id": "a", "text": " ", "time": 3}\n', ":3: the text is empty"),
    "missing user": (GOOD + '{"text": "z", "time": 3}\n', ":3: the user id is missing"),
    "mixed times": (GOOD + '{"user_id": "a", "text": "z"}\n', ":3: the time is nothing"),
    "unparsable time": (GOOD + '{"user_id": "a", "text": "z", "time": "soon"}\n', ":3: can't read the time"),
    "not UTF-8": (GOOD.encode() + b'{"text": "\xff"}\n', ":3: the line is not UTF-8"),
    "empty file": ("", "the file is empty"),
    "nobody left": ('{"user_id": "a", "text": "x"}\n', "no user is left"),
}


def one_sentence(stderr: str) -> str:
    lines = stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("bump: ") and lines[0].endswith("."), stderr
    return lines[0]


@pytest.mark.parametrize("name", BAD)
def test_inspect_names_the_place_of_bad_input(bump, tmp_path, name):
    content, expected = BAD[name]
    log = tmp_path / "log.jsonl"
    log.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert expected in one_sentence(bump("inspect", "--logs", log, code=2).stderr)


def test_inspect_unknown_format_and_skip(bump, tmp_path):
    (tmp_path / "log.xlsx").write_text("x")
    assert "format is unknown" in one_sentence(bump("inspect", "--logs", tmp_path / "log.xlsx", code=2).stderr)
    (tmp_path / "log.jsonl").write_text(GOOD + "{oops\n")
    assert (
        "1 skipped: the line is not a JSON object"
        in bump("inspect", "--logs", tmp_path / "log.jsonl", "--on_error", "skip").stdout
    )


def test_debug_shows_the_traceback(bump):
    assert "Traceback" in bump("inspect", "--logs", "nowhere.csv", "--debug", code=1).stderr


def test_train_profile_score(bump, world_log, tmp_path):
    run, store, config = tmp_path / "run", tmp_path / "profiles.jsonl", tmp_path / "run.yaml"
    config.write_text(
        "users_per_step: 9\nnum_generations: 2\nmax_prompt_tokens: 300\nmax_completion_length: 32\nlength_threshold: 24\nlearning_rate: 1e-4\n"
    )
    bump("train", "--logs", world_log, "--config", config, "--max_steps", 2, "--output_dir", run)
    steps = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [s["step"] for s in steps] == [1, 2] and all(0 < s["reward"] < 2 for s in steps)
    assert json.loads((run / "bump_config.json").read_text())["learning_rate"] == 1e-4
    assert "already holds a run" in one_sentence(
        bump("train", "--logs", world_log, "--config", config, "--output_dir", run, code=2).stderr
    )
    bump("profile", "--logs", world_log, "--model", run, "--hold_out", 1, "--max_new_tokens", 32, "--output", store)
    result = json.loads(bump("score", "--logs", world_log, "--profiles", store, "--judge", "bm25", "--json").stdout)
    assert result["n_users"] == 60 and result["arms"]["profiles"]["sum"]["n"] == 60
    assert abs(result["arms"]["empty"]["sum"]["mean"] - result["chance"]["sum"]) < 1e-9


def test_profiles_that_read_the_held_out_record_are_refused(bump, world_log, tmp_path):
    store = tmp_path / "all.jsonl"
    bump("profile", "--logs", world_log, "--max_new_tokens", 8, "--output", store)
    assert "has read record" in one_sentence(bump("score", "--logs", world_log, "--profiles", store, code=2).stderr)


def test_profile_survives_kill_9(bump, world_log, tmp_path):
    whole, store = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    flags = ["profile", "--logs", world_log, "--hold_out", 1, "--max_new_tokens", 48, "--batch_size", 4]
    bump(*flags, "--output", whole)
    kills = 0
    for wanted in (4, 20, 40):  # kill once so many lines are there
        p = subprocess.Popen(
            [sys.executable, "-m", "bump", *map(str, flags), "--output", str(store)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while p.poll() is None and (not store.exists() or store.read_bytes().count(b"\n") < wanted):
            time.sleep(0.01)
        if p.poll() is None:
            p.send_signal(signal.SIGKILL)
            kills += 1
        p.wait()
    assert kills == 3
    bump(*flags, "--output", store)

    def texts(path):
        return {r["user_id"]: r["profile"] for r in map(json.loads, path.read_text().splitlines())}

    assert store.read_text().count("\n") == 60 and texts(store) == texts(whole)


@pytest.mark.parametrize("name", ["movielens", "lamp/LaMP_7"])
def test_real_logs_are_read(bump, name):
    if not (SHARED / name).exists():
        pytest.skip(f"{name} lies outside the repository (its licence does not allow it in) and is not on this machine")
    out = bump("inspect", "--logs", SHARED / name).stdout
    assert ("490 users" if name == "movielens" else "998 users") in out and ("file order" in out) == (
        name != "movielens"
    )


def test_every_language_model_judge_scores_a_store(bump, world_log, tmp_path):
    store = tmp_path / "p.jsonl"
    bump("profile", "--logs", world_log, "--hold_out", 1, "--max_new_tokens", 24, "--output", store)
    for judge in ("likelihood", "yesno", "letters", "permutation"):
        score = json.loads(bump("score", "--logs", world_log, "--profiles", store, "--judge", judge, "--json").stdout)
        assert score["judge"] == f"{judge}:embedded" and score["n_users"] == 60 and score["judge_failed"] == 0
    for wrong, words in (
        (["--judge", "gpt"], "a judge is bm25"),
        (["--judge", "letters:http://127.0.0.1:9/v1", "--judge_timeout", "2"], "answered none"),
    ):
        assert words in one_sentence(bump("score", "--logs", world_log, "--profiles", store, *wrong, code=2).stderr)
    assert "independent or blocks" in one_sentence(
        bump("train", "--logs", world_log, "--output_dir", tmp_path / "run", "--pools", "x", code=2).stderr
    )
