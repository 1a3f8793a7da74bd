"""A comparison of many runs: settings with their metrics, verdicts, and warnings."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from tinylab.comparison import effects as main_effects
from tinylab.comparison import statistics, variance
from tinylab.comparison.effects import Effect
from tinylab.comparison.settings import Setting, families, group
from tinylab.comparison.statistics import Summary
from tinylab.comparison.variance import SeedVariance, Variance
from tinylab.comparison.verdicts import Verdict, judge
from tinylab.config.metrics import METRICS
from tinylab.config.option import FOLDERS
from tinylab.config.values import shown
from tinylab.errors import UserError
from tinylab.store.run import Run
from tinylab.training.metrics import wilson_interval
from tinylab.ui.console import counted

FEW = 5  # maximum number of settings for which all pairs are compared


@dataclass(frozen=True, eq=False)
class Row:
    """A setting with its metrics over the seeds; ``name`` is a letter that identifies it."""

    name: str
    setting: Setting
    metrics: dict[str, Summary | None]  # by the keys of METRICS

    @property
    def test(self) -> Summary:
        """The test accuracy with Student's t interval: variation over the runs."""
        summary = self.metrics["test_accuracy"]
        assert summary is not None
        return summary

    @property
    def num_test(self) -> float:
        """The number of images in one test set; a mean if sizes differ, as for folds."""
        return fmean(run.result.dataset.num_test for run in self.setting.runs)

    @cached_property
    def one_test_set(self) -> tuple[float, float]:
        """Wilson's 95% CI of the mean test accuracy: variation over the choice of test images."""
        return wilson_interval(self.test.mean * self.num_test, self.num_test)

    @cached_property
    def seed_variance(self) -> SeedVariance | None:
        """The variance over training seeds by source; None if no two runs share a test set."""
        return variance.of_seeds(self.setting)


@dataclass(frozen=True)
class Comparison:
    """The settings on one dataset, best validation first.

    ``metric`` is the validation metric that ranks them; ``asked`` is the requested metric, which
    may be the test counterpart, shown as well. ``selected`` is the best setting by validation, None
    if no setting has a validation set. ``variances`` are those of the rows, or empty if not
    requested. ``rope``, a fraction of accuracy, is None if not requested.
    """

    dataset: str
    metric: str
    asked: str
    rows: tuple[Row, ...]
    selected: Row | None
    verdicts: tuple[Verdict, ...]
    warnings: tuple[str, ...]
    variances: tuple[Variance | None, ...]
    rope: float | None = None
    effects: tuple[Effect, ...] = ()

    @property
    def num_runs(self) -> int:
        """The total number of runs of all settings."""
        return sum(len(row.setting.runs) for row in self.rows)

    @property
    def tried(self) -> str:
        """As in ``3 settings tried in 9 runs``."""
        return f"{counted(len(self.rows), 'setting')} tried in {counted(self.num_runs, 'run')}"

    def name_of(self, setting: Setting) -> str:
        """The letter of a setting."""
        return next(row.name for row in self.rows if row.setting is setting)


def compare(
    runs: Sequence[Run],
    by: Sequence[str] | None = None,
    metric: str = "val_accuracy",
    pairs: Sequence[Sequence[str]] = (),
    test: str = "t",
    with_variance: bool = False,
    rope: float | None = None,
    effects: Sequence[str] = (),
) -> list[Comparison]:
    """Compare runs; returns one comparison per dataset.

    Without named ``pairs``, the best setting by validation is compared with every other one, or,
    without validation sets, all pairs of at most FEW settings. For a test ``metric``, its
    validation counterpart ranks the settings. A pair names its settings by letter or by values
    (``model=mlp,model.layers=1``). ``rope``: points of accuracy up to which differences count as
    practically equal. ``effects``: keys whose main effects to estimate. Raises UserError for an
    unknown key, a pair that does not name two settings of one dataset, or a ``rope`` outside 0 to
    100.
    """
    if rope is not None:
        rope = _fraction(rope)
    main_effects.check(effects, runs)
    asked, metric = metric, metric.replace("test_", "val_", 1)
    grouped = [group(family, by, metric) for family in families(runs)]
    letters = (_letters(number) for number in range(len(runs)))
    tables = [tuple(_row(next(letters), setting) for setting in each) for each in grouped]
    named = [_named(pair, tables) for pair in pairs]
    comparisons = []
    for rows, dataset in zip(tables, _datasets(tables), strict=True):
        selected = rows[0] if rows[0].metrics[metric] is not None else None
        chosen = [p for p in named if p[0] in rows] if pairs else _pairs(rows, selected)
        verdicts = judge([(first.setting, second.setting) for first, second in chosen], test, rope)
        warnings = [*_of_selection(rows, selected, metric), *_of_runs(rows)]
        variances = [variance.of_setting(row.setting) for row in rows if with_variance]
        comparisons.append(
            Comparison(
                dataset,
                metric,
                asked,
                rows,
                selected,
                tuple(verdicts),
                tuple(warnings),
                tuple(variances),
                rope,
                tuple(_effects(rows, effects)),
            )
        )
    return comparisons


def _fraction(rope: float) -> float:
    if not 0 <= rope <= 100:
        raise UserError(f"--rope {rope:g}: expected points of accuracy, such as 0.5")
    return rope / 100


def _effects(rows: Sequence[Row], keys: Sequence[str]) -> list[Effect]:
    runs = [run for row in rows for run in row.setting.runs]
    known = [main_effects.of_key(runs, key) for key in keys]
    return [effect for effect in known if effect is not None]


def _datasets(tables: Sequence[Sequence[Row]]) -> list[str]:
    """Return the datasets' names, with fingerprints if a name refers to two sets of images."""
    datasets = [rows[0].setting.runs[0].result.dataset for rows in tables]
    names = [dataset.name for dataset in datasets]
    return [
        name if names.count(name) == 1 else f"{name} (images {dataset.fingerprint[:8]})"
        for name, dataset in zip(names, datasets, strict=True)
    ]


def _row(name: str, setting: Setting) -> Row:
    values = {metric: setting.metric(metric) for metric in METRICS}
    summaries = {
        metric: None if cells is None else statistics.summarize(cells, METRICS[metric].is_fraction)
        for metric, cells in values.items()
    }
    return Row(name, setting, summaries)


def _letters(number: int) -> str:
    """Return letters for 0, 1, ...: A, B, ..., Z, AA, AB, ..."""
    rest, last = divmod(number, 26)
    return (_letters(rest - 1) if rest else "") + chr(ord("A") + last)


def _named(pair: Sequence[str], tables: Sequence[tuple[Row, ...]]) -> tuple[Row, Row]:
    first, second = (_find(name, [row for rows in tables for row in rows]) for name in pair)
    asked = f"--pair {' '.join(pair)}"
    if first is second:
        raise UserError(f"{asked}: expected two settings; both names refer to {first.name}")
    if not any(first in rows and second in rows for rows in tables):
        raise UserError(f"{asked}: their datasets differ, so their accuracies cannot be compared")
    return first, second


def _find(name: str, rows: Sequence[Row]) -> Row:
    matches = [row for row in rows if _is_meant(name, row)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        names = ", ".join(row.name for row in matches)
        raise UserError(f"--pair {name}: matches {names}; expected a single setting, by its letter")
    listed = ", ".join(f"{row.name} ({row.setting.label})" for row in rows[:3])
    raise UserError(
        f"--pair {name}: no such setting\n"
        f"  expected a letter or values, of {listed}{' ...' if len(rows) > 3 else ''}"
    )


def _is_meant(name: str, row: Row) -> bool:
    if "=" not in name:
        return name.upper() == row.name
    values = row.setting.runs[0].values
    asked = [each.partition("=") for each in re.split(r"[,\s]+", name.strip())]
    return all(key in values and shown(values[key]) == value for key, _, value in asked)


def _pairs(rows: Sequence[Row], selected: Row | None) -> list[tuple[Row, Row]]:
    """Pair the best with every other one; if none can be selected, all pairs of a few settings."""
    if selected is None:
        return list(itertools.combinations(rows, 2)) if len(rows) <= FEW else []
    return [(selected, row) for row in rows if row is not selected]


def _of_selection(rows: Sequence[Row], selected: Row | None, metric: str) -> list[str]:
    """Return objections to selecting by the test column."""
    if len(rows) == 1:
        return []
    if selected is None:
        have_validation = any(row.metrics["val_accuracy"] is not None for row in rows)
        lack = METRICS[metric].label if have_validation else "validation set (split.val=0)"
        return [
            f"no {lack}, so no setting can be selected here; selecting one by test accuracy would "
            "bias that accuracy"
        ]
    warnings = []
    unseen = [row.name for row in rows if row.metrics[metric] is None]
    if unseen:
        warnings.append(
            f"without a validation set, so they cannot be selected: {', '.join(unseen)}"
        )
    best = max(rows, key=lambda row: row.test.mean)
    if best.test.mean > selected.test.mean:
        warnings.append(
            f"validation and test accuracy disagree on the best setting: {best.name} has "
            f"{best.test.mean:.2%}, {selected.name} {selected.test.mean:.2%}; the choice stays "
            f"{selected.name}"
        )
    return warnings


def _versions(runs: Sequence[Run]) -> int:
    """Count the versions of tinylab's code among the runs; each option has its own code."""
    by_choice: dict[tuple[str, ...], set[str]] = {}
    for run in runs:
        choice = tuple(repr(run.values.get(group)) for group in FOLDERS)
        by_choice.setdefault(choice, set()).add(run.result.environment.code_sha256)
    cores = {run.result.environment.version for run in runs}
    return max(len(cores), *map(len, by_choice.values()))


def _of_runs(rows: Sequence[Row]) -> list[str]:
    """Return what makes the runs of a comparison differ more than it seems."""
    warnings = []
    runs = [run for row in rows for run in row.setting.runs]
    versions = _versions(runs)
    if versions > 1:
        warnings.append(f"the runs were made by {versions} versions of tinylab's code")
    pooled = dict.fromkeys(key for row in rows for key in row.setting.pooled)
    if pooled:
        warnings.append(f"pooled within settings, as requested: {', '.join(pooled)}")
    return warnings
