"The store of profiles: many processes, kill -9 in the middle, no room on the disk, and old files."

import json
import resource
import signal
import time
from dataclasses import asdict, replace

import pytest
from processes import Started

from bump.errors import BumpError
from bump.profiles import Profile
from bump.store import ProfileStore, _pieces, forget, iter_profiles, read_store, save_profiles

ONE = Profile("u", "Likes tests.", "m", "0", "1", 1, 3, None, None, 4, False, 1024, 256, "2026-01-01")


def profiles(n, text="Likes number {}."):
    return [replace(ONE, user_id=f"user-{i}", profile=text.format(i)) for i in range(n)]


def put_alone(path, who, n):
    with ProfileStore(path, create=True) as store:
        for p in profiles(int(n), who + " writes {}."):
            store.put([p], keep=100)


def test_processes_that_write_at_once_lose_nothing(tmp_path):
    path = tmp_path / "profiles.db"
    writers = [Started(path, f"writer-{w}", 30, call=put_alone) for w in range(4)]
    for w in writers:
        w.finish()
    with ProfileStore(path) as store:
        for i in range(30):
            kept = store.versions(f"user-{i}")
            assert [p.version for p in kept] == [4, 3, 2, 1]
            assert {p.profile for p in kept} == {f"writer-{w} writes {i}." for w in range(4)}


def put_all(path, n):
    with ProfileStore(path, create=True) as store:
        for start in range(0, int(n), 50):
            store.put(profiles(int(n))[start : start + 50])
            print(start + 50, flush=True)


@pytest.mark.parametrize("after", [0.0, 0.01, 0.03, 0.1])
def test_a_killed_writer_leaves_whole_batches(tmp_path, after):
    path, n = tmp_path / "profiles.db", 20_000
    p = Started(path, n, call=put_all)
    while p.poll() is None and "\n" not in p.said[0].read_text():  # a number and its end may be two writes
        time.sleep(0.002)
    time.sleep(after)
    p.send_signal(signal.SIGKILL)
    assert p.wait() == -signal.SIGKILL
    told = int(p.said[0].read_text().split("\n")[:-1][-1])
    with ProfileStore(path) as store:
        assert told <= len(store) < n and len(store) % 50 == 0
        assert store.db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        assert store.get("user-0").profile == "Likes number 0."


def fill_up(path):
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with ProfileStore(path) as store:
        store.put(profiles(20_000))


def test_no_room_on_the_disk_leaves_what_was_there(tmp_path):
    path = tmp_path / "profiles.db"
    with ProfileStore(path, create=True) as store:
        store.put(profiles(100))
    p = Started(path, call=fill_up)
    assert p.wait() == 1
    assert "nothing could be written" in p.said[1].read_text()
    with ProfileStore(path) as store:
        assert len(store) == 100 and store.put([replace(ONE, user_id="another")]) == 1


def test_a_store_from_before_there_were_versions(tmp_path):
    old = tmp_path / "old.jsonl"
    rows = [{k: v for k, v in asdict(p).items() if k not in ("digest", "version")} for p in profiles(3)]
    old.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert save_profiles(iter_profiles(old), tmp_path / "new.db") == 3
    assert [p.profile for p in iter_profiles(tmp_path / "new.db")] == [f"Likes number {i}." for i in range(3)]


def test_what_is_forgotten_is_in_no_byte(tmp_path):
    path, copies = tmp_path / "profiles.db", [tmp_path / "copy.jsonl", tmp_path / "copy.parquet"]
    secret = "user {} is afraid of the sound of " + "bagpipes, " * 200
    with ProfileStore(path, create=True) as store:
        for version in range(3):
            store.put([replace(p, profile=p.profile + str(version)) for p in profiles(400, secret)], keep=2)
        for copy in copies:
            save_profiles(store, copy)
        assert b"user 399 is afraid" in path.read_bytes() + (tmp_path / "profiles.db-wal").read_bytes()
    done = forget(path, ["user-399", "user-7"], copies)
    assert (done.traces, done.profiles) == (0, 8) and done.pieces > 0
    files = [path, *copies, *tmp_path.glob("profiles.db-*")]
    assert not any(b"user 399 is afraid" in f.read_bytes() or b"user-399" in f.read_bytes() for f in files)
    assert done.searched >= sum(f.stat().st_size for f in [path, *copies])
    assert len(read_store(path)) == 398 == len(read_store(copies[0])) == len(read_store(copies[1]))


def test_nothing_is_deleted_where_a_copy_is_mistyped(tmp_path):
    path = tmp_path / "profiles.db"
    save_profiles(profiles(3), path)
    for copy in (tmp_path / "none.jsonl", path):
        with pytest.raises(BumpError, match="nothing was deleted"):
            forget(path, ["user-1"], [copy])
    assert len(read_store(path)) == 3


def test_the_end_of_a_text_is_looked_for_as_well():
    text = "a text of some length, " * 5 + "and its end"
    assert all(any(b in piece for piece in _pieces("u", [text])) for b in (b"and its end", b"a text of some"))


def test_half_a_parquet_file_is_refused(tmp_path):
    whole = tmp_path / "whole.parquet"
    save_profiles(profiles(1000), whole)
    half = tmp_path / "half.parquet"
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(BumpError, match="not a Parquet file of profiles"):
        read_store(half)


def test_the_command_line_says_what_is_wrong(here, tmp_path):
    store = tmp_path / "profiles.db"
    assert "no such file" in here("forget", "ada", "--store", store, code=2).stderr
    save_profiles(profiles(3), store)
    assert "0 profiles deleted" in here("forget", "nobody", "--store", store).stdout
    assert "is there already" in here("convert", "--profiles", store, "--output", store, code=2).stderr
    assert "ends in .db" in here("convert", "--profiles", store, "--output", tmp_path / "x.csv", code=2).stderr
    assert "keep is at least 1" in here("profile", "--logs", "x.jsonl", "--keep", 0, code=2).stderr
