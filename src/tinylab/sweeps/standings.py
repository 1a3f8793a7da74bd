"""The ranking of settings so far, and which checkpoints stay (``sweep.keep``)."""

import bisect
import dataclasses
from collections.abc import Collection, Sequence
from statistics import fmean

from tinylab.comparison.statistics import Cell, Cells, Summary, summarize
from tinylab.config.keys import SEEDS
from tinylab.config.metrics import CHOOSABLE, METRICS, between, goodness
from tinylab.config.schema import SweepConfig
from tinylab.sweeps.job import Job, label

Goodness = tuple[float, float]


class Standings:
    """The settings that have ended, in the leaderboard's order.

    Deletes the checkpoints of all but the best ``sweep.keep``. Runs in training, stopped or failed
    keep theirs, which are needed to resume.
    """

    def __init__(self, settings: SweepConfig) -> None:
        self._keep, self._metric = settings.keep, settings.metric
        self._ranked: list[tuple[Goodness, list[Job]]] = []  # the best ones, worst first

    def ended(self, state: str, jobs: Sequence[Job]) -> None:
        """Note that a setting has ended; failed ones are not ranked."""
        if state == "finished":
            self.finished(jobs)
        elif state == "pruned":
            self.pruned(jobs)

    def finished(self, jobs: Sequence[Job]) -> None:
        """Note that all repeats of a setting are finished."""
        if (value := _goodness(jobs, self._metric)) is None:
            return
        # Among equals the first one stays, as in the table.
        index = bisect.bisect_left(self._ranked, value, key=lambda each: each[0])
        self._ranked.insert(index, (value, list(jobs)))
        if len(self._ranked) > (self._keep or 1):
            self.pruned(self._ranked.pop(0)[1])

    def pruned(self, jobs: Sequence[Job]) -> None:
        """Note that a setting was pruned, or that enough better ones exist."""
        for job in jobs if self._keep is not None else ():
            job.files.delete_checkpoints()

    @property
    def best(self) -> str:
        """The best setting so far in words, with mean and CI; empty before the first."""
        if not self._ranked:
            return ""
        jobs, metric = self._ranked[-1][1], METRICS[self._metric]
        values = {cell_of(job): _value(job, self._metric) for job in jobs}
        known = {cell: value for cell, value in values.items() if value is not None}
        summary = summary_of(known, self._metric)
        words = f"{metric.label} {metric.format.format(summary.mean)}"
        if summary.low is not None and summary.high is not None:
            interval = between(summary.low, summary.high, metric.format)
            words += f" (95% CI {interval}, {summary.num} runs)"
        return f"{words}  {label(_shared(jobs))}"


def summary_of(values: Cells, metric: str) -> Summary:
    """Summarize the sweep's metric over the repeats of a setting; the CI is within its range."""
    summary = summarize(values, METRICS[metric].is_fraction)
    if metric == "val_loss" and summary.low is not None:
        return dataclasses.replace(summary, low=max(summary.low, 0.0))
    return summary


def cell_of(job: Job) -> Cell:
    """Return split and seed of a job, as in ``statistics``."""
    split = job.config.split
    return f"{split.seed} {split.fold}", str(job.config.seed)


def _shared(jobs: Sequence[Job]) -> dict[str, str]:
    """Return the overrides that the repeats of a setting share."""
    first = jobs[0].varied
    return {k: v for k, v in first.items() if all(job.varied.get(k) == v for job in jobs)}


def _value(job: Job, name: str) -> float | None:
    result = job.files.result()
    return None if result is None else result.metric(name)


def _goodness(jobs: Sequence[Job], metric: str) -> Goodness | None:
    """Return the value by which the leaderboard ranks a setting; None if a run has none."""
    results = [job.files.result() for job in jobs]
    means = {}
    for name in CHOOSABLE:
        values = [None if result is None else result.metric(name) for result in results]
        known = [value for value in values if value is not None]
        if len(known) == len(values):
            means[name] = fmean(known)
    is_known = {metric, "val_accuracy", "val_loss"} <= means.keys()
    return goodness(means, metric) if is_known else None


def standings_of(jobs: Sequence[Job], waiting: Collection[Job] = ()) -> Standings:
    """Return the standings of a grid, with the settings that have no pending job."""
    standings = Standings(jobs[0].config.sweep)
    unfinished = {id(job) for job in waiting}
    for each in by_setting(jobs):
        if not any(id(job) in unfinished for job in each):
            standings.finished(each)
    return standings


def by_setting(jobs: Sequence[Job]) -> list[list[Job]]:
    """Group the jobs of a grid that differ only in seeds."""
    by_values: dict[tuple[tuple[str, str], ...], list[Job]] = {}
    for job in jobs:
        values = tuple((key, text) for key, text in job.varied.items() if key not in SEEDS)
        by_values.setdefault(values, []).append(job)
    return list(by_values.values())
