"""The contents of the page, section by section, from the runs in the paths."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tinylab.comparison import data_size, nested, tuning
from tinylab.comparison.comparison import Comparison, compare
from tinylab.comparison.show import left_out, seed_spread
from tinylab.errors import UserError
from tinylab.reporting import answer, charts, details, mistakes, tables
from tinylab.reporting.charts import Chart
from tinylab.reporting.gallery import Explanation
from tinylab.reporting.mistakes import Mistakes
from tinylab.reporting.tables import Cell, Table
from tinylab.store.collect import collect
from tinylab.store.folder import RunFolder
from tinylab.store.run import Run
from tinylab.store.sweep import SweepFolder

MOST_NAMED = 3  # maximum paths in the title


@dataclass(frozen=True)
class Section:
    """The settings of one dataset."""

    title: str
    answer: Sequence[str]
    warnings: Sequence[str]
    discipline: str
    seed_spread: Sequence[str]
    leaderboard: Table
    verdicts: Table | None
    lines: str  # which lines the curves are
    curves: Sequence[Chart]
    each_curve: Sequence[Chart]
    readings: Sequence[str]
    legend: Sequence[Cell]
    more_data: Sequence[str]
    sizes: Chart | None
    size_legend: Sequence[Cell]
    effects: Sequence[Chart]
    grid: Table | None
    parallel: Chart | None
    best: str
    mistakes: Mistakes | str  # why they are unknown
    details: Sequence[Table]


@dataclass(frozen=True)
class Page:
    """The whole page."""

    title: str
    questions: Sequence[str]
    sections: Sequence[Section]
    tuning: Sequence[Chart]
    nested: Sequence[tuple[str, Table]]
    left_out: Table | None
    repeat: str
    explanation: Explanation | None


def build(
    paths: Sequence[Path], question: str | None = None, explanation: Explanation | None = None
) -> Page:
    """Build the page on the finished runs in ``paths``. Raises UserError if there are none."""
    runs, skipped = collect(paths)
    if not runs:
        reasons = "".join(f"\n  {line}" for line in left_out(skipped))
        raise UserError(f"no finished run in {', '.join(map(str, paths))}{reasons}")
    return Page(
        title=" and ".join(path.resolve().name for path in paths[:MOST_NAMED]),
        questions=[question] if question else [_question(path) for path in paths],
        sections=[_section(comparison, len(skipped)) for comparison in compare(runs)],
        tuning=charts.tuning(tuning.of_sweeps(paths)),
        nested=[(each.sentence, tables.nested(each)) for each in nested.of_sweeps(paths)],
        left_out=details.left_out(skipped) if skipped else None,
        repeat=shlex.join(["tinylab", "report", *map(str, paths)]),
        explanation=explanation,
    )


def _question(path: Path) -> str:
    """Return the command that produced the path, or a description of it."""
    arguments = SweepFolder(path).arguments()
    if arguments is not None:
        return shlex.join(["tinylab", "train", "-m", *arguments])
    result = RunFolder(path).result()
    return f"every finished run in {path}" if result is None else result.command


def _lines(comparison: Comparison, family: Sequence[Run]) -> str:
    """Return which lines the learning curves are."""
    lines = "Training" if comparison.selected is None else "Validation solid, training dashed"
    if any(run.result.tta != "none" for run in family):
        lines += "; epochs are measured without test-time augmentation (train.tta)"
    return lines


def _section(comparison: Comparison, num_left_out: int) -> Section:
    rows = comparison.rows
    family = [run for row in rows for run in row.setting.runs]
    metric = "test_accuracy" if comparison.selected is None else "val_accuracy"
    curves, each_curve = charts.learning_curves(rows)
    sized = data_size.of_rows(rows)
    return Section(
        title=comparison.dataset,
        answer=answer.answer(comparison),
        warnings=answer.warnings(comparison),
        discipline=answer.discipline(comparison, num_left_out),
        seed_spread=seed_spread(rows[0]),
        leaderboard=tables.leaderboard(comparison),
        verdicts=tables.verdicts(comparison),
        lines=_lines(comparison, family),
        curves=curves,
        each_curve=each_curve,
        readings=charts.readings(rows),
        legend=tables.legend(rows),
        more_data=answer.more_data(sized),
        sizes=charts.data_size(sized),
        size_legend=charts.size_legend(sized),
        effects=charts.effects(rows, metric),
        grid=tables.grid(rows, metric),
        parallel=charts.parallel(rows, metric),
        best=f"{rows[0].name}, {rows[0].setting.label}",
        mistakes=_mistakes(rows[0].setting.runs),
        details=[
            details.differences(family),
            details.config(family[0]),
            details.environment(family),
            details.repetition(rows),
        ],
    )


def _mistakes(runs: Sequence[Run]) -> Mistakes | str:
    try:
        return mistakes.find(runs)
    except UserError as error:
        return str(error)
