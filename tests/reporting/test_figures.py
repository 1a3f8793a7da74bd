"""The report's figures: scales with round ticks, everything inside the frame, words for all."""

import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from markupsafe import Markup

from tinylab.comparison.tuning import TuningCurve
from tinylab.reporting import figures, svg
from tinylab.reporting.figures import Curves, Dots

SHARES = st.floats(0, 1, width=32)
NUMBERS = st.floats(-1e9, 1e9).filter(lambda x: x == 0 or abs(x) > 1e-9)


def parsed(figure: Markup) -> ElementTree.Element:
    """The figure as a tree; it is well-formed, or this raises."""
    return ElementTree.fromstring(figure)


def points(tree: ElementTree.Element) -> list[tuple[float, float]]:
    """Every point that is drawn."""
    results = []
    for each in tree.iter():
        for x, y in (("x", "y"), ("cx", "cy"), ("x1", "y1"), ("x2", "y2")):
            if x in each.attrib:
                results.append((float(each.attrib[x]), float(each.attrib[y])))
        points = re.findall(r"[-\d.]+,[-\d.]+", each.get("d", ""))
        results += [tuple(map(float, point.split(","))) for point in points]
    return results


def check(figure: Markup) -> ElementTree.Element:
    """What holds of every figure: inside its frame, and with words for who cannot see it."""
    tree = parsed(figure)
    _, _, width, height = map(float, tree.attrib["viewBox"].split())
    for x, y in points(tree):
        assert 0 <= x <= width
        assert 0 <= y <= height
    assert tree.attrib["role"] == "img"
    assert [child.tag for child in tree][:2] == ["title", "desc"]
    assert tree[0].text
    assert tree[1].text
    return tree


def test_a_map_has_a_dot_per_image_and_rings_the_wrong_ones() -> None:
    points = np.random.default_rng(0).normal(size=(30, 2))
    labels, predicted = np.arange(30) % 3, np.arange(30) % 3
    predicted[:4] = 2
    tree = check(figures.feature_map(points, labels, predicted, ["a", "b<", "a long name " * 9]))
    circles = [each.get("class") for each in tree.iter() if each.tag == "circle"]
    assert (circles.count("dot"), circles.count("miss")) == (30, 3)


# ---------------------------------------------------------------- scales


@given(NUMBERS, NUMBERS, st.integers(2, 8))
def test_ticks_are_few_round_and_inside(one: float, other: float, most: int) -> None:
    low, high = sorted((one, other))
    assume(high - low > 1e-9 * max(1, abs(low), abs(high)))
    ticks = svg.Scale(low, high, 0, 100).ticks(most)
    assert 1 <= len(ticks) <= most
    slack = 1e-8 * (high - low)
    assert all(low - slack <= tick <= high + slack for tick in ticks)
    if len(ticks) > 1:
        step = ticks[1] - ticks[0]
        mantissa = step / 10 ** math.floor(math.log10(step) + 1e-9)
        assert min(abs(mantissa - factor) for factor in (1, 2, 5)) < 1e-3
        assert np.allclose(np.diff(ticks), step, rtol=1e-3)


@given(st.floats(1e-9, 1e9), st.floats(21, 1e12), st.integers(2, 8))
def test_ticks_of_a_logarithmic_scale(low: float, ratio: float, most: int) -> None:
    scale = svg.fit([low, low * ratio], 0, 100)
    assert scale.is_log
    ticks = scale.ticks(most)
    assert 1 <= len(ticks) <= most
    assert all(low * 0.99 <= tick <= low * ratio * 1.01 for tick in ticks)
    assert all(f"{tick:.0e}"[0] in "1235" for tick in ticks)


def test_ticks_known_by_heart() -> None:
    assert svg.Scale(0, 1, 0, 1).ticks() == [0, 0.2, 0.4, 0.6, 0.8, 1][:0] or svg.Scale(
        0, 1, 0, 1
    ).ticks(6) == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert svg.Scale(0.97, 0.99, 0, 1).ticks(5) == [0.97, 0.975, 0.98, 0.985, 0.99]
    assert svg.Scale(1, 10, 0, 1).ticks(5) == [2, 4, 6, 8, 10]
    assert svg.fit([1e-4, 1e-1], 0, 1).ticks() == [1e-4, 1e-3, 1e-2, 1e-1]


@given(st.lists(NUMBERS, min_size=1, max_size=5))
def test_a_fitted_scale_keeps_its_values_inside_and_in_order(values: list[float]) -> None:
    scale = svg.fit(values, 0, 100)
    results = [scale(value) for value in sorted(values)]
    assert results == sorted(results)
    assert -1e-6 <= results[0] <= results[-1] <= 100 + 1e-6


def test_a_logarithmic_scale_gives_each_decade_the_same_room() -> None:
    scale = svg.Scale(1e-4, 1e-1, 0, 30, is_log=True)
    assert [scale(v) for v in (1e-4, 1e-3, 1e-2, 1e-1)] == pytest.approx([0, 10, 20, 30])


def test_learning_rates_span_decades_and_widths_do_not() -> None:
    assert svg.fit([1e-4, 1e-1], 0, 1).is_log
    assert not svg.fit([16, 256], 0, 1).is_log
    assert not svg.fit([0, 0.3], 0, 1).is_log


def test_accuracies_have_no_logarithmic_axis_and_losses_may() -> None:
    values = np.array([[0.02, 0.2, 0.98]])
    of = {
        name: re.findall(
            r"<text[^>]*>([^<]*)<", figures.learning_curves([Curves("a", "c0", values, None)], name)
        )
        for name in ("accuracy", "loss")
    }
    assert {"20%", "40%", "60%", "80%"} <= set(of["accuracy"])
    assert {"0.02", "0.1", "1"} <= set(of["loss"])
    assert "60%" in figures.dots([Dots("a", [0.02, 0.98], 0.5, None)], "x")
    assert "60%" in figures.scatter("lr", [0.1, 0.2], [0.02, 0.98], "x")
    assert "60%" in figures.parallel(["a"], np.array([[1.0], [2.0]]), [0.02, 0.98], "x")


# ---------------------------------------------------------------- elements


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])))
def test_words_and_values_are_escaped(text: str) -> None:
    assume(not set(text) & {"￾", "￿"})  # no XML may hold these
    tree = parsed(svg.element("text", text, id=text))
    assert (tree.text or "") == text
    assert tree.attrib["id"] == text


def test_lengths_are_rounded_and_names_follow_svg() -> None:
    assert svg.element("text", x=1.0, y=2.26, text_anchor="end", class_="c0") == (
        '<text x="1" y="2.3" text-anchor="end" class="c0"></text>'
    )


# ---------------------------------------------------------------- learning curves


def curves(color: str = "c0", val: bool = True) -> Curves:
    train = np.array([[0.1, 0.4, 0.5], [0.3, 0.6, 0.7]])
    return Curves("hidden=8", color, train, train + 0.1 if val else None)


def paths(tree: ElementTree.Element, class_: str) -> list[list[tuple[float, ...]]]:
    return [
        [
            tuple(map(float, point.split(",")))
            for point in re.findall(r"[-\d.]+,[-\d.]+", each.attrib["d"])
        ]
        for each in tree.iter("path")
        if each.attrib["class"] == class_
    ]


def test_a_curve_is_the_mean_and_its_band_goes_from_the_lowest_to_the_highest_run() -> None:
    tree = check(figures.learning_curves([curves()], "accuracy"))
    [val], [train] = paths(tree, "line val"), paths(tree, "line train")
    [band] = paths(tree, "band")
    assert len(val) == len(train) == 3
    upper, lower = band[:3], band[:2:-1]
    for (_, mean), (_, top), (_, bottom) in zip(val, upper, lower, strict=True):
        assert mean == pytest.approx((top + bottom) / 2, abs=0.11)
    assert all(v[1] < t[1] for v, t in zip(val, train, strict=True)), "0.1 higher on the page"
    assert "hidden=8: 70% after the last epoch" in (tree[1].text or "")


def test_without_validation_the_band_is_of_training() -> None:
    tree = check(figures.learning_curves([curves(val=False)], "loss"))
    assert paths(tree, "line val") == []
    assert len(paths(tree, "line train")) == len(paths(tree, "band")) == 1


def test_settings_beyond_the_colors_are_a_gray_line() -> None:
    one, other = curves(figures.color(0)), curves(figures.color(figures.COLORS))
    tree = check(figures.learning_curves([one, other], "accuracy"))
    groups = {each.attrib["class"]: each for each in tree.iter("g")}
    assert groups.keys() == {"c0", "rest"}
    assert len(list(groups["rest"].iter("path"))) == 1
    assert list(tree.iter("g"))[-1] is groups["c0"], "the best lies on top"


@given(st.integers(1, 4), st.integers(1, 30), st.booleans(), st.sampled_from(["accuracy", "loss"]))
def test_curves_of_any_size(runs: int, epochs: int, val: bool, name: str) -> None:
    values = np.random.default_rng(runs * epochs).random((runs, epochs))
    check(figures.learning_curves([Curves("a", "c0", values, values if val else None)], name))


def test_curves_that_never_move() -> None:
    still = np.full((2, 3), 0.5)
    check(figures.learning_curves([Curves("a", "c0", still, still)], "accuracy"))


# ---------------------------------------------------------------- dots, scatter, lines


@given(
    st.lists(
        st.tuples(
            st.text("abc.=", min_size=1, max_size=90), st.lists(SHARES, min_size=1, max_size=4)
        ),
        min_size=1,
        max_size=40,
    ),
    st.booleans(),
)
def test_dots_of_any_rows(rows: list[tuple[str, list[float]]], interval: bool) -> None:
    drawn = [
        Dots(
            label, values, float(np.mean(values)), (min(values), max(values)) if interval else None
        )
        for label, values in rows
    ]
    tree = check(figures.dots(drawn, "validation accuracy"))
    assert len(list(tree.iter("circle"))) == sum(len(values) for _, values in rows)


def test_a_row_of_dots_says_what_it_shows() -> None:
    row = Dots("lr=0.1", [0.90, 0.92], 0.91, (0.88, 0.94))
    tree = check(figures.dots([row], "validation accuracy"))
    assert tree[1].text == "lr=0.1: mean 91% (88% to 94%) of 2 runs"
    one, other = [float(each.attrib["cx"]) for each in tree.iter("circle")]
    by_class = {each.attrib["class"]: each.attrib for each in tree.iter("line")}
    assert float(by_class["mean"]["x1"]) == pytest.approx((one + other) / 2, abs=0.11)
    assert float(by_class["interval"]["x1"]) < one < other < float(by_class["interval"]["x2"])


def test_labels_are_cut_where_the_figure_ends() -> None:
    tree = check(figures.dots([Dots("k" * 200, [0.5, 0.6], 0.55, None)], "validation accuracy"))
    [label] = [each.text or "" for each in tree.iter("text") if "k" in (each.text or "")]
    assert label.endswith("k…")
    assert len(label) * figures.LETTER < figures.WIDTH


@given(st.lists(st.tuples(st.floats(1e-6, 1e6), SHARES), min_size=1, max_size=60))
def test_a_scatter_of_any_values(pairs: list[tuple[float, float]]) -> None:
    values, scores = zip(*pairs, strict=True)
    tree = check(figures.scatter("optim.lr", values, scores, "validation accuracy"))
    assert len(list(tree.iter("circle"))) == len(pairs)


@given(st.integers(3, 8), st.integers(1, 30))
def test_parallel_coordinates_have_a_line_a_run_the_best_on_top(keys: int, runs: int) -> None:
    generator = np.random.default_rng(keys * runs)
    values, scores = generator.random((runs, keys)) * 100, generator.random(runs).tolist()
    names = [f"model.key{number}" for number in range(keys)]
    tree = check(figures.parallel(names, values, scores, "validation accuracy"))
    lines = list(tree.iter("path"))
    assert len(lines) == runs
    fractions = [float(each.attrib["style"].partition(":")[2]) for each in lines]
    assert fractions == sorted(fractions)
    assert len(re.findall(",", lines[0].attrib["d"])) == keys + 1


# ---------------------------------------------------------------- tuning curves


@given(st.lists(st.lists(SHARES, min_size=1, max_size=30), min_size=1, max_size=3))
def test_tuning_curves_stay_in_their_frame(searches: list[list[float]]) -> None:
    curves = [
        TuningCurve(f"search {place}", "val_accuracy", tuple(values))
        for place, values in enumerate(searches)
    ]
    tree = check(figures.tuning(curves, "validation accuracy", svg.percent))
    lines = [each for each in tree.iter() if each.get("class") in ("line val", "line train")]
    assert len(lines) == 2 * len(curves), "median and mean of each"


def test_a_band_is_there_as_far_as_trials_bound_it() -> None:
    few, many = ([place / n for place in range(n)] for n in (5, 60))
    for values, bands in ((few, 0), (many, 1)):
        curve = TuningCurve("search", "val_accuracy", tuple(values))
        figure = figures.tuning([curve], "validation accuracy", svg.percent)
        assert str(figure).count('class="band"') == bands
