"""Settings: runs that share every config value except seeds."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any

from tinylab.comparison.statistics import Cell
from tinylab.config.keys import SEEDS, SPLIT_SEEDS, defaults, unit
from tinylab.config.metrics import goodness
from tinylab.config.options import WHICH_DATA
from tinylab.config.values import did_you_mean, order, shown
from tinylab.errors import UserError
from tinylab.store.run import Run

Values = Mapping[str, Any]
_ABSENT = object()


@dataclass(frozen=True)
class Setting:
    """A point in the space of settings, with its repetitions over seeds.

    ``values`` are only those that distinguish it from the settings it was grouped with. A key that
    depends on another choice (``model.filters`` of the baseline) is absent where it does not apply.
    """

    values: dict[str, Any]
    runs: tuple[Run, ...]

    @cached_property
    def label(self) -> str:
        """``model=mlp model.layers=2``, or dataset and model if there is only one setting."""
        if not self.values:
            values = self.runs[0].values
            return f"{values['dataset']} {values['model']}"
        return " ".join(f"{key}={shown(value)}" for key, value in self.values.items())

    @cached_property
    def by_test_set(self) -> dict[str, tuple[Run, ...]]:
        """The runs, grouped by the images that they were tested on."""
        runs: dict[str, list[Run]] = {}
        for run in self.runs:
            runs.setdefault(run.test_set, []).append(run)
        return {test_set: tuple(inner) for test_set, inner in runs.items()}

    @cached_property
    def varied(self) -> list[str]:
        """The keys in which the runs differ."""
        return varied([run.values for run in self.runs])

    @property
    def pooled(self) -> list[str]:
        """The keys besides seeds in which the runs differ: those that ``--group-by`` pooled."""
        return [key for key in self.varied if key not in SEEDS]

    @cached_property
    def cells(self) -> dict[Cell, Run]:
        """The runs, by split and seed."""
        return cells(self.runs, self.pooled)

    def metric(self, name: str) -> dict[Cell, float] | None:
        """A metric of every run, by split and seed; None if a run lacks it."""
        values = {cell: run.metric(name) for cell, run in self.cells.items()}
        known = {cell: value for cell, value in values.items() if value is not None}
        return known if len(known) == len(values) else None


def repeated(settings: Iterable[Setting]) -> str:
    """What differs between the runs of a setting: ``splits and seeds``, ``folds``; or ``runs``."""
    return unit(key for setting in settings for key in setting.varied)


def cells(runs: Iterable[Run], pooled: Sequence[str] = ()) -> dict[Cell, Run]:
    """Key the runs of a setting by what is repeated: the split, and the seed with pooled keys."""
    return {
        (
            _text([run.values.get(key) for key in SPLIT_SEEDS]),
            _text([run.values.get(key) for key in ("seed", *pooled)]),
        ): run
        for run in runs
    }


def families(runs: Iterable[Run]) -> list[list[Run]]:
    """Group comparable runs: those on one dataset, however it was preprocessed.

    Runs with the same preprocessing but different images (by fingerprint: the data has changed in
    between) are not grouped.
    """
    fingerprints: dict[str, list[str]] = {}
    by_data: dict[str, list[Run]] = {}
    for run in runs:
        dataset = run.result.dataset
        prepared = {key: v for key, v in run.values.items() if key.split(".")[0] == "dataset"}
        seen = fingerprints.setdefault(_text(prepared), [])
        if dataset.fingerprint not in seen:
            seen.append(dataset.fingerprint)
        version = seen.index(dataset.fingerprint)
        which = [run.values.get(f"dataset.{key}") for key in ("content", *WHICH_DATA)]
        source = [dataset.name, *which, dataset.classes, version]
        by_data.setdefault(_text(source), []).append(run)
    return list(by_data.values())


def group(
    runs: Sequence[Run], by: Sequence[str] | None = None, metric: str = "val_accuracy"
) -> list[Setting]:
    """Group runs into settings, best validation first.

    ``by`` names the keys that define a setting (default: all except seeds). Settings without a
    validation set come last, ordered by their values. Raises UserError for an unknown key.
    """
    keys = list(dict.fromkeys(key for run in runs for key in run.values if key not in SEEDS))
    if by is not None:
        keys = _checked(by, [*keys, *SEEDS])
    by_setting: dict[str, list[Run]] = {}
    for run in runs:
        by_setting.setdefault(_text(_chosen(run.values, keys)), []).append(run)
    distinct = [_chosen(inner[0].values, keys) for inner in by_setting.values()]
    shown_keys = keys if by is not None else [key for key in keys if distinguishes(key, distinct)]
    settings = [
        Setting(_chosen(inner[0].values, shown_keys), tuple(sorted(inner, key=_seeds)))
        for inner in by_setting.values()
    ]
    settings.sort(key=lambda setting: [order(setting.values.get(key)) for key in shown_keys])
    return sorted(settings, key=lambda setting: _rank(setting, metric))


def varied(values: Sequence[Values]) -> list[str]:
    """Return the keys that differ between ``values``, or are absent in some."""
    keys = dict.fromkeys(key for each in values for key in each)
    first = values[0] if values else {}
    return [
        key
        for key in keys
        if any(each.get(key, _ABSENT) != first.get(key, _ABSENT) for each in values)
    ]


def _checked(by: Sequence[str], known: Sequence[str]) -> list[str]:
    for key in by:
        if key not in known:
            raise UserError(
                f"--group-by {key}: not a key of any run{did_you_mean(key, known)}; expected keys "
                "such as model.filters,optim.lr"
            )
    return list(dict.fromkeys(by))


def _chosen(values: Values, keys: Iterable[str]) -> dict[str, Any]:
    return {key: values[key] for key in keys if key in values}


def distinguishes(key: str, settings: Sequence[Values]) -> bool:
    """Return whether a key distinguishes settings.

    A key of a choice (``optim.lr``) adds nothing if the choice (``optim``) determines it: if each
    choice has one value, its default.
    """
    group = key.partition(".")[0] if "." in key else ""
    by_choice: dict[str, list[Any]] = {}
    for values in settings:
        by_choice.setdefault(str(values.get(group, "")), []).append(values.get(key, _ABSENT))
    if any(value != inner[0] for inner in by_choice.values() for value in inner):
        return True
    single = {choice: inner[0] for choice, inner in by_choice.items() if inner[0] is not _ABSENT}
    differ = any(value != next(iter(single.values())) for value in single.values())
    return differ and any(defaults().get((key, name)) != value for name, value in single.items())


def _rank(setting: Setting, metric: str) -> tuple[bool, float, float]:
    """Sort settings, best first; those in which a run lacks the metric come last."""
    values = {name: setting.metric(name) for name in (metric, "val_accuracy", "val_loss")}
    means = {name: fmean(cells.values()) for name, cells in values.items() if cells is not None}
    if metric not in means:
        return True, 0.0, 0.0
    first, second = goodness(means, metric)
    return False, -first, -second


def _seeds(run: Run) -> tuple[int, ...]:
    return tuple(run.values.get(key, 0) for key in SEEDS)


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
