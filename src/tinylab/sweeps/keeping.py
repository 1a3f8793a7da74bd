"""``sweep.keep``: of which settings the checkpoints stay, so that many trials fit a disk."""

import bisect
from collections.abc import Collection, Sequence
from statistics import fmean

from tinylab.config.keys import SEEDS
from tinylab.config.metrics import CHOOSABLE, goodness
from tinylab.config.schema import SweepConfig
from tinylab.sweeps.job import Job

Goodness = tuple[float, float]


class Keeper:
    """Deletes the checkpoints of all ended settings but the best ``keep``.

    What is being trained, was stopped or has failed keeps its own: a resume needs them.
    """

    def __init__(self, keep: int | None, metric: str) -> None:
        self._keep, self._metric = keep, metric
        self._kept: list[tuple[Goodness, list[Job]]] = []  # the worst first

    def finished(self, jobs: Sequence[Job]) -> None:
        """All repeats of a setting are finished."""
        if self._keep is None or (value := _goodness(jobs, self._metric)) is None:
            return
        # Of equals the first one stays, as it stands first in the table.
        place = bisect.bisect_left(self._kept, value, key=lambda each: each[0])
        self._kept.insert(place, (value, list(jobs)))
        if len(self._kept) > self._keep:
            self._drop(self._kept.pop(0)[1])

    def pruned(self, jobs: Sequence[Job]) -> None:
        """A setting was given up."""
        if self._keep is not None:
            self._drop(jobs)

    def _drop(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            job.files.delete_checkpoints()


def _goodness(jobs: Sequence[Job], metric: str) -> Goodness | None:
    """What the leaderboard ranks a setting by; None where a run has no such value."""
    results = [job.files.result() for job in jobs]
    means = {}
    for name in CHOOSABLE:
        values = [None if result is None else result.metric(name) for result in results]
        known = [value for value in values if value is not None]
        if len(known) == len(values):
            means[name] = fmean(known)
    is_known = {metric, "val_accuracy", "val_loss"} <= means.keys()
    return goodness(means, metric) if is_known else None


def keeper_of(settings: SweepConfig, jobs: Sequence[Job], waiting: Collection[Job] = ()) -> Keeper:
    """The keeper of a grid, which knows the settings that are finished already."""
    keeper = Keeper(settings.keep, settings.metric)
    unfinished = {id(job) for job in waiting}
    for each in by_setting(jobs):
        if not any(id(job) in unfinished for job in each):
            keeper.finished(each)
    return keeper


def by_setting(jobs: Sequence[Job]) -> list[list[Job]]:
    """The jobs of a grid, those that differ in their seeds alone together."""
    found: dict[tuple[tuple[str, str], ...], list[Job]] = {}
    for job in jobs:
        values = tuple((key, text) for key, text in job.varied.items() if key not in SEEDS)
        found.setdefault(values, []).append(job)
    return list(found.values())
