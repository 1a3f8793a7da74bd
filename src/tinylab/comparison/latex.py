r"""A comparison as a table for a paper: LaTeX with the package booktabs."""

import re
from collections.abc import Sequence

from tinylab.comparison import columns
from tinylab.comparison.comparison import Comparison, Row
from tinylab.comparison.settings import repeated
from tinylab.comparison.show import caveats
from tinylab.config.metrics import METRICS

# In the default font encoding < > | would be printed as other characters, and a double quote is a
# command in some languages of babel.
ESCAPED = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
}


def as_latex(comparisons: Sequence[Comparison]) -> str:
    r"""A ``table`` for each dataset: needs ``\usepackage{booktabs}``.

    The best mean of each metric is bold. A superscript names the settings that beat this one on the
    test set, by the verdicts at 5%.
    """
    return "\n\n".join(_table(comparison) for comparison in comparisons)


def escaped(text: str) -> str:
    """Escape the special characters of LaTeX."""
    special = r"""[\\~^<>|"&%$#_{}]"""
    return re.sub(special, lambda match: ESCAPED.get(match[0], f"\\{match[0]}"), text)


def _table(comparison: Comparison) -> str:
    rows = comparison.rows
    keys = columns.keys(rows) or [columns.labels(rows)]
    asked = dict.fromkeys((comparison.metric, comparison.asked, "test_accuracy"))
    metrics = [name for name in asked if any(row.metrics[name] is not None for row in rows)]
    heads = [("", ""), *(key.head for key in keys), ("", "runs"), *map(_head, metrics)]
    upper, lower = ([escaped(each) for each in line] for line in zip(*heads, strict=True))
    table = [
        [escaped(row.name) for row in rows],
        *([escaped(cell) for cell in key.cells] for key in keys),
        [str(len(row.setting.runs)) for row in rows],
        *(_metric(comparison, name) for name in metrics),
    ]
    lines = [rf"    {' & '.join(each)} \\" for each in (upper, lower, *zip(*table, strict=True))]
    lines = [r"    \toprule", *lines[:2], r"    \midrule", *lines[2:]]
    align = "l" * (1 + len(keys)) + "r" * (1 + len(metrics))
    before = [r"\begin{table}", r"  \centering", rf"  \caption{{{_caption(comparison)}}}"]
    before.append(rf"  \begin{{tabular}}{{{align}}}")
    after = [r"    \bottomrule", r"  \end{tabular}", r"\end{table}"]
    return "\n".join([*before, *lines, *after])


def _head(name: str) -> tuple[str, str]:
    """Return the two lines of a metric's head, since one line would make the table too wide."""
    first, _, last = METRICS[name].label.rpartition(" ")
    return first, last + " (%)" * _is_percent(name)


def _caption(comparison: Comparison) -> str:
    is_ranked = comparison.selected is not None and len(comparison.rows) > 1
    ranked = f", ranked by {escaped(METRICS[comparison.metric].label)}" if is_ranked else ""
    marks = ""
    if any(verdict.winner for verdict in comparison.verdicts):
        marks = r" A superscript names settings that are better on the test set ($p < 0.05$, Holm)."
        marks += "".join(f" {escaped(caveat)}" for caveat in caveats(comparison))
    is_repeated = any(row.test.std is not None for row in comparison.rows)
    unit = escaped(repeated(row.setting for row in comparison.rows))
    spread = f" (standard deviation over {unit})" if is_repeated else ""
    return f"{escaped(comparison.dataset)}: means{spread}{ranked}; the best of each in bold.{marks}"


def _metric(comparison: Comparison, name: str) -> list[str]:
    """Return the cells of a metric; the best values, as printed, are bold."""
    texts = [_mean(row, name) for row in comparison.rows]
    sign = -1 if METRICS[name].better == "lower" else 1
    best = max((sign * float(text) for text in texts if text), default=None)
    return [
        _cell(comparison, row, name, text, text != "" and sign * float(text) == best)
        for row, text in zip(comparison.rows, texts, strict=True)
    ]


def _mean(row: Row, name: str) -> str:
    summary = row.metrics[name]
    return "" if summary is None else _text(summary.mean, name)


def _cell(comparison: Comparison, row: Row, name: str, mean: str, is_best: bool) -> str:
    summary = row.metrics[name]
    if summary is None:
        return "--"
    marks = _beaten_by(comparison, row) if name == "test_accuracy" else ""
    spread = "" if summary.std is None else f" ({_text(summary.std, name)})"
    return (rf"\textbf{{{mean}}}" if is_best else mean) + spread + marks


def _beaten_by(comparison: Comparison, row: Row) -> str:
    names = [
        comparison.name_of(verdict.winner)
        for verdict in comparison.verdicts
        if verdict.winner is not None
        and any(row.setting is each for each in (verdict.first, verdict.second))
        and verdict.winner is not row.setting
    ]
    return rf"\rlap{{$^{{{','.join(names)}}}$}}" if names else ""


def _text(value: float, name: str) -> str:
    return f"{100 * value:.2f}" if _is_percent(name) else f"{value:.4f}"


def _is_percent(name: str) -> bool:
    return METRICS[name].format.endswith("%}")
