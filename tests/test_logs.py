"""Logs that were read wrongly, or ended in a traceback."""

import json
from dataclasses import replace

import pytest
from test_store import ONE

from bump.errors import BumpError
from bump.interactions import load_logs, parse_time
from bump.store import save_profiles


@pytest.mark.parametrize("value", [20240131, "20240131", 20240131.0, "20240131.0"])
def test_eight_digits_are_a_day(value):
    assert parse_time(value, "f:1") == ("date", 1706659200.0)


@pytest.mark.parametrize("value", ["20240231", 20240231, "20241301", -9e19, 1e30])
def test_no_time_of_a_calendar_is_refused(value):
    with pytest.raises(BumpError, match="^f:1: can't read the time "):
        parse_time(value, "f:1")


def test_a_time_before_the_year_1_is_taken_in_a_smaller_unit():
    assert parse_time(-9e10, "f:1") == ("milliseconds", -9e7)


def test_small_numbers_are_no_years(tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("user_id,text,time\n" + "".join(f"a,x{i},{i}\n" for i in range(998, 1003)))
    assert load_logs(log).n_records == 5


@pytest.mark.parametrize(
    "text, said",
    [
        ('user_id,text\na,one\n\na,"two\na,three\n', "log.csv:4: the line is not CSV"),
        ('user_id,"te"xt\na,one\n', "log.csv:1: the header is not CSV"),
    ],
)
def test_a_csv_error_names_the_line_in_which_the_row_begins(tmp_path, text, said):
    (tmp_path / "log.csv").write_text(text)
    with pytest.raises(BumpError, match=said):
        load_logs(tmp_path / "log.csv")


def test_the_reason_of_a_bad_time_can_be_counted(tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("user_id,text,time\n" + "".join(f"a,x{i},{i}\n" for i in range(5)) + "a,y,noon\na,z,dusk\n")
    assert load_logs(log, on_error="skip").skipped == {"can't read the time": 2}
    with pytest.raises(BumpError, match="log.csv:7: can't read the time 'noon'; use Unix time or ISO 8601"):
        load_logs(log)


def test_a_time_of_400_digits_is_none(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"user_id": "a", "text": "b", "time": ' + "9" * 400 + "}\n")
    with pytest.raises(BumpError, match=r"log.jsonl:1: can't read the time 9999"):
        load_logs(tmp_path / "log.jsonl")


def test_lines_that_a_quote_swallowed_are_counted(tmp_path):
    rows = [f"a,text {i}\n" for i in range(10)]
    (tmp_path / "log.csv").write_text("user_id,text\n" + "".join(rows[:3]) + 'a,"open\n' + "".join(rows[3:]))
    logs = load_logs(tmp_path / "log.csv", on_error="skip")
    assert logs.n_records == 3 and sum(logs.skipped.values()) == 8


def test_no_half_of_a_record_is_kept(tmp_path):
    text = b'user_id,text\na,one\na,"begins\n\xff\xfe\nends"\na,"two\n\nlines"\na,three\n'
    (tmp_path / "log.csv").write_bytes(text)
    logs = load_logs(tmp_path / "log.csv", on_error="skip")
    texts = [i.text for i in logs.users[0].visible + logs.users[0].held_out]
    assert texts == ["one", "two\n\nlines", "three"] and logs.skipped == {"the line is not UTF-8": 1}


def test_a_film_without_a_mark_is_no_record(tmp_path):
    (tmp_path / "movies.csv").write_text("movieId,title,genres\n1,Alien (1979),Horror\n")
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,1,5,10\n1,1,4,11\n1,1,,12\n")
    logs = load_logs(tmp_path, on_error="skip")
    assert logs.n_records == 2 and logs.skipped == {"the rating is missing": 1}


def test_damaged_files_are_one_sentence(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    bad = pa.array([b"\xff\xfe", b"fine"]).view(pa.string())
    pq.write_table(pa.table(dict(user_id=["a", "a"], text=bad)), tmp_path / "text.parquet")
    whole = (tmp_path / "text.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[:40] + bytes(60) + whole[100:])
    (tmp_path / "list.json").write_text('[{"id": [1], "profile": []}]')
    for name in ("text.parquet", "cut.parquet", "list.json"):
        with pytest.raises(BumpError, match=name):
            load_logs(tmp_path / name)


@pytest.mark.parametrize(
    "text, clean",
    [
        ("see https://a.example/x?mail=ann@b.example&token=SECRET now", "see [url] now"),
        ("https://ann:pw@b.example/x", "[url]"),
        ("write to ann@www.example.org", "write to [email]"),
        ("or www.example.org/~ann", "or [url]"),
        ("see ...www.example.org/~ann", "see [url]"),
        ("It is done.www.example.org/~ann", "It is [url]"),
        ("dev-www.example.org/~ann?token=SECRET", "[url]"),
        ("ann@x.www.example.org", "[email]"),
    ],
)
def test_no_tail_of_an_address_is_left(text, clean):
    from bump.privacy import scrub

    assert scrub(text) == clean


def test_users_who_were_left_out_are_named_no_more(here, tmp_path):
    rows = [dict(user_id="person-1", text=t) for t in ("with person-2", "alone")] + [dict(user_id="person-2", text="x")]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    said = here("inspect", "--logs", tmp_path / "log.jsonl", "--scrub").stdout
    assert "with [id]" in said and "person-2" not in said


def test_a_sampled_audit_finds_the_texts_of_everybody(here, tmp_path):
    own = "I never go out without my grandmother's old brass compass"
    rows = [dict(user_id=f"u{i}", text=own if i == 7 else f"record {i} of {n}") for i in range(40) for n in "ab"]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    profiles = [replace(ONE, user_id=f"u{i}", profile=f"{own}." if i == 7 else own) for i in range(40)]
    save_profiles(profiles, tmp_path / "p.db")
    flags = ["audit", "--logs", tmp_path / "log.jsonl", "--profiles", tmp_path / "p.db", "--sample", 3]
    assert "3 profiles, 3 with findings" in here(*flags, code=1).stdout


def test_a_sample_of_nobody_is_refused(here, tmp_path):
    assert "sample is at least 1" in here("audit", "--logs", "x", "--profiles", "y", "--sample", -3, code=2).stderr


def test_a_time_that_no_calendar_has_in_a_parquet_file_is_one_sentence(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    times = pa.array([1700000000000], pa.timestamp("s"))
    pq.write_table(pa.table(dict(user_id=["a"], text=["b"], time=times)), tmp_path / "t.parquet")
    with pytest.raises(BumpError, match="t.parquet"):
        load_logs(tmp_path / "t.parquet")
