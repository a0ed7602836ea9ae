"Prepared logs, from the command line: the same users, killed in the middle, a full disk, and a log that changed."

import json
import random
import resource
import signal
import time

import pytest
from processes import Started
from test_cli import BAD, GOOD, one_sentence

from bump.errors import BumpError
from bump.interactions import load_logs
from bump.prepared import USERS_FILE, WORK, is_prepared, open_prepared


def write_log(path, n=60_000, users=3000):
    rng = random.Random(0)
    rows = (
        dict(user_id=f"u{rng.randrange(users)}", text=f"text {rng.randrange(9)} of {i % 1000}", time=rng.randrange(99))
        for i in range(n)
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_killed_at_any_moment_it_ends_as_if_nothing_had_happened(tmp_path):
    log, out = write_log(tmp_path / "log.jsonl"), tmp_path / "prepared"
    kills = 0
    for step in ("records.tmp", "records.json", "once.parquet", "users.tmp"):
        p = Started("prepare", "--logs", log, "--output", out, "--memory", "100MB")
        while p.poll() is None and not (out / WORK / step).exists():
            time.sleep(0.002)
        p.send_signal(signal.SIGKILL)
        kills += p.wait() == -signal.SIGKILL
        assert not is_prepared(out)
    assert kills == 4
    told, _ = Started("prepare", "--logs", log, "--output", out, "--memory", "100MB").finish()
    assert "3,000 users" in told and "exact duplicates" in told
    assert list(open_prepared(out).users) == sorted(load_logs(log).users, key=lambda u: u.user_id)
    assert {f.name for f in out.iterdir()} == {".lock", "log.json", USERS_FILE}
    inspected, _ = Started("inspect", "--logs", out, "--sample", 7).finish()
    assert inspected.startswith("7 users")


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named_as_everywhere(tmp_path, name):
    content, expected = BAD[name]
    log, out = tmp_path / "log.jsonl", tmp_path / "prepared"
    log.write_bytes(content if isinstance(content, bytes) else content.encode())
    if name == "nobody left":  # is seen when something is to be held out
        Started("prepare", "--logs", log, "--output", out).finish()
        _, err = Started("inspect", "--logs", out).finish(2)
    else:
        _, err = Started("prepare", "--logs", log, "--output", out).finish(2)
        assert not is_prepared(out)
        log.write_text(GOOD)  # mended, and the same command again
        Started("prepare", "--logs", log, "--output", out).finish()
    assert expected in one_sentence(err)


def cut_off(*argv):
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    from bump.cli.main import main

    raise SystemExit(main(["prepare", *argv]))


def test_no_room_on_the_disk(tmp_path):
    log, out = write_log(tmp_path / "log.jsonl"), tmp_path / "prepared"
    _, err = Started("--logs", log, "--output", out, call=cut_off).finish(2)
    assert "can't be prepared (" in one_sentence(err)
    assert not is_prepared(out)
    Started("prepare", "--logs", log, "--output", out).finish()
    assert len(open_prepared(out).users) == len(load_logs(log).users)


def test_what_can_be_wrong_is_said_in_a_sentence(tmp_path):
    log, out = write_log(tmp_path / "log.jsonl", 500, 20), tmp_path / "prepared"
    prepare = ("prepare", "--logs", log, "--output", out)
    for argv, expected in {
        ("prepare", "--logs", log): "Give a folder with --output",
        (*prepare, "--memory", "lots"): "memory is a size",
        ("profile", "--logs", log, "--ray"): "--ray reads a prepared log",
        ("inspect", "--logs", log, "--sample", "0"): "sample is at least 1",
        ("inspect", "--logs", tmp_path / "*.csv"): "no file fits the pattern",
    }.items():
        assert expected in one_sentence(Started(*argv).finish(2)[1])
    Started(*prepare).finish()
    assert "prepare it anew with --scrub" in one_sentence(Started("inspect", "--logs", out, "--scrub").finish(2)[1])
    log.write_text(log.read_text() + log.read_text())
    assert "was begun with files=" in one_sentence(Started(*prepare).finish(2)[1])


def test_what_was_left_beside_is_gone_on_with(tmp_path):
    log, out = write_log(tmp_path / "log.jsonl", 500, 20), tmp_path / "prepared"
    out.mkdir()
    (out / "log.json.tmp").write_text("{")
    Started("prepare", "--logs", log, "--output", out).finish()
    assert len(open_prepared(out).users) == 20


def test_the_name_of_a_folder_is_no_column(tmp_path):
    log = write_log(tmp_path / "log.jsonl", 500, 20)
    out = tmp_path / "user_id=somebody" / "text=something"
    Started("prepare", "--logs", log, "--output", out).finish()
    assert list(open_prepared(out).users) == sorted(load_logs(log).users, key=lambda u: u.user_id)


def test_a_damaged_file_of_users_is_one_sentence(tmp_path):
    log, out = write_log(tmp_path / "log.jsonl", 500, 20), tmp_path / "prepared"
    Started("prepare", "--logs", log, "--output", out).finish()
    whole = (out / USERS_FILE).read_bytes()
    for length in (300, 312, len(whole) // 2, len(whole) - 8):
        (out / USERS_FILE).write_bytes(whole[:length])
        try:
            assert len(open_prepared(out).users) == 20  # nothing but the end of the file is gone
        except BumpError as e:
            assert "delete the folder and prepare the log again" in str(e)
    (out / USERS_FILE).write_bytes(whole[:300])
    assert "prepare the log again" in one_sentence(Started("inspect", "--logs", out).finish(2)[1])


def sort_for_seconds(*argv):
    from bump import prepared
    from bump.cli.main import main

    many = "(SELECT user_id, text, time, hash(range) AS place FROM read_parquet($source), range(2000000))"
    once = f"SELECT user_id, text, time, min(place) AS place FROM {many} GROUP BY ALL"
    prepared.ONCE = f"COPY ({once}) TO $target (FORMAT parquet)"
    raise SystemExit(main(["prepare", *argv]))


def test_an_interrupted_sorting_says_so(tmp_path):
    "Ctrl-C while DuckDB is at work, for which it is given two million times as many records."
    log, out = write_log(tmp_path / "log.jsonl", 500, 20), tmp_path / "prepared"
    p = Started("--logs", log, "--output", out, call=sort_for_seconds)
    while p.poll() is None and not (out / WORK / "records.json").exists():
        time.sleep(0.002)
    time.sleep(0.1)
    p.send_signal(signal.SIGINT)
    assert "`bump prepare`" in one_sentence(p.finish(130)[1])
    assert not is_prepared(out)
