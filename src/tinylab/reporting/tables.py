"""Tables of a comparison: the text of each cell, its sort value, and its shade."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import compress, product
from typing import Any

from tinylab.comparison.columns import pair
from tinylab.comparison.comparison import Comparison, Row
from tinylab.comparison.nested import HEAD, MEANING, METHOD, Estimate
from tinylab.comparison.settings import Setting, varied
from tinylab.comparison.show import FAMILY, luck
from tinylab.comparison.statistics import Adjusted
from tinylab.comparison.verdicts import points, points_span
from tinylab.config.metrics import METRICS, between
from tinylab.config.values import is_number, order, shown
from tinylab.reporting.figures import COLORS, color


@dataclass(frozen=True)
class Cell:
    """A cell. ``value`` sorts its column; ``fraction``, 0 to 1, shades it."""

    text: str
    value: float | None = None
    fraction: float | None = None
    key: str = ""  # the CSS class for the color of this row in the figures


@dataclass(frozen=True)
class Table:
    """A table whose rows start with their heading; a matrix has shaded cells."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    is_matrix: bool = False


ABSENT = Cell("–")
LONGEST = 7  # characters of a number in a figure; people type shorter ones
MAIN = ("val_accuracy", "test_accuracy", "seconds", "parameters")  # the other metrics follow


def number(value: float | None, form: str = "{:.2%}") -> Cell:
    """Return a number as a cell."""
    return ABSENT if value is None else Cell(form.format(value), value)


def leaderboard(comparison: Comparison) -> Table:
    """Return a row per setting, in the comparison's order; empty columns are left out."""
    keys = list(dict.fromkeys(key for row in comparison.rows for key in row.setting.values))
    first = (comparison.metric, *MAIN)
    head = ["setting", *keys, "runs", *(name for name, _ in _metrics(comparison.rows[0], first))]
    rows = [_leader(rank, row, keys, first) for rank, row in enumerate(comparison.rows)]
    filled = [any(row[column] is not ABSENT for row in rows) for column in range(len(head))]
    is_ranked = comparison.selected is not None and len(rows) > 1
    ranked = ", best validation first" if is_ranked else ""
    return Table(
        f"Settings{ranked}; {luck(comparison).removesuffix('.')}",
        list(compress(head, filled)),
        [list(compress(row, filled)) for row in rows],
    )


def _leader(rank: int, row: Row, keys: Sequence[str], first: Sequence[str]) -> list[Cell]:
    values = row.setting.values
    return [
        Cell(row.name, rank, key=color(rank)),
        *(value(values[key]) if key in values else ABSENT for key in keys),
        number(len(row.setting.runs), "{}"),
        *(cell for _, cell in _metrics(row, first)),
    ]


def _metrics(row: Row, first: Sequence[str]) -> list[tuple[str, Cell]]:
    """Return the head and the cell of each metric; accuracies with their spread."""
    cells = []
    for name in dict.fromkeys((*first, *row.metrics)):
        metric, summary = METRICS[name], row.metrics[name]
        mean = ABSENT if summary is None else number(summary.mean, metric.format)
        cells.append((metric.label, mean))
        if name in ("val_accuracy", "test_accuracy"):
            cells.append(("sd", ABSENT if summary is None else number(summary.std)))
    index = [head for head, _ in cells].index(METRICS["test_accuracy"].label) + 2
    cells[index:index] = [
        ("95% CI of the mean", _span(row.test.low, row.test.high)),
        ("95% CI of one test set", _span(*row.one_test_set)),
    ]
    return cells


def value(setting: Any) -> Cell:
    """Return a config value as typed; numbers sort by size."""
    return Cell(shown(setting), setting if is_number(setting) else None)


def _span(low: float | None, high: float | None) -> Cell:
    if low is None or high is None:
        return ABSENT
    return Cell(between(low, high), low)


def legend(rows: Sequence[Row]) -> list[Cell]:
    """Return the legend of the learning curves."""
    named = [Cell(short(row), key=color(number)) for number, row in enumerate(rows[:COLORS])]
    rest = len(rows) - len(named)
    return [*named, Cell(f"{rest} more", key=color(COLORS))] if rest else named


def short(row: Row) -> str:
    """Return a setting's letter and values, without the groups of keys if unambiguous."""
    values = row.setting.values
    names = [key.rpartition(".")[2] for key in values]
    if not names or len(set(names)) < len(names):
        return f"{row.name}  {row.setting.label}"
    pairs = zip(names, values.values(), strict=True)
    return "  ".join([row.name, *(f"{name}={brief(each)}" for name, each in pairs)])


def brief(setting: Any) -> str:
    """Return a config value for a figure; a search's 0.000168998 to three significant digits."""
    text = shown(setting)
    return f"{setting:.3g}" if isinstance(setting, float) and len(text) > LONGEST else text


def verdicts(comparison: Comparison) -> Table | None:
    """Return the verdicts of a comparison; None if there is nothing to compare."""
    if not comparison.verdicts:
        return None
    tested = sum(each.p is not None for each in comparison.verdicts)
    rows = []
    for each in comparison.verdicts:
        names, trial = pair(comparison, each), each.trial
        rows.append(
            [
                Cell(" and ".join(names)),
                Cell(each.words(*names)),
                number(trial.difference, "{}") if trial.difference is None
                else Cell(points(trial.difference), trial.difference),
                _signed_span(each.adjusted),
                Cell(trial.method),
            ]
        )  # fmt: skip
    chosen = comparison.selected
    whose = (
        "All pairs of settings" if chosen is None else f"{chosen.name} against every other setting"
    )
    family = f"; {FAMILY.format(tested, 'comparisons')}"
    return Table(
        f"{whose}, by test accuracy{family if tested > 1 else ''}",
        ["settings", "verdict", "difference in points", "95% CI", "test"],
        rows,
    )


def _signed_span(adjusted: Adjusted | None) -> Cell:
    if adjusted is None:
        return ABSENT
    return Cell(points_span(adjusted), adjusted.low)


def grid(rows: Sequence[Row], metric: str) -> Table | None:
    """Return mean accuracy by two keys; None unless two keys vary, with all pairs of values."""
    keys = varied([row.setting.values for row in rows])
    if len(keys) != 2:
        return None
    means = {
        tuple(_text(row.setting, key) for key in keys): summary.mean
        for row in rows
        if (summary := row.metrics[metric]) is not None
    }
    lines, columns = (
        in_order(row.setting.values[key] for row in rows if key in row.setting.values)
        for key in keys
    )
    if means.keys() != set(product(lines, columns)):
        return None
    low, high = min(means.values()), max(means.values())
    return Table(
        f"Mean {METRICS[metric].label}: {keys[0]} in rows, {keys[1]} in columns",
        ["", *columns],
        [
            [Cell(line), *(_shaded(means[line, column], low, high) for column in columns)]
            for line in lines
        ],
        is_matrix=True,
    )


def _text(setting: Setting, key: str) -> str:
    return shown(setting.values[key]) if key in setting.values else ""


def _shaded(mean: float, low: float, high: float) -> Cell:
    return Cell(f"{mean:.2%}", mean, fraction=(mean - low) / (high - low) if high > low else 0.0)


def in_order(values: Iterable[Any]) -> list[str]:
    """Return each value once, as typed: numbers by size, then words."""
    distinct = {shown(each): each for each in values}
    return sorted(distinct, key=lambda text: order(distinct[text]))


def nested(estimate: Estimate) -> Table:
    """Return the selection of every fold of a nested search."""
    rows = [
        [Cell(str(fold.number), fold.number), Cell(fold.setting), number(fold.trials, "{}"),
         number(fold.val), number(fold.test)]
        for fold in estimate.folds
    ]  # fmt: skip
    return Table(f"{MEANING} {METHOD}", HEAD, rows)
