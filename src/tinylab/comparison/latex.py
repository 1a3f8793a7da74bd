r"""A comparison as a table for a paper: LaTeX with the package booktabs."""

import re
from collections.abc import Sequence

from tinylab.comparison import columns, show
from tinylab.comparison.comparison import Comparison, Row
from tinylab.comparison.settings import repeated
from tinylab.comparison.statistics import Summary
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

    Test accuracy has its CI and the adjusted p-values. Bold follows the verdicts at 5%, and nothing
    is bold where they show no difference: ``_bold``.
    """
    tables = map(_table, comparisons)
    return "\n".join([r"% needs \usepackage{booktabs}", "\n\n".join(tables)])


def escaped(text: str) -> str:
    """Escape the special characters of LaTeX."""
    special = r"""[\\~^<>|"&%$#_{}]"""
    return re.sub(special, lambda match: ESCAPED.get(match[0], f"\\{match[0]}"), text)


def _table(comparison: Comparison) -> str:
    """Return a table; what only its author has to know is a comment."""
    rows = comparison.rows
    keys = columns.keys(rows) or [columns.labels(rows)]
    asked = dict.fromkeys((comparison.metric, comparison.asked, "test_accuracy"))
    metrics = [name for name in asked if any(row.metrics[name] is not None for row in rows)]
    heads = [("", ""), *(key.head for key in keys), ("", "runs"), *map(_head, metrics)]
    references = _references(comparison)
    upper, lower = ([escaped(each) for each in line] for line in zip(*heads, strict=True))
    upper += [r"95\% CI", *("$p$" for _ in references)]
    lower += [_kind(comparison), *(f"vs. {name}" for name in references)]
    table = [
        [escaped(row.name) for row in rows],
        *([escaped(cell) for cell in key.cells] for key in keys),
        [columns.num_runs(row) for row in rows],
        *(_metric(comparison, name) for name in metrics),
        [_interval(comparison, row) for row in rows],
        *([_p(comparison, name, row) for row in rows] for name in references),
    ]
    lines = [rf"    {' & '.join(each)} \\" for each in (upper, lower, *zip(*table, strict=True))]
    lines = [r"    \toprule", *lines[:2], r"    \midrule", *lines[2:]]
    align = "l" * (1 + len(keys)) + "r" * (len(table) - 1 - len(keys))
    before = [f"% warning: {warning}" for warning in comparison.warnings]
    before += [f"% {caveat}" for caveat in show.caveats(comparison)]
    before += [r"\begin{table}", r"  \centering", rf"  \caption{{{_caption(comparison)}}}"]
    before.append(rf"  \begin{{tabular}}{{{align}}}")
    after = [r"    \bottomrule", r"  \end{tabular}", r"\end{table}"]
    return "\n".join([*before, *lines, *after])


def _head(name: str) -> tuple[str, str]:
    """Return the two lines of a metric's head, since one line would make the table too wide."""
    first, _, last = METRICS[name].label.rpartition(" ")
    return first, last + " (%)" * METRICS[name].is_fraction


def _caption(comparison: Comparison) -> str:
    """Return what the columns are. Speaks only of what the table has."""
    is_ranked = comparison.selected is not None and len(comparison.rows) > 1
    ranked = f", ranked by {METRICS[comparison.metric].label}" if is_ranked else ""
    is_repeated = any(row.test.std is not None for row in comparison.rows)
    unit = repeated(row.setting for row in comparison.rows)
    spread = f" (standard deviation over {unit})" if is_repeated else ""
    ci = "over the choice of test images (Wilson)"
    if _has_mean(comparison):
        ci = f"of the mean test accuracy, over {unit} (Student's t)"
    sentences = [f"{comparison.dataset}: means{spread}{ranked}.", f"CI: {ci}."]
    if _has_mean(comparison):
        sentences += [*show.without_spread(comparison), *show.dependence(comparison)]
    tested = sum(verdict.p is not None for verdict in comparison.verdicts)
    if not tested:
        return escaped(" ".join(sentences))
    adjusted = f", adjusted for {tested} comparisons (Holm)" if tested > 1 else ""
    tests = [f"of the difference in test accuracy{adjusted}.", *show.methods(comparison)]
    words = [escaped(" ".join(sentences)), rf"$p$: {escaped(' '.join(tests))}"]
    return " ".join([*words, _meaning_of_bold(comparison)])


def _meaning_of_bold(comparison: Comparison) -> str:
    if not _bold(comparison):
        return r"No difference is significant ($p \geq 0.05$), so none is bold."
    references = _references(comparison)
    if len(references) > 1:
        words = "the settings not significantly worse than any other that they were tested against"
    elif references[0] in _bold(comparison):
        words = f"{references[0]}, and the settings compared with it that are not significantly "
        words += "worse"
    else:
        words = f"the settings significantly better than {references[0]}"
    return f"Bold: {words} ($p < 0.05$)."


def _bold(comparison: Comparison) -> set[str]:
    """Return the letters of the settings that are best by the verdicts; none without a winner.

    If all are compared with one setting, these are it and those not shown to be worse, or, if it is
    beaten itself, those that beat it.
    """
    compared: set[str] = set()
    winners: set[str] = set()
    losers: set[str] = set()
    for verdict in comparison.verdicts:
        pair = set(columns.pair(comparison, verdict))
        if verdict.p is not None or _is_tie(verdict.trial.difference):
            compared |= pair
        if verdict.winner is not None:
            winners.add(comparison.name_of(verdict.winner))
            losers |= pair - {comparison.name_of(verdict.winner)}
    references = _references(comparison)
    if not winners or (len(references) == 1 and references[0] in losers):
        return winners - losers
    return compared - losers


def _is_tie(difference: float | None) -> bool:
    """Return whether two settings have the same mean, so that there was nothing to test."""
    return difference is not None and abs(difference) < 1e-12


def _references(comparison: Comparison) -> list[str]:
    """Return the letters of the settings that others are tested against."""
    tested = [verdict for verdict in comparison.verdicts if verdict.p is not None]
    return list(dict.fromkeys(comparison.name_of(verdict.first) for verdict in tested))


def _metric(comparison: Comparison, name: str) -> list[str]:
    bold = _bold(comparison) if name == "test_accuracy" else set()
    return [_cell(row.metrics[name], name, row.name in bold) for row in comparison.rows]


def _cell(summary: Summary | None, name: str, is_bold: bool) -> str:
    if summary is None:
        return "--"
    mean = _text(summary.mean, name)
    spread = "" if summary.std is None else f" ({_text(summary.std, name)})"
    return (rf"\textbf{{{mean}}}" if is_bold else mean) + spread


def _has_mean(comparison: Comparison) -> bool:
    """Return whether a setting has a CI of its mean; otherwise, that of one test set is shown."""
    return any(row.test.low is not None for row in comparison.rows)


def _kind(comparison: Comparison) -> str:
    return "of the mean" if _has_mean(comparison) else "of one test set"


def _interval(comparison: Comparison, row: Row) -> str:
    low, high = row.one_test_set
    if _has_mean(comparison):
        if row.test.low is None or row.test.high is None:
            return "--"
        low, high = row.test.low, row.test.high
    return f"[{_text(low, 'test_accuracy')}, {_text(high, 'test_accuracy')}]"


def _p(comparison: Comparison, reference: str, row: Row) -> str:
    for verdict in comparison.verdicts:
        names = columns.pair(comparison, verdict)
        if names == (reference, row.name) and verdict.p is not None:
            return "$<$0.001" if verdict.p < 0.001 else f"{verdict.p:.3f}"
    return "--"


def _text(value: float, name: str) -> str:
    return f"{100 * value:.2f}" if METRICS[name].is_fraction else f"{value:.4f}"
