"""A run's folder: where it is, who may write into it, and whether its result still stands.

No torch in here: a finished run is answered in half a second.
"""

import contextlib
import hashlib
import json
import time
import traceback
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from tinylab import data
from tinylab.config.schema import Config, run_id
from tinylab.data.arrays import DataAbsentError
from tinylab.errors import UserError
from tinylab.store import result as results
from tinylab.system.files import disk_errors, write_json
from tinylab.ui.console import log_to, say

# What decides a result's bits. The rest of the package shows it, or leads to it.
RESULT_CODE = (
    "config/schema.py", "data", "experiment/prepare.py", "experiment/run.py", "models",
    "system/runtime.py", "training",
)  # fmt: skip


def folder_of(config: Config) -> Path:
    """``<outputs>/runs/<run id>``."""
    return Path(config.outputs).expanduser() / "runs" / run_id(config)


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object from a file; None where the file is absent or is something else."""
    with contextlib.suppress(OSError, ValueError):
        value = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(value, dict):
            return value
    return None


def read_result(folder: Path) -> dict[str, Any] | None:
    """A finished run's result; None where there is none."""
    result = read_json(folder / "result.json")
    return result if result is not None and result.get("status") == "finished" else None


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The figures of each epoch of a run, as far as whole lines of them are there."""
    rows: list[dict[str, Any]] = []
    with contextlib.suppress(OSError, ValueError):
        for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
            rows.append(json.loads(line))
    return rows


@cache
def code_sha256() -> str:
    """A hash of the source files that decide a result."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for name in RESULT_CODE:
        path = package / name
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(f"{file.relative_to(package).as_posix()}\0".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()


def outdated(
    result: dict[str, Any], config: Config, fingerprints: dict[str, str | None] | None = None
) -> str | None:
    """Why a finished result is not today's any more; None where it still stands.

    ``fingerprints`` keeps what is known of datasets between the calls of one sweep.
    """
    if (fault := results.fault(result)) is not None:
        return fault
    if result["environment"]["code_sha256"] != code_sha256():
        return "tinylab's code has changed since"
    known = {} if fingerprints is None else fingerprints
    key = repr(config.dataset)
    if key not in known:
        known[key] = None  # data that is not there any more cannot have changed
        with contextlib.suppress(DataAbsentError):
            known[key] = data.fingerprint(config.dataset)
    if known[key] not in (None, result["dataset"]["fingerprint"]):
        return "the data has changed since"
    return None


def standing_result(config: Config) -> dict[str, Any] | None:
    """The result of a finished run, said in one line, if it still stands and is wanted."""
    folder = folder_of(config)
    result = read_result(folder)
    if result is None or config.fresh or outdated(result, config) is not None:
        return None
    low, high = result["test"]["accuracy_ci95"]
    say(
        f"already finished: test accuracy {result['test']['accuracy']:.2%} (95 % interval "
        f"{low:.2%} to {high:.2%}), in {folder}; fresh=true runs it again"
    )
    return result


def make_room(config: Config) -> None:
    """Set aside what lies in the run's folder and is not to be gone on from.

    Only the holder of the run's lock may do so.
    """
    folder = folder_of(config)
    result = read_result(folder)
    if config.fresh and folder.exists():
        set_aside(folder, "fresh=true")
    elif result is not None and (why := outdated(result, config)) is not None:
        set_aside(folder, why)


def set_aside(folder: Path, why: str) -> None:
    """Keep an old run under a dated name, out of the way of the new one."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    kept = folder.with_name(f"{folder.name}.{stamp}")
    number = 1
    while kept.exists():
        number += 1
        kept = folder.with_name(f"{folder.name}.{stamp}-{number}")
    with disk_errors(folder):
        folder.rename(kept)
    say(f"{folder.name}: {why}; the old folder is kept as {kept.name}")


@contextlib.contextmanager
def sole_writer(folder: Path, wait: bool = True) -> Iterator[None]:
    """Hold the run's lock; waits while another process trains the same run.

    The operating system frees the lock when its owner ends, however it ends. Raises UserError at
    once where another process has it and ``wait`` is false.
    """
    path = _lock_path(folder)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            if not wait:
                raise UserError(f"{folder.name} is being trained by another process") from error
            say(f"{folder.name} is being trained by another process: waiting for it to end")
            lock.acquire()
    try:
        # What a killed process was writing when it was killed.
        for rest in folder.glob(".*.tmp"):
            rest.unlink()
        yield
    finally:
        lock.release()


def is_being_written(folder: Path) -> bool:
    """Whether another process holds the run's lock. It is left in peace."""
    path = _lock_path(folder)
    if not path.exists():
        return False
    try:
        with FileLock(path).acquire(timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return False  # in a folder where we may not write, nobody else can be asked


def _lock_path(folder: Path) -> Path:
    return folder.parent / ".locks" / f"{folder.name}.lock"


def record_failure(folder: Path, error: BaseException) -> None:
    """Write ``failure.json``, and the traceback into ``train.log``."""
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with log_to(folder / "train.log") as write_line:
        write_line("".join(traceback.format_exception(error)).rstrip())
    text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    failures = [*past_failures(folder), {"time": time.time(), "error": text}]
    write_json(folder / "failure.json", {"status": "failed", "error": text, "failures": failures})


def past_failures(folder: Path) -> list[dict[str, Any]]:
    """What went wrong in earlier tries at this run."""
    failure = read_json(folder / "failure.json")
    return failure.get("failures", []) if failure is not None else []


@contextlib.contextmanager
def failure_recorded(config: Config) -> Iterator[None]:
    """Swallow and say what fails in the block, recorded in the run's folder, as a sweep must."""
    folder = folder_of(config)
    before = past_failures(folder)
    try:
        yield
    except Exception as error:
        # Training records its own failures; this is for what goes wrong before its folder is open.
        if past_failures(folder) == before:
            record_failure(folder, error)
        say(f"failed: {error}")
