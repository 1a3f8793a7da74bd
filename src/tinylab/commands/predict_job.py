"""The work of ``tinylab predict``, which imports torch: classify image files."""

import argparse
import itertools
import math
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TextIO

import numpy as np

from tinylab.config.metrics import with_interval
from tinylab.data.listing import kinds
from tinylab.errors import UserError
from tinylab.inference import Ensemble, is_run, load_ensemble, the_run
from tinylab.predict import pictures
from tinylab.predict.classify import BATCH_BYTES, BATCH_SIZE, Prediction, classify, marks_of
from tinylab.predict.formats import FORMATS
from tinylab.predict.gather import gather
from tinylab.system.files import NAMED, write_bytes
from tinylab.ui.console import printable, say, track

SHEET = 400  # maximum number of pictures on a sheet


def predict(options: argparse.Namespace, out: TextIO) -> None:
    """Classify the files that ``options`` name, and write predictions to ``out``."""
    paths = list(itertools.dropwhile(lambda path: is_run(Path(path)), options.path))
    run_paths = [options.run, *map(Path, options.path[: len(options.path) - len(paths)])]
    _refuse_impossible(options)
    _refuse_swapped(options)
    others: list[str] = []
    files = gather(paths, others)
    passed_over = f"skipped files without an image suffix: {kinds(others)}" if others else ""
    if not files:
        raise UserError(
            f"{' '.join(paths) or 'PATH'}: no image files to classify"
            f"{f' ({passed_over})' if others else ''}"
        )
    ensemble = load_ensemble([the_run(path) for path in run_paths], options.device, calibrated=True)
    first = ensemble.first
    read = pictures.reader(first.config.dataset, options.invert, first.image_shape)
    _introduce(ensemble, options.reject)
    if others:
        say(passed_over)
    predictions: Iterable[Prediction] = classify(ensemble, files, read, options.reject)
    if len(files) > BATCH_SIZE and not out.isatty():  # there, the printed lines show the progress
        predictions = track(predictions, "classifying", len(files))
    room = BATCH_BYTES // math.prod(ensemble.first.image_shape)
    sheet = min(SHEET, room) if options.sheet is not None else 0
    tally = Tally(sheet, options.invert, options.reject)
    top = min(options.top, len(ensemble.classes))
    marks = marks_of(ensemble, options.reject)
    for text in FORMATS[options.format](tally.watch(predictions), ensemble.classes, top, marks):
        out.write(text.encode(out.encoding, "backslashreplace").decode(out.encoding))
    out.flush()
    if tally.shown:
        _write_sheet(options.sheet, tally.shown, ensemble.classes, len(files))
    tally.say()
    if tally.faults:
        raise UserError(
            f"{len(tally.faults):,} of {len(files):,} files cannot be read (listed above)"
        )


def _refuse_impossible(options: argparse.Namespace) -> None:
    if options.top < 1:
        raise UserError(f"--top {options.top}: expected 1 or more")
    if options.reject is not None and not 0 < options.reject <= 1:
        raise UserError(f"--reject {options.reject:g}: expected a probability, such as 0.9")
    if options.sheet is not None and options.sheet.suffix.lower() != ".png":
        raise UserError(f"--sheet {options.sheet}: expected a name that ends in .png")


def _refuse_swapped(options: argparse.Namespace) -> None:
    """Raise UserError for an image before the run, unless it may be a mistyped run."""
    if is_run(options.run):
        return
    runs = [path for path in options.path if is_run(Path(path))]
    if runs and (options.run.exists() or len(runs) == len(options.path)):
        command = shlex.join(["tinylab", "predict", *runs, str(options.run)])
        more = " ..." if len(runs) < len(options.path) else ""
        raise UserError(f"{options.run}: not a run; the run comes first: {command}{more}")


def _introduce(ensemble: Ensemble, reject: float | None) -> None:
    for member in ensemble.members:
        test = member.result.test
        accuracy = with_interval(test.accuracy, *test.accuracy_ci95)
        say(f"network {member.name}: test accuracy {accuracy}")
        if member.calibration is not None:
            say(f"        {_calibration(member.calibration.temperature)}")
        elif reject is not None:
            say("        probabilities are not calibrated; see tinylab evaluate RUN --calibrate")
    if len(ensemble.members) > 1:
        say(f"        probabilities are averaged over these {len(ensemble.members)} networks")


def _calibration(temperature: float) -> str:
    if temperature == 1:
        return "calibrated: on the validation images the temperature stays 1"
    return f"calibrated: temperature {temperature:.3f}, fitted on validation images"


class Tally:
    """Statistics collected from the predictions that pass through."""

    def __init__(self, sheet: int, invert: str, reject: float | None) -> None:
        self.sheet = sheet  # pictures on the sheet
        self.invert = invert
        self.reject = reject
        self.total = 0  # number of readable files
        self.shown: list[Prediction] = []
        self.faults: list[Prediction] = []
        self.done = {"inverted": 0, "fitted": 0, "several": 0}
        self.marked = {"rejected": 0, "unlike": 0}

    def watch(self, predictions: Iterable[Prediction]) -> Iterator[Prediction]:
        """Yield the predictions unchanged."""
        for prediction in predictions:
            if prediction.picture is None:
                self.faults.append(prediction)
            elif len(self.shown) < self.sheet:
                self.shown.append(prediction)
            for what in self.done:
                self.done[what] += getattr(prediction.picture, what, False)
            for what in self.marked:
                self.marked[what] += prediction.marks.get(what, False)
            self.total += prediction.picture is not None
            yield prediction

    def say(self) -> None:
        """Describe the preprocessing, and list the files that could not be read."""
        judged = (
            ", judged by the border; --invert no for light ink" if self.invert == "auto" else ""
        )
        meaning = {
            "inverted": f"dark ink on a light background{judged}",
            "fitted": "cropped to the ink, scaled and centered",
            "several": "several digits in one picture, read as one; crop them apart",
        }
        for what, count in self.done.items():
            if count:
                say(f"{what}: {count:,} ({meaning[what]})")
        if self.reject is not None:
            say(
                f"rejected: {self.marked['rejected']:,} of {self.total:,} images need a person "
                f"(highest probability below {self.reject:g})"
            )
        if unlike := self.marked["unlike"]:
            say(
                f"unlike: {unlike:,} of {self.total:,} images differ from the training images "
                "more than 99 in 100 validation images; do not trust their classes"
            )
        for fault in self.faults:
            say(f"cannot be read: {printable(fault.file)}: {fault.fault}")


def _write_sheet(path: Path, shown: list[Prediction], classes: tuple[str, ...], total: int) -> None:
    """Save the preprocessed pictures with class, probability and file name."""
    from tinylab.ui import plots

    captions = []
    for prediction in shown:
        [(label, probability)] = prediction.best(1)
        name = printable(Path(prediction.file).name)
        name = name if len(name) < 18 else f"{name[:16]}…"
        captions.append(f"{classes[label]}  {probability:.0%}\n{name}")
    pixels = np.stack([prediction.picture.pixels for prediction in shown if prediction.picture])
    title = f"preprocessed images: {len(shown)} of {total:,} files"
    write_bytes(path, plots.to_png(plots.render(plots.gallery(pixels, captions, title))), NAMED)
    say(f"sheet: {path}")
