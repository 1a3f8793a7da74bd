"""The trials of a search and their states: proposed, repeated over seeds, ended or pruned.

A trial is a setting with its repeats, one run each. These functions update a trial from the state
of its runs, and need neither the sweep's folder nor the processes that train the runs.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean
from typing import TYPE_CHECKING, Any

from tinylab.config.identity import run_id
from tinylab.config.metrics import METRICS
from tinylab.sweeps.job import Job
from tinylab.sweeps.pruning import Others, is_hopeless

if TYPE_CHECKING:  # a grid needs no Optuna, which takes half a second to import
    from optuna.trial import Trial as Asked


@dataclass(eq=False)
class Repeat:
    """A run of a trial. Composing its job takes 5 ms, so it is done lazily."""

    compose: Callable[[], Job]
    state: str = "waiting"  # running, finished, failed, pruned
    value: float | None = None
    epochs: int = 0  # reported to the trial

    @cached_property
    def job(self) -> Job:
        """The job."""
        return self.compose()

    @cached_property
    def run_id(self) -> str:
        """The id of its run."""
        return run_id(self.job.config)


@dataclass(eq=False)
class Trial:
    """A proposal with its repeats, in the order in which they run.

    ``varied``: what distinguishes it from other trials, as typed. ``reported``: the mean over the
    repeats so far, by the steps of ``pruning``.
    """

    number: int
    varied: dict[str, str]
    repeats: tuple[Repeat, ...]
    asked: "Asked"  # for Optuna
    state: str = "running"  # finished, failed, pruned
    reported: dict[int, float] = field(default_factory=dict)

    @property
    def value(self) -> float | None:
        """The mean over all repeats of a finished trial; None if one has no value."""
        values = [each.value for each in self.repeats if each.value is not None]
        is_whole = self.state == "finished" and len(values) == len(self.repeats)
        return fmean(values) if is_whole else None


@dataclass(frozen=True)
class Rules:
    """The criteria for trials. ``stride``: the maximum number of epochs of any run."""

    metric: str
    prune: str
    stride: int


def next_repeat(trial: Trial, rules: Rules) -> Repeat | None:
    """Return the repeat to run next; None if the trial has ended, or must wait for a running one.

    If trials are pruned, each repeat decides whether there is another.
    """
    if trial.state != "running":
        return None
    if rules.prune != "none" and any(each.state == "running" for each in trial.repeats):
        return None
    return next((each for each in trial.repeats if each.state == "waiting"), None)


def tell_epoch(
    trial: Trial, repeat: Repeat, row: Mapping[str, Any], rules: Rules, trials: Sequence[Trial]
) -> bool:
    """Report an epoch of a run; False if the trial is hopeless after it.

    The last epoch is reported by the result. ``trials``: all trials.
    """
    epoch, value = row["epoch"], row.get(rules.metric)
    if epoch <= repeat.epochs or value is None:
        return True
    repeat.epochs = epoch
    index = trial.repeats.index(repeat)
    before = _values(trial.repeats[:index])
    if epoch >= repeat.job.config.train.epochs or before is None:
        return True
    return _tell(trial, index * rules.stride + epoch, fmean([*before, value]), rules, trials)


def end_repeat(
    trial: Trial,
    repeat: Repeat,
    state: str,
    value: float | None,
    rules: Rules,
    trials: Sequence[Trial],
    judge: bool = True,
) -> None:
    """Note how a run, and perhaps its trial, has ended.

    ``judge=False``: the trial continued after this run, so it was not hopeless.
    """
    repeat.state, repeat.value = state, value
    if trial.state != "running":
        return
    if state in ("failed", "pruned"):
        trial.state = state
    elif all(each.state == "finished" for each in trial.repeats):
        trial.state = "finished"
    else:
        goes_on = [
            _tell(trial, index * rules.stride, fmean(values), rules, trials)
            for index in range(1, len(trial.repeats))
            if index * rules.stride not in trial.reported
            and (values := _values(trial.repeats[:index])) is not None
        ]
        trial.state = "running" if all(goes_on) or not judge else "pruned"
    if trial.state == "pruned":
        for each in trial.repeats:
            each.state = "pruned" if each.state == "waiting" else each.state


def _values(repeats: Sequence[Repeat]) -> list[float] | None:
    """Return the values of finished repeats; None if one is not finished."""
    values = [each.value for each in repeats if each.value is not None]
    return values if len(values) == len(repeats) else None


def _tell(trial: Trial, step: int, value: float, rules: Rules, trials: Sequence[Trial]) -> bool:
    trial.reported[step] = value
    trial.asked.report(value, step)
    if rules.prune == "none":
        return True
    others = [each for each in trials if each is not trial]
    known = Others(
        finished=[_goodness(each, rules) for each in others if each.state == "finished"],
        all=[_goodness(each, rules) for each in others],
    )
    return not is_hopeless(rules.prune, _goodness(trial, rules), step, rules.stride, known)


def _goodness(trial: Trial, rules: Rules) -> dict[int, float]:
    """Return the values of a trial by step, larger is better; the worst if not finite."""
    sign = -1.0 if METRICS[rules.metric].better == "lower" else 1.0
    return {
        step: -math.inf if math.isnan(value) else sign * value
        for step, value in trial.reported.items()
    }
