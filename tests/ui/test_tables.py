"""Tables as lines for the screen, as Markdown, as CSV."""

import csv
import io
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tinylab.ui.tables import (
    WIDTH,
    Column,
    Section,
    aligned,
    as_csv,
    as_markdown,
    columns_of,
    fitted,
)

LONG = "a word " * 30


def test_words_are_aligned_left_and_numbers_right() -> None:
    columns = [Column(("", "name"), ["a", "bcd"], is_words=True), Column(("", "n"), ["5", "10"])]
    assert aligned(columns) == ["name   n", "a      5", "bcd   10"]


def test_a_head_without_words_takes_no_line() -> None:
    assert aligned(columns_of(["", ""], [["a", "b"], ["cc", "d"]])) == ["a   b", "cc  d"]


def test_the_last_words_are_wrapped_to_the_screen_or_each_row_is_one_line() -> None:
    columns = columns_of(["key", "words"], [["x", LONG], ["y", "few"]])
    wrapped = aligned(columns)
    assert len(wrapped) > 3
    assert max(map(len, wrapped)) <= WIDTH
    assert aligned(columns, width=None) == ["key  words", f"x    {LONG}".rstrip(), "y    few"]


def test_a_cell_cannot_break_a_markdown_table() -> None:
    lines = as_markdown([Section(table=columns_of(["a", "b"], [["x|y", "two\nlines"]]))])
    assert lines == ["| a | b |", "| --- | --- |", r"| x\|y | two lines |"]


def test_a_table_without_rows_is_its_head() -> None:
    assert aligned(columns_of(["a", "b"], [])) == ["a  b"]


NAMES = st.sampled_from(["run", "val_accuracy", "optim.lr"])
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"))


@given(st.lists(st.dictionaries(NAMES, TEXTS, min_size=1), min_size=1))
def test_csv_has_every_column_of_every_row(rows: list[dict[str, Any]]) -> None:
    read = list(csv.DictReader(io.StringIO(as_csv(rows), newline="")))
    names = {name for row in rows for name in row}
    assert read == [{name: row.get(name, "") for name in names} for row in rows]


def test_csv_has_nothing_for_none() -> None:
    assert as_csv([{"a": 1, "b": None}, {"c": 0.5}]) == "a,b,c\n1,,\n,,0.5\n"


def test_a_name_is_shown_as_it_is_or_cut_and_spelled() -> None:
    assert fitted("beach", 5) == "beach"
    assert fitted("beaches", 5) == "beac…"
    assert fitted("K\udcfcche", 30) == "K\\udcfcche"


def test_truth_values_in_csv_are_those_of_yaml() -> None:
    assert as_csv([{"a": True, "b": False, "c": None, "d": 1}]) == "a,b,c,d\ntrue,false,,1\n"
