"""The jobs of ``tinylab train -m a=1,2 b=x,y``: every combination, composed and checked."""

import itertools

from tinylab.errors import UserError
from tinylab.sweeps.job import Composer, Job, refuse_duplicates
from tinylab.sweeps.space import Space
from tinylab.sweeps.standings import by_setting, standings_of


def expand(space: Space, composer: Composer) -> list[Job]:
    """Compose and check the jobs of a grid. Raises UserError for the first invalid one."""
    for axis in space.axes:
        if axis.interval is not None:
            raise UserError(
                f"{axis}: a grid needs a list of values; for a search: "
                "sweep.search=tpe sweep.trials=20"
            )
    combinations = combinations_of(space)
    if not combinations:
        raise UserError(
            "sweep.exclude: every combination is excluded; expected at least one to run"
        )
    jobs: list[Job] = []
    for number, varied in enumerate(combinations, start=1):
        try:
            jobs.append(composer.job(space.fixed, varied))
        except UserError as error:
            raise UserError(f"job {number} of {len(combinations)}: {error}") from error
    refuse_duplicates(jobs)
    return jobs


def combinations_of(space: Space) -> list[dict[str, str]]:
    """Return every combination of the axes' values except excluded ones, as overrides."""
    choices = [[axis.assigns(value) for value in axis.values] for axis in space.axes]
    products = (
        {key: text for each in parts for key, text in each.items()}
        for parts in itertools.product(*choices)
    )
    return [varied for varied in products if not space.is_excluded(varied)]


class Grid:
    """The plan of a sweep without a search: run its missing jobs to the end."""

    def __init__(self, jobs: list[Job], missing: list[Job]) -> None:
        self._waiting = list(reversed(missing))
        self._unfinished = {id(job) for job in missing}
        self._setting_of = {id(job): each for each in by_setting(jobs) for job in each}
        self._standings = standings_of(jobs, missing)
        self.num_ended = len(jobs) - len(missing)

    def next_job(self) -> Job | None:
        """Return the next job."""
        return self._waiting.pop() if self._waiting else None

    def goes_on(self, job: Job, row: dict[str, float | None]) -> bool:
        """Always true: a grid prunes nothing."""
        return True

    def ended(self, job: Job, state: str) -> None:
        """Note that a job has ended, which only affects which checkpoints stay."""
        self.num_ended += 1
        if state == "finished":
            self._unfinished.discard(id(job))
            jobs = self._setting_of[id(job)]
            if not any(id(each) in self._unfinished for each in jobs):
                self._standings.finished(jobs)

    @property
    def best(self) -> str:
        """The best setting so far."""
        return self._standings.best
