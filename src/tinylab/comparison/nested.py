"""Nested cross-validation: the accuracy of tuning and training together on unseen images.

The search in each fold selects by that fold's own validation part, and its selection is tested on
the images held out from the whole search. Selecting among many settings by one score biases that
score; this one stays unbiased (Varma and Simon, BMC Bioinformatics 7, 2006).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from tinylab.comparison.statistics import corrected_t, have_spread
from tinylab.config.metrics import with_interval
from tinylab.store.collect import read
from tinylab.store.run import Run
from tinylab.store.sweep import SweepFolder
from tinylab.ui.tables import Section, columns_of

MEANING = (
    "This estimates the whole procedure, including tuning, on new images of the same kind: no test "
    "image was used to select its fold's setting. It is not the accuracy of a single setting; to "
    "get a network to use, run the same search without sweep.nested."
)
METHOD = (
    "CI: t over the folds, corrected for their shared training images (Nadeau and Bengio 2003)."
)


@dataclass(frozen=True)
class Fold:
    """The selection of one fold. ``val``, ``test``: accuracies, means over its repeats."""

    number: int
    setting: str
    trials: int
    val: float
    test: float


@dataclass(frozen=True)
class Estimate:
    """The test accuracy of searching and training: the mean over folds with its 95% CI.

    ``low`` and ``high`` are None where all folds have the same accuracy.
    """

    name: str
    folds: tuple[Fold, ...]
    mean: float
    low: float | None
    high: float | None

    @property
    def sentence(self) -> str:
        """The estimate in words."""
        mean = f"{self.mean:.2%}, the same in each,"
        if self.low is not None and self.high is not None:
            mean = with_interval(self.mean, self.low, self.high)
        folds = f"over {len(self.folds)} folds"
        return f"nested cross-validation of {self.name}: test accuracy {mean} {folds}"


def of_sweeps(paths: Sequence[str | Path]) -> list[Estimate]:
    """Return the estimates of the nested searches in ``paths`` with a result in every fold."""
    return [
        estimate for path in paths if (estimate := of_sweep(SweepFolder(Path(path)))) is not None
    ]


def of_sweep(folder: SweepFolder) -> Estimate | None:
    """Return the estimate of a nested search; None if it is not one, or a fold has no result."""
    state = folder.state() if folder.is_sweep() else None
    if state is None or folder.jobs() is None or not state.get("nested"):
        return None
    listed = [_fold(folder, row) for row in state["nested"]]
    folds = tuple(fold for fold, _ in filter(None, listed))
    if len(folds) < len(listed) or len(folds) < 2:
        return None
    scores = [fold.test for fold in folds]
    mean = fmean(scores)
    if not have_spread(scores):
        return Estimate(folder.path.resolve().name, folds, mean, None, None)
    ratio = fmean(ratio for _, ratio in filter(None, listed))
    outcome = corrected_t(scores, ratio)
    low, high = max(outcome.low, 0.0), min(outcome.high, 1.0)
    return Estimate(folder.path.resolve().name, folds, mean, low, high)


def _fold(folder: SweepFolder, row: dict[str, Any]) -> tuple[Fold, float] | None:
    """Return one fold, and the ratio of its test set to its training set."""
    known = folder.jobs() or {}
    runs = [read(folder.run_path(name)) for name in row["run_ids"] if name in known]
    finished = [run for run in runs if isinstance(run, Run)]
    if not finished or len(finished) < len(row["run_ids"]):
        return None
    val, test = (
        fmean(run.metric(name) or 0.0 for run in finished)
        for name in ("val_accuracy", "test_accuracy")
    )
    data = finished[0].result.dataset
    fold = Fold(int(row["fold"]), str(row["setting"]), int(row["trials"]), val, test)
    return fold, data.num_test / data.num_train


def sections(estimates: Sequence[Estimate]) -> list[Section]:
    """Return each estimate with the selection of every fold."""
    return [
        Section(
            [each.sentence],
            columns_of(HEAD, [row(fold) for fold in each.folds]),
            [MEANING, METHOD],
        )
        for each in estimates
    ]


HEAD = ("fold", "selected setting", "trials", "val acc", "test acc")


def row(fold: Fold) -> list[str]:
    """Return the table cells of a fold."""
    accuracies = [f"{fold.val:.2%}", f"{fold.test:.2%}"]
    return [str(fold.number), fold.setting, str(fold.trials), *accuracies]
