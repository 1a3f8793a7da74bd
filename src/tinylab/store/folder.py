"""A run's folder: its file names, its lock, and whether its result is valid.

Does not import torch: a finished run is returned in half a second.
"""

import contextlib
import dataclasses
import json
import os
import re
import time
import traceback
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from tinylab import data
from tinylab.config import code, options, own_metrics
from tinylab.config.identity import run_id
from tinylab.config.metrics import with_interval
from tinylab.config.schema import Config
from tinylab.data.arrays import DataAbsentError
from tinylab.data.split import Split
from tinylab.errors import UserError
from tinylab.store import calibration, lock, predictions, result
from tinylab.store.calibration import Calibration
from tinylab.store.predictions import Predictions
from tinylab.store.result import Fault, Result
from tinylab.system.files import disk_errors, read_json, write_json, write_npz, write_text
from tinylab.ui.console import log_to, say

ARCHIVED = re.compile(r"\.\d{8}-\d{6}(-\d+)?$")  # the end of a name given by RunFolder.archive


class RunFolder:
    """A run's folder, opened once per run. Files are read lazily."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_file = path / "config.yaml"
        self.split_file = path / "split.npz"
        self.log_file = path / "train.log"
        self.metrics_file = path / "metrics.jsonl"
        self.predictions_file = path / "predictions.npz"
        self.result_file = path / "result.json"
        self.failure_file = path / "failure.json"
        self.last_checkpoint = path / "last.ckpt"
        self.next_checkpoint = path / "next.ckpt"
        self.previous_checkpoint = path / "previous.ckpt"
        self.best_checkpoint = path / "best.ckpt"
        self.curves_file = path / "curves.png"
        self.confusion_file = path / "confusion.png"
        self.card_file = path / "MODEL_CARD.md"
        self.explanation_file = path / "explain.html"
        self.projector_config = path / "projector_config.pbtxt"  # the name that TensorBoard expects
        self.projector_folder = path / "projector"
        self.calibration_file = path / "calibration.npz"
        self.code_folder = path / "code"  # copies of the user's files, to be read

    @property
    def name(self) -> str:
        """The folder's name, which is the run's id unless it was archived."""
        return named(self.path).name

    def is_run(self) -> bool:
        """Whether the folder is a run's, in whatever state."""
        return any(
            file.exists() for file in (self.result_file, self.config_file, self.failure_file)
        )

    def is_surely_run(self) -> bool:
        """Whether it is certainly a run's: a config alone may be Hydra's, as in ``conf``."""
        return self.result_file.is_file() or (
            self.config_file.is_file() and self.split_file.is_file()
        )

    # ------------------------------------------------------------ writing

    def write_start(self, config: Config, split: Split, digests: NDArray[np.uint64]) -> None:
        """Write the config, the split, and digests of the pixels that training will use.

        digests: uint64 (num_images,), of all images.
        """
        text = yaml.safe_dump(dataclasses.asdict(config), sort_keys=False)
        write_text(self.config_file, text)
        write_npz(
            self.split_file, train=split.train, val=split.val, test=split.test,
            train_digests=digests[split.train], val_digests=digests[split.val],
        )  # fmt: skip
        measured = [option.file for option in options.options("metric").values()]
        files = [*code.own_files(config), *code.with_own_modules(measured)]
        self._write_code(list(dict.fromkeys(files)))
        code.keep(config)

    def _write_code(self, files: list[Path]) -> None:
        """Copy the user's own files for reference: nothing in a run's folder is ever executed."""
        folder = os.path.commonpath([file.parent for file in files]) if files else ""
        for file in files:
            copied = self.code_folder / file.relative_to(folder)
            with disk_errors(self.path):
                copied.parent.mkdir(parents=True, exist_ok=True)
            write_text(copied, file.read_text(encoding="utf-8"))

    def write_result(self, outcome: Result) -> None:
        """Write the result, which finishes the run; it includes earlier failures."""
        result.write(self.result_file, outcome)
        self.failure_file.unlink(missing_ok=True)

    def is_presented(self) -> bool:
        """Whether everything derived from a result exists: the last such file does."""
        return self.confusion_file.exists()

    def clear_events(self) -> None:
        """Delete TensorBoard's event files before they are rewritten."""
        for stale in self.event_files():
            stale.unlink()

    def event_files(self) -> list[Path]:
        """Return TensorBoard's event files."""
        pattern = "events.out.tfevents.*"
        return [*self.path.glob(pattern), *self.path.glob(f"*/{pattern}")]

    def delete_checkpoints(self) -> None:
        """Delete the resume checkpoints and tested weights, unless the run is being trained.

        If the run has a result, this waits until everything derived from it exists.
        """
        if lock.is_being_written(self.path) or (
            self.result_file.exists() and not self.is_presented()
        ):
            return
        points = self.last_checkpoint, self.next_checkpoint, self.previous_checkpoint
        for file in (*points, self.best_checkpoint):
            with contextlib.suppress(OSError):  # another user's: it only costs disk space
                file.unlink(missing_ok=True)

    # ------------------------------------------------------------ reading

    def result_or_fault(self) -> Result | Fault | None:
        """The result, or a Fault if it cannot be read; None if the run is not finished."""
        return result.read(self.result_file)

    def result(self) -> Result | None:
        """The result; None if there is none or it cannot be read."""
        outcome = self.result_or_fault()
        return outcome if isinstance(outcome, Result) else None

    def has_unreadable_result(self) -> bool:
        """Whether the result's file exists but is not a JSON object."""
        return self.result_file.exists() and read_json(self.result_file) is None

    def config(self) -> dict[str, Any]:
        """The config's values by section. Raises UserError if there are none."""
        try:
            loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # 0.6 ms in C, otherwise 4.4 ms
            values = yaml.load(self.config_file.read_text(encoding="utf-8"), loader)
        except (OSError, ValueError, yaml.YAMLError) as error:
            is_there = os.path.isdir(self.path)
            why = " ".join(str(error).split()) if is_there else "it does not exist"
            raise UserError(f"{self.path}: expected the folder of a run ({why})") from error
        if not isinstance(values, dict):
            raise UserError(f"{self.path}: expected the folder of a run (no config in it)")
        return values

    def threads(self) -> int | None:
        """The number of CPU threads for the run's training; None if not recorded."""
        outcome = self.result()
        given = self.config().get("threads")
        threads = given if outcome is None else outcome.environment.cpu_threads
        return threads if isinstance(threads, int) else None

    def edited_since(self, files: Iterable[Path]) -> list[Path]:
        """Return the user's files that differ from the run's copies."""
        copies = [copy.relative_to(self.code_folder) for copy in self.code_folder.rglob("*.py")]
        return [
            file
            for file in files
            for copy in copies
            if file.parts[-len(copy.parts) :] == copy.parts
            and code.own_digest([file]) != code.own_digest([self.code_folder / copy])
        ]

    def history(self) -> list[dict[str, Any]]:
        """Return the metrics of each epoch, from all complete lines."""
        rows: list[dict[str, Any]] = []
        with contextlib.suppress(OSError, ValueError):
            for line in self.metrics_file.read_text(encoding="utf-8").splitlines():
                rows.append(json.loads(line))
        return rows

    def predictions(self, with_probabilities: bool = False) -> Predictions | None:
        """Return the predictions for the test images; None if they cannot be read."""
        return predictions.read(self.predictions_file, with_probabilities)

    def calibration(self, weights_sha256: str) -> Calibration | None:
        """Return the calibration for these weights; None if there is none."""
        return calibration.read(self.calibration_file, weights_sha256)

    def learnt_digests(self) -> tuple[NDArray[np.uint64], NDArray[np.uint64]] | None:
        """Return digests of the training and validation images; None for older runs."""
        with contextlib.suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            with self.split_file.open("rb") as file, np.load(file) as kept:
                return kept["train_digests"], kept["val_digests"]
        return None

    def error(self) -> str | None:
        """Return why the last attempt at this run failed; None if it did not."""
        failure = read_json(self.failure_file)
        if failure is None or failure.get("status") == "retried":
            return None
        return str(failure.get("error", ""))

    def past_failures(self) -> list[dict[str, Any]]:
        """Return the errors of earlier attempts at this run."""
        failure = read_json(self.failure_file)
        return failure.get("failures", []) if failure is not None else []

    # ------------------------------------------------------------ validity

    def valid_result(self, config: Config, is_new: bool = False) -> Result | None:
        """Return the result of a finished run if it is still valid and wanted.

        ``is_new``: whether it was made since it was requested, so that ``fresh`` accepts it.
        """
        outcome = self.result_or_fault()
        if not isinstance(outcome, Result) or outdated(outcome, config) is not None:
            return None
        return None if config.fresh and not is_new else outcome

    def say_finished(self, outcome: Result) -> None:
        """Report a run that needs no training in one line."""
        accuracy = with_interval(outcome.test.accuracy, *outcome.test.accuracy_ci95)
        say(f"already finished: test accuracy {accuracy}, in {self.path}; fresh=true re-runs it")
        for note in own_metrics.notes(outcome.own_metrics or {}):
            say(note)

    def make_room(self, config: Config) -> None:
        """Archive the folder's contents if they cannot be resumed.

        Requires the run's lock.
        """
        outcome = self.result_or_fault()
        if config.fresh and self.path.exists():
            self.archive("fresh=true")
        elif outcome is not None and (why := outdated(outcome, config)) is not None:
            self.archive(why)

    def archive(self, why: str) -> None:
        """Keep an old run under a dated name."""
        stamp = time.strftime("%Y%m%d-%H%M%S")
        kept = self.path.with_name(f"{self.name}.{stamp}")
        number = 1
        while kept.exists():
            number += 1
            kept = self.path.with_name(f"{self.name}.{stamp}-{number}")
        with disk_errors(self.path):
            self.path.rename(kept)
        say(f"{self.name}: {why}; old folder kept as {kept.name}")

    def brought_back(self, config: Config) -> Result | None:
        """Put an archived version of this run that is valid today back into its place.

        So an edit that is undone trains nothing again. What is in its place is archived in turn:
        after a kill in between, nothing is there, and the next call goes on. Returns its result;
        None if there is none. Requires the run's lock.
        """
        if (found := self._valid_archived(config)) is None:
            return None
        kept, outcome = found
        if self.path.exists():
            now = self.result_or_fault()
            why = None if now is None else outdated(now, config)
            self.archive(why or "unfinished")
        with disk_errors(self.path):
            kept.rename(self.path)
        say(f"{self.name}: this code and data were trained before; brought back {kept.name}")
        return outcome

    def bring_back(self, config: Config) -> Result | None:
        """Like ``brought_back``, without the lock, and only in place of an outdated result.

        Whether an unfinished run can be resumed is known once its checkpoint has been read.
        """
        if self.result_or_fault() is None and self.path.exists():
            return None
        if self._valid_archived(config) is None:
            return None
        with self.sole_writer():
            return self.valid_result(config) or self.brought_back(config)

    def _valid_archived(self, config: Config) -> tuple[Path, Result] | None:
        """Return the newest archived version that is valid today, and its result; none if fresh."""
        if config.fresh:
            return None
        versions = [each for each in self.path.parent.glob(f"{self.name}.*")
                    if ARCHIVED.fullmatch(each.name.removeprefix(self.name))]  # fmt: skip
        fingerprints: dict[str, str | None] = {}
        for kept in sorted(versions, key=lambda each: each.name, reverse=True):
            outcome = RunFolder(kept).result()
            if outcome is None or outcome.run_id != self.name:
                continue
            if outdated(outcome, config, fingerprints) is None:
                return kept, outcome
        return None

    # ------------------------------------------------------------ locking and failures

    def sole_writer(self, wait: bool = True) -> contextlib.AbstractContextManager[bool]:
        """Hold the run's lock, see ``lock.sole_writer``."""
        return lock.sole_writer(self.path, wait)

    def record_failure(self, error: BaseException) -> None:
        """Write ``failure.json``, and the error into ``train.log``, with the traceback of what is
        not only words for the user. Raises UserError if the disk is full.
        """
        with disk_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        is_said = isinstance(error, UserError)
        text = str(error) if is_said else f"{type(error).__name__}: {error}"
        origin = error.__cause__ if is_said else error
        with log_to(self.log_file) as write_line:
            if origin is not None:
                write_line("".join(traceback.format_exception(origin)).rstrip())
            write_line(f"failed: {text}")
        failures = [*self.past_failures(), {"time": time.time(), "error": text}]
        write_json(self.failure_file, {"status": "failed", "error": text, "failures": failures})

    def forget_failure(self) -> None:
        """Clear the failure when a new attempt starts, so that stopping it does not count as
        failed.

        Earlier errors are kept for the result.
        """
        if self.error() is not None:
            again = {"status": "retried", "failures": self.past_failures()}
            write_json(self.failure_file, again)

    @contextlib.contextmanager
    def failure_recorded(self) -> Iterator[list[str]]:
        """Report, record and swallow exceptions in the block, as a sweep must.

        Yields a list, which contains the failure after the block if it could not be recorded.
        """
        before, unrecorded = self.past_failures(), list[str]()
        try:
            yield unrecorded
        except Exception as error:
            # Training records its own failures; this is for errors before its folder is open.
            if self.past_failures() == before:
                try:
                    self.record_failure(error)
                except UserError:
                    unrecorded.append(str(error))
            say(f"failed: {error}")


def named(folder: Path) -> Path:
    """Resolve a folder typed as ``.`` or ``..`` to its name."""
    return folder if folder.name not in ("", "..") else folder.resolve()


def stamp(file: Path) -> tuple[int, int] | None:
    """Return a file's identity, which differs for a replaced file; None if there is none."""
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns


class EvaluationFolder:
    """The files of one evaluation of finished runs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.report_file = path / "evaluation.json"
        self.predictions_file = path / "predictions.npz"
        self.confusion_file = path / "confusion.png"
        self.reliability_file = path / "reliability.png"


def run_folder(config: Config) -> RunFolder:
    """Return ``<outputs>/runs/<run id>``.

    A finished run with an old id, which included the data's location, is used if its images are the
    same.
    """
    runs = Path(config.outputs).expanduser() / "runs"
    folder = RunFolder(runs / run_id(config))
    if not folder.path.exists() and getattr(config.dataset, "content", None) is not None:
        dataset = dataclasses.replace(config.dataset, content=None)  # type: ignore[call-arg]
        older = RunFolder(runs / run_id(dataclasses.replace(config, dataset=dataset), by_path=True))
        outcome = older.result()
        if outcome is not None and outcome.dataset.fingerprint == data.fingerprint(config.dataset):
            return older
    return folder


def outdated(
    outcome: Result | Fault, config: Config, fingerprints: dict[str, str | None] | None = None
) -> str | None:
    """Return why a finished result is outdated; None if it is still valid.

    ``fingerprints`` caches the fingerprints of datasets during a sweep. Raises UserError for a
    result of a newer tinylab, unless the config has ``fresh``.
    """
    if isinstance(outcome, Fault):
        if outcome.is_newer and not config.fresh:
            raise UserError(
                f"{run_id(config)}: {outcome.reason}\n  update tinylab, or re-run with fresh=true"
            )
        return outcome.reason
    environment = outcome.environment
    before = environment.code_sha256, environment.extra
    if (why := code.changed(*before, config, outcome.config.get("code"))) is not None:
        return why
    if (why := own_metrics.changed(outcome.own_metrics or {}, config)) is not None:
        return why
    known = {} if fingerprints is None else fingerprints
    key = repr(config.dataset)
    if key not in known:
        known[key] = None  # missing data cannot have changed
        with contextlib.suppress(DataAbsentError):
            known[key] = data.fingerprint(config.dataset)
    if known[key] not in (None, outcome.dataset.fingerprint):
        return "the data has changed since"
    return None
