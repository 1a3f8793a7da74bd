"""A run's folder: the names of its files, who may write them, and whether its result is valid.

No torch in here: a finished run is answered in half a second.
"""

import contextlib
import dataclasses
import json
import os
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


class RunFolder:
    """A run's folder, opened once by who works with the run. Nothing is read before it is asked."""

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
        """Whether it is a run's, in whatever state."""
        return any(
            file.exists() for file in (self.result_file, self.config_file, self.failure_file)
        )

    def is_surely_run(self) -> bool:
        """Whether it can be no other folder: a config alone may be Hydra's, as in ``conf``."""
        return self.result_file.is_file() or (
            self.config_file.is_file() and self.split_file.is_file()
        )

    # ------------------------------------------------------------ what a run writes

    def write_start(self, config: Config, split: Split, digests: NDArray[np.uint64]) -> None:
        """Write the config, the split, and digests of the pixels that training will see.

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
        code.remember(config)

    def _write_code(self, files: list[Path]) -> None:
        """Copy the user's own files, for reading: nothing in a run's folder is ever executed."""
        folder = os.path.commonpath([file.parent for file in files]) if files else ""
        for file in files:
            copied = self.code_folder / file.relative_to(folder)
            with disk_errors(self.path):
                copied.parent.mkdir(parents=True, exist_ok=True)
            write_text(copied, file.read_text(encoding="utf-8"))

    def write_result(self, found: Result) -> None:
        """Write the result, with which the run is finished; earlier failures are in it."""
        result.write(self.result_file, found)
        self.failure_file.unlink(missing_ok=True)

    def is_presented(self) -> bool:
        """Whether all that is made of a result is there: the last of it is."""
        return self.confusion_file.exists()

    def clear_events(self) -> None:
        """Delete TensorBoard's event files, before they are written anew."""
        for stale in self.event_files():
            stale.unlink()

    def event_files(self) -> list[Path]:
        """TensorBoard's event files."""
        pattern = "events.out.tfevents.*"
        return [*self.path.glob(pattern), *self.path.glob(f"*/{pattern}")]

    def delete_checkpoints(self) -> None:
        """Delete the resume points and the tested weights, unless the run is being trained.

        Of a run that has a result this waits until all that is made of it is there.
        """
        if lock.is_being_written(self.path) or (
            self.result_file.exists() and not self.is_presented()
        ):
            return
        points = self.last_checkpoint, self.next_checkpoint, self.previous_checkpoint
        for file in (*points, self.best_checkpoint):
            with contextlib.suppress(OSError):  # another user's: what is kept costs only room
                file.unlink(missing_ok=True)

    # ------------------------------------------------------------ what is read of it

    def result_or_fault(self) -> Result | Fault | None:
        """The result, or what keeps it from being read; None where the run is not finished."""
        return result.read(self.result_file)

    def result(self) -> Result | None:
        """The result; None where there is none that can be read."""
        found = self.result_or_fault()
        return found if isinstance(found, Result) else None

    def has_unreadable_result(self) -> bool:
        """Whether the file of the result is there, and holds no JSON object."""
        return self.result_file.exists() and read_json(self.result_file) is None

    def config(self) -> dict[str, Any]:
        """The config's values, by section. Raises UserError where there are none."""
        try:
            loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C 0.6 ms, else 4.4 ms
            values = yaml.load(self.config_file.read_text(encoding="utf-8"), loader)
        except (OSError, ValueError, yaml.YAMLError) as error:
            is_there = os.path.isdir(self.path)
            why = " ".join(str(error).split()) if is_there else "it is not there"
            raise UserError(f"{self.path}: expected the folder of a run ({why})") from error
        if not isinstance(values, dict):
            raise UserError(f"{self.path}: expected the folder of a run (no config in it)")
        return values

    def threads(self) -> int | None:
        """The CPU threads that it was, or is to be, trained with; None where it does not say."""
        found = self.result()
        threads = self.config().get("threads") if found is None else found.environment.cpu_threads
        return threads if isinstance(threads, int) else None

    def edited_since(self, files: Iterable[Path]) -> list[Path]:
        """Those of the user's files of which the run's copies say something else."""
        copies = [copy.relative_to(self.code_folder) for copy in self.code_folder.rglob("*.py")]
        return [
            file
            for file in files
            for copy in copies
            if file.parts[-len(copy.parts) :] == copy.parts
            and code.own_digest([file]) != code.own_digest([self.code_folder / copy])
        ]

    def history(self) -> list[dict[str, Any]]:
        """The metrics of each epoch, as far as whole lines of them are there."""
        rows: list[dict[str, Any]] = []
        with contextlib.suppress(OSError, ValueError):
            for line in self.metrics_file.read_text(encoding="utf-8").splitlines():
                rows.append(json.loads(line))
        return rows

    def predictions(self, with_probabilities: bool = False) -> Predictions | None:
        """What became of each test image; None where that cannot be read."""
        return predictions.read(self.predictions_file, with_probabilities)

    def calibration(self, weights_sha256: str) -> Calibration | None:
        """What was fitted to the validation images of these weights; None where nothing was."""
        return calibration.read(self.calibration_file, weights_sha256)

    def learnt_digests(self) -> tuple[NDArray[np.uint64], NDArray[np.uint64]] | None:
        """Digests of the training and validation images; None where an older run kept none."""
        with contextlib.suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            with self.split_file.open("rb") as file, np.load(file) as kept:
                return kept["train_digests"], kept["val_digests"]
        return None

    def error(self) -> str | None:
        """Why the last try at this run failed; None where it did not."""
        failure = read_json(self.failure_file)
        if failure is None or failure.get("status") == "tried again":
            return None
        return str(failure.get("error", ""))

    def past_failures(self) -> list[dict[str, Any]]:
        """What went wrong in earlier tries at this run."""
        failure = read_json(self.failure_file)
        return failure.get("failures", []) if failure is not None else []

    # ------------------------------------------------------------ whether it is valid

    def valid_result(self, config: Config, is_new: bool = False) -> Result | None:
        """The result of a finished run, if it is still valid and is wanted.

        ``is_new``: made since it was asked for, and so one that ``fresh`` wants.
        """
        found = self.result_or_fault()
        if not isinstance(found, Result) or outdated(found, config) is not None:
            return None
        return None if config.fresh and not is_new else found

    def say_finished(self, found: Result) -> None:
        """Answer in one line for a run that needs no training."""
        low, high = found.test.accuracy_ci95
        say(
            f"already finished: test accuracy {found.test.accuracy:.2%} (95 % interval "
            f"{low:.2%} to {high:.2%}), in {self.path}; fresh=true runs it again"
        )
        for note in own_metrics.notes(found.own_metrics or {}):
            say(note)

    def make_room(self, config: Config) -> None:
        """Archive what lies in the folder and is not to be gone on from.

        Only the holder of the run's lock may do so.
        """
        found = self.result_or_fault()
        if config.fresh and self.path.exists():
            self.archive("fresh=true")
        elif found is not None and (why := outdated(found, config)) is not None:
            self.archive(why)

    def archive(self, why: str) -> None:
        """Keep an old run under a dated name, out of the way of the new one."""
        stamp = time.strftime("%Y%m%d-%H%M%S")
        kept = self.path.with_name(f"{self.name}.{stamp}")
        number = 1
        while kept.exists():
            number += 1
            kept = self.path.with_name(f"{self.name}.{stamp}-{number}")
        with disk_errors(self.path):
            self.path.rename(kept)
        say(f"{self.name}: {why}; the old folder is kept as {kept.name}")

    # ------------------------------------------------------------ who writes, and what fails

    def sole_writer(self, wait: bool = True) -> contextlib.AbstractContextManager[bool]:
        """Hold the run's lock, as ``lock.sole_writer`` says."""
        return lock.sole_writer(self.path, wait)

    def record_failure(self, error: BaseException) -> None:
        """Write ``failure.json``, and the traceback into ``train.log``.

        Raises UserError where the disk has no room for it.
        """
        with disk_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        with log_to(self.log_file) as write_line:
            write_line("".join(traceback.format_exception(error)).rstrip())
        text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        failures = [*self.past_failures(), {"time": time.time(), "error": text}]
        write_json(self.failure_file, {"status": "failed", "error": text, "failures": failures})

    def forget_failure(self) -> None:
        """A new try at this run has begun, so that it is no failed one any more if it is stopped.

        What went wrong before is still kept for the result.
        """
        if self.error() is not None:
            again = {"status": "tried again", "failures": self.past_failures()}
            write_json(self.failure_file, again)

    @contextlib.contextmanager
    def failure_recorded(self) -> Iterator[list[str]]:
        """Swallow and say what fails in the block, and record it, as a sweep must.

        Yields a list, which has the failure after the block if there was no room to record it.
        """
        before, unrecorded = self.past_failures(), list[str]()
        try:
            yield unrecorded
        except Exception as error:
            # Training records its own; this is for what goes wrong before its folder is open.
            if self.past_failures() == before:
                try:
                    self.record_failure(error)
                except UserError:
                    unrecorded.append(str(error))
            say(f"failed: {error}")


def named(folder: Path) -> Path:
    """A folder by its own name, where it was typed as ``.`` or ``..``."""
    return folder if folder.name not in ("", "..") else folder.resolve()


def stamp(file: Path) -> tuple[int, int] | None:
    """What another file in its place does not share; None where there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


class EvaluationFolder:
    """The files of one evaluation of finished runs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.report_file = path / "evaluation.json"
        self.predictions_file = path / "predictions.npz"
        self.confusion_file = path / "confusion.png"
        self.reliability_file = path / "reliability.png"


def run_folder(config: Config) -> RunFolder:
    """``<outputs>/runs/<run id>``.

    A finished run of before ids forgot where data lies is taken where its images are the same.
    """
    runs = Path(config.outputs).expanduser() / "runs"
    folder = RunFolder(runs / run_id(config))
    if not folder.path.exists() and getattr(config.dataset, "content", None) is not None:
        by_place = dataclasses.replace(config.dataset, content=None)  # type: ignore[call-arg]
        older = RunFolder(
            runs / run_id(dataclasses.replace(config, dataset=by_place), by_place=True)
        )
        found = older.result()
        if found is not None and found.dataset.fingerprint == data.fingerprint(config.dataset):
            return older
    return folder


def outdated(
    found: Result | Fault, config: Config, fingerprints: dict[str, str | None] | None = None
) -> str | None:
    """Why a finished result is not today's any more; None where it is still valid.

    ``fingerprints`` keeps what is known of datasets between the calls of one sweep. Raises
    UserError for a result of a newer tinylab, unless the config says ``fresh``.
    """
    if isinstance(found, Fault):
        if found.is_newer and not config.fresh:
            raise UserError(
                f"{run_id(config)}: {found.reason}\n  update tinylab, or run again with fresh=true"
            )
        return found.reason
    environment = found.environment
    if (why := code.changed(environment.code_sha256, environment.extra, config)) is not None:
        return why
    if (why := own_metrics.changed(found.own_metrics or {}, config)) is not None:
        return why
    known = {} if fingerprints is None else fingerprints
    key = repr(config.dataset)
    if key not in known:
        known[key] = None  # data that is not there any more cannot have changed
        with contextlib.suppress(DataAbsentError):
            known[key] = data.fingerprint(config.dataset)
    if known[key] not in (None, found.dataset.fingerprint):
        return "the data has changed since"
    return None
