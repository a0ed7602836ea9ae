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
    assert done.searched >= path.stat().st_size and done.copies == 2
    assert len(read_store(path)) == 398 == len(read_store(copies[0])) == len(read_store(copies[1]))


def test_nothing_is_deleted_where_a_copy_is_mistyped(tmp_path):
    path = tmp_path / "profiles.db"
    save_profiles(profiles(3), path)
    for copy in (tmp_path / "none.jsonl", path):
        with pytest.raises(BumpError, match="nothing was deleted"):
            forget(path, ["user-1"], [copy])
    assert len(read_store(path)) == 3


def test_nothing_is_deleted_where_a_copy_can_not_be_read(tmp_path):
    path, copy = tmp_path / "profiles.db", tmp_path / "copy.jsonl"
    save_profiles(profiles(3), path)
    save_profiles(profiles(3), copy)
    copy.write_text(copy.read_text() + '{"user_id": 7}\n')
    with pytest.raises(BumpError, match=r"copy.jsonl:4: .*Nothing was deleted"):
        forget(path, ["user-1"], [copy])
    assert len(read_store(path)) == 3


def test_what_is_forgotten_through_links_is_forgotten(tmp_path):
    (tmp_path / "there").mkdir()
    path, copy = tmp_path / "there/profiles.db", tmp_path / "there/copy.jsonl"
    save_profiles(profiles(50, "user {} is afraid of bagpipes"), copy)
    links = [tmp_path / "profiles.db", tmp_path / "copy.jsonl"]
    for link, behind in zip(links, (path, copy)):
        link.symlink_to(behind)
    with ProfileStore(path, create=True) as store:
        store.put(profiles(50, "user {} is afraid of bagpipes"))
        done = forget(links[0], ["user-7"], links[1:])
        log = tmp_path / "there/profiles.db-wal"
        assert done.searched >= path.stat().st_size + log.stat().st_size
    assert (done.profiles, done.traces) == (2, 0) and links[1].is_symlink() and len(read_store(copy)) == 49
    assert not any(b"user 7 is afraid" in f.read_bytes() for f in (tmp_path / "there").iterdir())


def test_a_number_as_an_id_is_no_trace_in_a_digest(tmp_path):
    path = tmp_path / "profiles.db"
    with ProfileStore(path, create=True) as store:
        store.put([replace(ONE, user_id="123456"), replace(ONE, user_id="other", digest="ab123456cd")])
    assert forget(path, ["123456"]).traces == 0


@pytest.mark.parametrize("user_id", ["writer", "version", "SQLite", "autoindex"])
def test_a_word_of_the_schema_as_an_id_is_no_trace(tmp_path, user_id):
    path = tmp_path / "profiles.db"
    with ProfileStore(path, create=True) as store:
        store.put([replace(ONE, user_id=user_id), ONE])
    assert forget(path, [user_id]).traces == 0


def test_what_a_killed_process_left_beside_is_removed(tmp_path):
    left = tmp_path / ".copy.jsonl.aside.jsonl"
    left.write_text("user-1 is afraid of bagpipes")
    save_profiles(profiles(3), tmp_path / "copy.jsonl")
    assert not left.exists()


def test_a_store_is_not_read_with_the_log_of_one_that_was_there(tmp_path):
    path = tmp_path / "profiles.db"
    with ProfileStore(path, create=True) as store:
        store.put(profiles(50, "Old {}."))
        log = (tmp_path / "profiles.db-wal").read_bytes()
    path.unlink()
    (tmp_path / "profiles.db-wal").write_bytes(log)
    save_profiles(profiles(3, "New {}."), path)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["profiles.db", "profiles.db.lock"]
    assert [p.profile for p in iter_profiles(path)] == ["New 0.", "New 1.", "New 2."]


def test_a_source_named_like_a_half_written_copy_is_kept(tmp_path):
    source = tmp_path / "a.tmp.jsonl"
    save_profiles(profiles(3), source)
    assert save_profiles(iter_profiles(source), tmp_path / "a.jsonl") == 3 and len(read_store(source)) == 3


@pytest.mark.parametrize("ids, says", [((1, 2), "bad.parquet:1: user_id and profile must be texts"),
                                       (("u", "u"), "bad.parquet:2: user 'u' is there twice")])  # fmt: skip
def test_a_parquet_file_of_others_is_looked_at(tmp_path, ids, says):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist([asdict(ONE) | dict(user_id=i) for i in ids]), tmp_path / "bad.parquet")
    with pytest.raises(BumpError, match=says):
        read_store(tmp_path / "bad.parquet")


def test_a_parquet_file_in_another_encoding_is_one_sentence(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist([asdict(ONE)])
    bad = pa.array([b"\xff\xfe"]).view(pa.string())
    pq.write_table(table.set_column(table.column_names.index("profile"), "profile", bad), tmp_path / "bad.parquet")
    with pytest.raises(BumpError, match="not a Parquet file of profiles"):
        read_store(tmp_path / "bad.parquet")


@pytest.mark.parametrize("name", ["logs.jsonl", "words.txt", "other.json", "half.jsonl"])
def test_a_file_of_something_else_is_not_written_to(tmp_path, name):
    from bump.engines.make import make_engine
    from bump.interactions import Interaction, User
    from bump.refresh import write_store

    texts = {
        "logs.jsonl": '{"user_id": "a", "text": "b"}\n{"user_id": "a", "text": "c"}',
        "other.json": '{"a": [1,\n2]}',
    }
    texts |= {"words.txt": "some words\nand the last", "half.jsonl": json.dumps(asdict(ONE)) + "\n- and a note"}
    (tmp_path / name).write_text(texts[name])
    with pytest.raises(BumpError):
        write_store([User("b", (Interaction("likes rye"),))], make_engine("embedded"), tmp_path / name)
    assert (tmp_path / name).read_text() == texts[name]


def test_profiles_are_not_written_to_a_parquet_file(tmp_path):
    from bump.engines.make import make_engine
    from bump.interactions import Interaction, User
    from bump.refresh import write_store

    path, someone = tmp_path / "profiles.parquet", [User("b", (Interaction("likes rye"),))]
    for before in (None, profiles(3)):
        if before:
            save_profiles(before, path)
        kept = path.read_bytes() if before else b""
        with pytest.raises(BumpError, match="bump convert"):
            write_store(someone, make_engine("embedded"), path)
        assert path.exists() == bool(before) and kept == (path.read_bytes() if before else b"")


@pytest.mark.parametrize("cut", [1, 40])  # of the end alone, or more
def test_a_line_that_was_cut_off_is_written_again(tmp_path, cut):
    from bump.engines.make import make_engine
    from bump.interactions import Interaction, User
    from bump.refresh import write_store

    path, users = tmp_path / "p.jsonl", [User(u, (Interaction(f"{u} likes rye"),)) for u in "abc"]
    how = dict(writer=make_engine("embedded"), path=path, max_new_tokens=8)
    write_store(users, **how)
    path.write_bytes(path.read_bytes()[:-cut])
    assert write_store(users, **how) == (cut > 1) and len(read_store(path)) == 3


def test_a_model_behind_a_server_has_a_name(tmp_path):
    from bump.engines.make import engine_revision

    one, other = (engine_revision(f"http://127.0.0.1:9/v1#{name}") for name in ("qwen", "gemma"))
    assert one != other and one == engine_revision("http://other:1/v1#qwen")


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
