"""Logs that were read wrongly, or ended in a traceback."""

import pytest

from bump.errors import BumpError
from bump.interactions import load_logs, parse_time


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
