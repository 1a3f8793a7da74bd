"""How a shared study grows: many workers and trials, whose trainings are simulated.

    PYTHONPATH=tests:src python tests/benchmarks/many_workers.py --workers 200 --trials 10000

Seconds are drawn and accuracies come from a formula, so nothing is trained; the study's journal,
its lock and its flushes are real. One process plays all workers. One of them is measured: as among
real ones, it reads what all others have written since it last asked. Prints a line each time that
the number of trials has doubled.
"""

import argparse
import heapq
import random
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

from search_kit import AXES, QuickComposer, write_result
from tinylab.config import code
from tinylab.config.schema import SweepConfig
from tinylab.store.sweep import sweep_folder
from tinylab.sweeps import leaderboard
from tinylab.sweeps.job import Job
from tinylab.sweeps.shared import Shared
from tinylab.sweeps.space import Space
from tinylab.ui.console import say

FIRST = 125  # trials at the first printed line
HEAD = ("trials", "ask ms", "lock ms", "end ms", "journal MB", "join s", "table s", "sweep.json s")


class Alive:
    """The heartbeat of a worker that does not die."""

    seconds = 60.0

    def __init__(self, name: str) -> None:
        self.name = name

    def dead(self, names: object) -> set[str]:
        """Nobody."""
        return set()


def worker(outputs: Path, name: str, search: str, trials: int) -> Shared:
    """One worker's view of the study."""
    asked = SweepConfig(search=search, trials=trials)
    composer: Any = QuickComposer(asked, outputs, lambda varied: False)
    space = Space([], list(AXES), asked)
    base = composer.job([], {axis.key: axis.values[0] for axis in AXES})
    folder = sweep_folder(str(outputs), "study")
    folder.path.mkdir(parents=True, exist_ok=True)
    heartbeat: Any = Alive(name)
    return Shared(space, composer, folder, [base], heartbeat)


def taken(plan: Shared, times: list[float]) -> Job | None:
    """The next run, and how long it took to get it."""
    started = time.perf_counter()
    job = plan.next_job()
    times.append(time.perf_counter() - started)
    return job


def report(outputs: Path, plan: Shared, times: list[list[float]], search: str, trials: int) -> None:
    """One line of the table. ``times``: of asking, of asking without reading, of ending."""
    started = time.perf_counter()
    joined = worker(outputs, "joins", search, trials)
    join = time.perf_counter() - started
    started = time.perf_counter()
    leaderboard.rows_of_search(joined.trials)
    table = time.perf_counter() - started
    started = time.perf_counter()
    plan.write_state()
    written = time.perf_counter() - started
    size = (outputs / "sweeps/study/journal.log").stat().st_size / 1e6
    means = [1000 * sum(each) / max(1, len(each)) for each in times]
    cells = [
        *(f"{mean:.1f}" for mean in means),
        *(f"{x:.2f}" for x in (size, join, table, written)),
    ]
    say("".join(f"{cell:>13}" for cell in (len(plan.trials), *cells)))


def main() -> None:
    """Run the simulation."""
    parser = argparse.ArgumentParser(description="Simulate many workers of one study.")
    parser.add_argument("--workers", type=int, default=200)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--search", default="tpe", choices=("tpe", "random"))
    options = parser.parse_args()
    chance = random.Random(0)
    say("".join(f"{name:>13}" for name in HEAD))
    with tempfile.TemporaryDirectory() as name:
        outputs = Path(name)
        how = options.search, options.trials
        one, others = (worker(outputs, each, *how) for each in ("one", "others"))
        running: list[tuple[float, int, Shared, Job]] = []
        times: list[list[float]] = [[], [], []]
        now, number, mark = 0.0, 0, FIRST
        while True:
            while len(running) < options.workers:
                plan = others if number % options.workers else one
                if (job := taken(plan, times[plan is others])) is None:
                    break
                heapq.heappush(running, (now + chance.lognormvariate(4, 1), number, plan, job))
                number += 1
            if not running:
                break
            now, _, plan, job = heapq.heappop(running)
            with patch.object(code, "of_result", lambda config: "0"):  # 20 ms
                write_result(job)
            started = time.perf_counter()
            plan.ended(job, "finished")
            times[2].append(time.perf_counter() - started)
            if number >= mark:
                report(outputs, others, times, *how)
                times, mark = [[], [], []], 2 * mark
        report(outputs, others, times, *how)
    say(f"{number} trials in {now / 3600:.1f} pretended hours")


if __name__ == "__main__":
    main()
