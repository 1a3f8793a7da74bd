"""A finished run in Python: config, metrics, network, predictions and figures."""

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tinylab.api.frames import pandas
from tinylab.config import code
from tinylab.config.compose import restore
from tinylab.config.metrics import with_interval
from tinylab.config.schema import Config
from tinylab.errors import UserError
from tinylab.reporting import mistakes
from tinylab.store.result import Result, TestPart
from tinylab.store.run import Run

if TYPE_CHECKING:
    from pandas import DataFrame
    from torch import nn

    from tinylab.inference import Ensemble
    from tinylab.ui.plots import Drawing

PathLike = str | Path
AT_ONCE = 256  # images


@dataclass(frozen=True, eq=False, repr=False)
class TrainedRun:
    """A finished run; everything is read lazily from its folder, and its data is not needed.

    Every attribute raises UserError if the folder no longer contains it.
    """

    run: Run

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self.run.folder

    @property
    def name(self) -> str:
        """The folder's name, which is the run's id."""
        return self.run.name

    @property
    def result(self) -> Result:
        """The contents of ``result.json``."""
        return self.run.result

    @cached_property
    def config(self) -> Config:
        """The full config."""
        try:
            code.know(self.result.config, self.path)
            return restore(self.result.config)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{self.path}: its config was written by another version of tinylab ({error}); "
                "result.config has the values"
            ) from error

    @property
    def test(self) -> TestPart:
        """The metrics on the test set: ``accuracy``, ``accuracy_ci95``, ``loss`` and others."""
        return self.result.test

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the probabilities."""
        return tuple(self.result.dataset.classes)

    @property
    def metrics(self) -> "DataFrame":
        """One row per epoch: losses (nats), accuracies (fractions), learning rate, seconds."""
        return pandas().DataFrame(self.run.files.history())

    @property
    def confusion(self) -> "DataFrame":
        """Counts of test images by true class (rows) and predicted class (columns)."""
        names = {
            axis: pandas().Index(self.classes, name=name)
            for axis, name in (("index", "true"), ("columns", "predicted"))
        }
        return pandas().DataFrame(mistakes.read(self.run).matrix, **names)

    def mistakes(self) -> "DataFrame":
        """The misclassified test images, highest predicted probability first.

        Columns: ``index`` (in the dataset), ``true``, ``predicted``, ``probability``.
        """
        predictions = mistakes.read(self.run)
        wrong = np.flatnonzero(predictions.label != predictions.predicted)
        order = wrong[np.argsort(-predictions.probability[wrong], kind="stable")]
        names = np.array(self.classes, object)
        return pandas().DataFrame(
            {
                "index": predictions.index[order],
                "true": names[predictions.label[order]],
                "predicted": names[predictions.predicted[order]],
                "probability": predictions.probability[order],
            }
        )

    # ------------------------------------------------------------ network

    @cached_property
    def _ensemble(self) -> "Ensemble":
        from tinylab.inference import load_ensemble  # imports torch

        return load_ensemble([self.run], "auto", calibrated=True)

    @property
    def model(self) -> "nn.Module":
        """The tested network in evaluation mode, on the best available device.

        It takes normalized float32 images (N, C, H, W) and returns logits (N, num_classes).
        """
        return self._ensemble.first.model

    def predict(self, images: NDArray[np.uint8] | PathLike | Sequence[PathLike]) -> NDArray[Any]:
        """Return the predicted class names, (N,); see ``predict_proba`` for ``images``."""
        best = self.predict_proba(images).argmax(axis=1)
        names: NDArray[Any] = np.array(self.classes)[best]
        return names

    def predict_proba(
        self, images: NDArray[np.uint8] | PathLike | Sequence[PathLike]
    ) -> NDArray[np.float64]:
        """Return class probabilities, (N, num_classes), calibrated if the run is.

        images: uint8 (N, C, H, W), or (N, H, W) for gray images, of the training images' size; or
        files, folders, globs, or a list of them, read as by ``tinylab predict``. Raises UserError
        for other arrays and for files that cannot be read.
        """
        if isinstance(images, str | Path):
            return self._of_files([images])
        if isinstance(images, Sequence) and all(isinstance(each, str | Path) for each in images):
            return self._of_files(images)
        pixels = self._checked(np.asarray(images))
        parts = [
            self._ensemble.probabilities(pixels[start : start + AT_ONCE])[0]
            for start in range(0, len(pixels), AT_ONCE)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, len(self.classes)))

    def _checked(self, images: NDArray[Any]) -> NDArray[np.uint8]:
        C, H, W = self.result.dataset.image_shape
        pixels = images[:, None] if images.ndim == 3 and C == 1 else images
        if pixels.dtype != np.uint8 or pixels.shape[1:] != (C, H, W):
            gray = f" or (N, {H}, {W})" if C == 1 else ""
            is_float = np.issubdtype(pixels.dtype, np.floating)
            remedy = "\n  multiply values from 0 to 1 by 255, and convert to uint8" * is_float
            raise UserError(
                f"images: expected uint8 (N, {C}, {H}, {W}){gray}, not {images.dtype} "
                f"{images.shape}{remedy}"
            )
        return np.ascontiguousarray(pixels)

    def _of_files(self, paths: Sequence[PathLike]) -> NDArray[np.float64]:
        from tinylab.predict import pictures
        from tinylab.predict.classify import classify
        from tinylab.predict.gather import gather

        files = gather(["./-" if str(path) == "-" else str(path) for path in paths])
        if not files:
            raise UserError(f"{', '.join(map(str, paths)) or '[]'}: no image files to classify")
        ensemble = self._ensemble
        read = pictures.reader(ensemble.first.config.dataset, "auto", ensemble.first.image_shape)
        results = list(classify(ensemble, files, read))
        faults = [each for each in results if each.picture is None]
        if faults:
            raise UserError(
                f"{len(faults):,} of {len(files):,} files cannot be read; first: "
                f"{faults[0].file}: {faults[0].fault}"
            )
        return np.stack([each.probabilities for each in results])

    # ------------------------------------------------------------ display

    def plot(self) -> "Drawing":
        """Plot loss and accuracy by epoch; returns a matplotlib figure, which notebooks display."""
        from tinylab.ui import plots

        history = self.run.files.history()
        if not history:
            raise UserError(f"{self.run.files.metrics_file} cannot be read")
        return plots.curves(history, self.name)

    def __repr__(self) -> str:
        accuracy = with_interval(self.test.accuracy, *self.test.accuracy_ci95)
        return f"<run {self.path}: test accuracy {accuracy}>"

    def _repr_html_(self) -> str:
        """For notebooks: a summary and the learning curves."""
        from tinylab.ui import plots

        result = self.result
        accuracy = with_interval(self.test.accuracy, *self.test.accuracy_ci95)
        val = "-" if result.val is None else f"{result.val.accuracy:.2%}"
        rows = {
            "run": str(self.path),
            "dataset": f"{result.dataset.name}, {result.dataset.num_train:,} training images",
            "model": f"{result.config['model']['name']}, {result.parameters}",
            "epochs": f"{result.epochs}, tested at epoch {result.best_epoch}",
            "validation accuracy": val,
            "test accuracy": f"{accuracy}, on {self.test.num:,} images",
        }
        lines = [
            f"<tr><th>{name}</th><td>{html.escape(value)}</td></tr>" for name, value in rows.items()
        ]
        picture = base64.b64encode(plots.to_png(plots.render(self.plot()))).decode()
        curves = f'<img alt="loss and accuracy by epoch" src="data:image/png;base64,{picture}">'
        return f"<table>{''.join(lines)}</table>{curves}"
