"""How values are shown and sorted."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinylab.config.values import Check, is_number, order, shown

VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=3)
)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "null"), (True, "true"), (0.001, "0.001"), (3, "3"), ("sgd", "sgd"), ([1], "[1]")],
)
def test_a_value_is_shown_as_it_is_typed(value: Any, text: str) -> None:
    assert shown(value) == text


@given(st.lists(VALUES))
def test_numbers_come_by_size_before_words_by_letters(values: list[Any]) -> None:
    ordered = sorted(values, key=order)
    numbers = [value for value in ordered if is_number(value)]
    words = [shown(value) for value in ordered if not is_number(value)]
    assert numbers == sorted(numbers)
    assert words == sorted(words)
    assert ordered[: len(numbers)] == numbers


def test_true_and_false_are_no_numbers() -> None:
    assert [value for value in (True, False, 0, 1.5, "2", None) if is_number(value)] == [0, 1.5]


def test_a_number_without_limits_has_to_be_finite() -> None:
    assert not Check().accepts(float("nan"))
    assert Check().expected() == "a finite number"
