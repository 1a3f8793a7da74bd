"""Pictures stay small and can be drawn, however many classes there are and whatever their names."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinylab.ui import plots

pytestmark = pytest.mark.costly

LARGEST = 2600  # pixels a side


def drawn(K: int, names: tuple[str, ...] | None = None) -> np.ndarray:
    matrix = np.diag(np.full(K, 3)).astype(np.int64)
    return plots.render(plots.confusion(matrix, names or tuple(f"class{k}" for k in range(K)), "t"))


@pytest.mark.parametrize("K", [1, 2, 40, 41, 200, 1600])
def test_a_confusion_matrix_is_a_picture_of_bounded_size(K: int) -> None:
    started = time.process_time()
    assert max(drawn(K).shape) <= LARGEST
    assert time.process_time() - started < 10


def test_as_many_classes_as_can_be_named_are_named() -> None:
    for K, count in ((40, 40), (41, 21), (1600, 40)):
        figure = plots.confusion(np.eye(K, dtype=np.int64), tuple(map(str, range(K))), "t")
        [axes] = figure.axes
        names = [label.get_text() for label in axes.get_yticklabels()]
        assert names == [str(round(place)) for place in axes.get_yticks()]
        assert len(names) == count


@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_coarse_cells_are_the_largest_of_their_blocks(K: int, most: int, seed: int) -> None:
    fraction = np.random.default_rng(seed).random((K, K))
    result = plots.coarse(fraction, most)
    block = -(-K // most)
    assert max(result.shape) <= most
    for i, j in np.ndindex(result.shape):
        assert result[i, j] == fraction[block * i :, block * j :][:block, :block].max()


def test_one_confusion_among_a_thousand_classes_is_seen() -> None:
    plain, other = (np.diag(np.full(1600, 3)).astype(np.int64) for _ in range(2))
    other[100, 1500], other[100, 100] = 3, 0
    names = tuple(map(str, range(1600)))
    pictures = [plots.render(plots.confusion(each, names, "t")) for each in (plain, other)]
    assert np.abs(pictures[0].astype(int) - pictures[1]).max() > 100


@pytest.mark.parametrize("name", ["K\udcfcche", "x" * 10_000, "$\\frac{1}$", "\n\n", "台所", ""])
def test_any_name_can_be_drawn(name: str) -> None:
    assert max(drawn(3, (name, "b", "c")).shape) <= LARGEST
    images = np.zeros((2, 1, 8, 8), np.uint8)
    sheet = plots.render(plots.gallery(images, [name, f"{name}, not {name}\n99%"], "t"))
    assert max(sheet.shape) <= LARGEST
