"""A comparison for other programs: JSON with everything, CSV with one line per setting.

Accuracies and their differences are fractions, losses nats, times seconds. Keys are only ever
added.
"""

import dataclasses
import itertools
import json
from collections.abc import Sequence
from typing import Any

from tinylab.comparison.comparison import Comparison, Row
from tinylab.comparison.effects import Effect
from tinylab.comparison.nested import Estimate
from tinylab.comparison.show import caveats
from tinylab.comparison.statistics import Adjusted, design
from tinylab.comparison.tuning import TuningCurve
from tinylab.comparison.variance import Variance
from tinylab.comparison.verdicts import Trial, Verdict
from tinylab.config.values import shown
from tinylab.store.collect import Skipped
from tinylab.ui import tables


def as_json(
    comparisons: Sequence[Comparison],
    curves: Sequence[TuningCurve],
    estimates: Sequence[Estimate],
    skipped: Sequence[Skipped],
) -> str:
    """Return everything as indented JSON; None for values that do not exist."""
    value = {
        "comparisons": [_comparison(comparison) for comparison in comparisons],
        "tuning_curves": [_tuning(curve) for curve in curves],
        "nested": [dataclasses.asdict(estimate) for estimate in estimates],
        "left_out": [{"path": str(each.path), "reason": each.reason} for each in skipped],
    }
    return json.dumps(value, indent=2, allow_nan=False)


def _tuning(curve: TuningCurve) -> dict[str, Any]:
    points = [dataclasses.asdict(point) for point in curve.points()]
    return {"search": curve.name, "metric": curve.metric, "points": points}


def as_csv(comparisons: Sequence[Comparison]) -> str:
    """Return one line per setting: values, mean, sd and interval of each metric, and verdicts.

    ``A_difference`` is this setting minus A in test accuracy; ``A_difference_low`` and
    ``A_difference_high`` are its simultaneous interval, ``A_p`` and ``A_p_holm`` the p-value before
    and after adjustment for the number of pairs.
    """
    lines = [
        {
            "dataset": each.dataset,
            **_csv_row(row),
            **_csv_verdicts(each, row),
            **_csv_variance(variance),
        }
        for each in comparisons
        for row, variance in itertools.zip_longest(each.rows, each.variances)
    ]
    return tables.as_csv(lines).rstrip("\n")


def _comparison(comparison: Comparison) -> dict[str, Any]:
    selected = comparison.selected
    return {
        "dataset": comparison.dataset,
        "ranked_by": comparison.metric,
        "rope": comparison.rope,
        "num_settings": len(comparison.rows),
        "num_runs": comparison.num_runs,
        "selected": None if selected is None else selected.name,
        "warnings": [*comparison.warnings, *caveats(comparison)],
        "settings": [_setting(row) for row in comparison.rows],
        "verdicts": [_verdict(comparison, verdict) for verdict in comparison.verdicts],
        "effects": [_effect(effect) for effect in comparison.effects],
        "variances": [
            None if each is None else {**dataclasses.asdict(each), "shares": each.fractions}
            for each in comparison.variances
        ],
    }


def _setting(row: Row) -> dict[str, Any]:
    low, high = row.one_test_set
    seeds = row.seed_variance
    return {
        "name": row.name,
        "label": row.setting.label,
        "values": row.setting.values,
        "runs": [str(run.folder) for run in row.setting.runs],
        "num_splits": design(row.setting.cells)[0],
        "num_seeds": design(row.setting.cells)[1],
        **{
            key: None if each is None else dataclasses.asdict(each)
            for key, each in row.metrics.items()
        },
        "one_test_set": {"num": row.num_test, "low": low, "high": high},
        "seed_variance": None if seeds is None else {**vars(seeds), "noise": seeds.noise},
    }


def _trial(trial: Trial, adjusted: Adjusted | None) -> dict[str, Any]:
    outcome = trial.outcome
    return {
        "about": "test_accuracy",
        "method": trial.method or None,
        "difference": trial.difference,
        "low": None if outcome is None else outcome.low,
        "high": None if outcome is None else outcome.high,
        "p": None if outcome is None else outcome.p,
        "p_holm": None if adjusted is None else adjusted.p,
        "simultaneous_low": None if adjusted is None else adjusted.low,
        "simultaneous_high": None if adjusted is None else adjusted.high,
    }


def _effect(effect: Effect) -> dict[str, Any]:
    return {
        "key": effect.key,
        "reference": effect.reference,
        "levels": [
            {
                "value": level.value,
                "num_pairs": level.num_pairs,
                **_trial(level.trial, level.adjusted),
                "words": level.words(),
            }
            for level in effect.levels
        ],
    }


def _verdict(comparison: Comparison, verdict: Verdict) -> dict[str, Any]:
    winner = verdict.winner
    return {
        "first": comparison.name_of(verdict.first),
        "second": comparison.name_of(verdict.second),
        **_trial(verdict.trial, verdict.adjusted),
        "winner": None if winner is None else comparison.name_of(winner),
        "posterior": None if verdict.posterior is None else dataclasses.asdict(verdict.posterior),
        "words": verdict.words(),
    }


def _csv_row(row: Row) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, summary in row.metrics.items():
        for part in ("mean", "std", "low", "high"):
            values[f"{key}_{part}"] = None if summary is None else getattr(summary, part)
    low, high = row.one_test_set
    return {
        "name": row.name,
        **{key: shown(value) for key, value in row.setting.values.items()},
        "runs": len(row.setting.runs),
        "splits": design(row.setting.cells)[0],
        "seeds": design(row.setting.cells)[1],
        **values,
        "one_test_set_low": low,
        "one_test_set_high": high,
    }


def _csv_verdicts(comparison: Comparison, row: Row) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for verdict in comparison.verdicts:
        if verdict.second is row.setting:
            name, trial = comparison.name_of(verdict.first), verdict.trial
            known = verdict.adjusted
            values[f"{name}_difference"] = None if trial.difference is None else -trial.difference
            values[f"{name}_difference_low"] = None if known is None else -known.high
            values[f"{name}_difference_high"] = None if known is None else -known.low
            values[f"{name}_p"] = None if trial.outcome is None else trial.outcome.p
            values[f"{name}_p_holm"] = verdict.p
            if (posterior := verdict.posterior) is not None:
                values |= {
                    f"{name}_better": posterior.worse,
                    f"{name}_equal": posterior.equal,
                    f"{name}_worse": posterior.better,
                }
    return values


def _csv_variance(variance: Variance | None) -> dict[str, Any]:
    if variance is None:
        return {}
    return {f"variance_{source}": value for source, value in variance.components.items()}
