"""The functions of ``import tinylab``: the commands, returning their results.

Overrides are strings as on the command line, or dicts with dotted keys; top-level keys may be
keyword arguments.
"""

import shlex
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinylab.api.arguments import Overrides, arguments
from tinylab.api.compared import Comparisons
from tinylab.api.frames import pandas
from tinylab.api.swept import Sweep, run_sweep
from tinylab.api.trained import TrainedRun
from tinylab.commands.compare import DEFAULT_METRIC, collect_finished, refuse_unknown_metric
from tinylab.commands.report import default_path, write
from tinylab.commands.train_job import refuse_sweep
from tinylab.commands.train_job import train as train_config
from tinylab.comparison import comparison
from tinylab.comparison.verdicts import TESTS
from tinylab.config.compose import compose_plain
from tinylab.config.schema import Config
from tinylab.config.values import did_you_mean
from tinylab.errors import Stopped, UserError
from tinylab.store.query import in_order, select
from tinylab.store.run import open_run
from tinylab.system.machine import tuned
from tinylab.system.project import default_outputs

if TYPE_CHECKING:
    from pandas import DataFrame

Runs = str | Path | TrainedRun | Sweep  # a run, or a path to search for runs


def compose(*overrides: Overrides, **values: Any) -> Config:
    """Return the config that ``train`` would train. Raises UserError if it is invalid."""
    return compose_plain(arguments(overrides, values))


def train(*overrides: Overrides, **values: Any) -> TrainedRun:
    """Train a run, resume it, or return its finished result, as ``tinylab train`` does.

    Example: ``train("model=mlp", {"optim.lr": 0.01}, seed=1, outputs="o")``. Raises UserError for
    errors that the user can fix, and KeyboardInterrupt after an interrupt, with a checkpoint saved
    from which the same call resumes. Process-wide state (torch's threads, determinism and
    generators, signal handlers) is restored on return.
    """
    given = arguments(overrides, values)
    with tuned():
        config = compose_plain(given)
        refuse_sweep(config)
        with _interrupts():
            run = train_config(config, shlex.join(["tinylab", "train", *given]))
    return TrainedRun(open_run(run.folder.absolute()))


@contextmanager
def _interrupts() -> Iterator[None]:
    """Re-raise a signal that stopped a training, now that its checkpoint is saved."""
    try:
        yield
    except Stopped as stop:
        if stop.signum == signal.SIGINT:
            raise KeyboardInterrupt from stop
        signal.raise_signal(stop.signum)
        raise


def sweep(*overrides: Overrides, **values: Any) -> Sweep:
    """Run a sweep in worker processes, as ``tinylab train -m`` does.

    Example: ``sweep(model=["mlp", "baseline"], seed=range(3))``; lists are the values to sweep
    over. Raises UserError before the first job if any job is invalid, and after the last one if any
    has failed; KeyboardInterrupt after an interrupt. The same call runs what is missing.
    """
    return run_sweep(arguments(overrides, values, with_axes=True))


def load(path: str | Path) -> TrainedRun:
    """Load a finished run, or a sweep's best run by validation. Raises UserError."""
    from tinylab.inference import the_run  # imports torch

    return TrainedRun(the_run(Path(path).expanduser().absolute()))


def runs(folder: str | Path | None = None, *filters: str) -> "DataFrame":
    """Return one row per run in an outputs folder, newest last: state, config keys and metrics.

    folder: None means the project's outputs folder, or ``outputs``. ``filters``: as for ``tinylab
    list``, such as ``runs("outputs", "model=mlp", "val_accuracy>0.9")``.
    """
    matches = in_order(select(filters, Path(folder or default_outputs()).expanduser()), "when")
    rows = [{**run.row, "folder": str(run.folder.absolute())} for run in matches]
    return pandas().DataFrame(rows)


def compare(
    *sources: Runs,
    by: Sequence[str] | str | None = None,
    metric: str = DEFAULT_METRIC,
    pairs: Sequence[tuple[str, str]] = (),
    test: str = TESTS[0],
    with_variance: bool = False,
    rope: float | None = None,
    effects: Sequence[str] = (),
) -> Comparisons:
    """Compare finished runs, as ``tinylab compare`` does; returns one comparison per dataset.

    sources: runs, sweeps, or their paths (default: ``outputs``). by: the keys that define a setting
    (None: all except seeds). metric: the metric to rank settings by. pairs: the settings to
    compare, by letter or values. rope: points of accuracy that count as practically equal, such as
    0.5. effects: keys whose main effects to estimate. Raises UserError if there is no finished run,
    or no such key or metric.
    """
    if test not in TESTS:
        hint = did_you_mean(test, TESTS)
        raise UserError(f"test={test}: expected one of {', '.join(TESTS)}{hint}")
    chosen, skipped = collect_finished(
        [_path(each) for each in sources] or [Path(default_outputs())]
    )
    refuse_unknown_metric("metric=", metric)
    keys = by.split(",") if isinstance(by, str) else by
    comparisons = comparison.compare(
        chosen, keys, metric, pairs, test, with_variance, rope, effects
    )
    return Comparisons(comparisons, skipped)


def report(*sources: Runs, out: str | Path | None = None) -> Path:
    """Write an HTML report of finished runs, as ``tinylab report`` does; returns its path.

    sources: runs, sweeps, or their paths (default: ``outputs``). out: None means report.html in the
    folder of the single run or sweep, otherwise in the working folder. Raises UserError if there is
    no finished run.
    """
    paths = [_path(each) for each in sources] or [Path(default_outputs())]
    file = Path(out).expanduser() if out is not None else default_path(paths)
    write(paths, file)
    return file.absolute()


def _path(source: Runs) -> Path:
    return source.path if isinstance(source, TrainedRun | Sweep) else Path(source).expanduser()
