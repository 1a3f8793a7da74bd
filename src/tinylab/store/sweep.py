"""A sweep's folder: its file names, and which runs belong to it."""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tinylab.config.schema import is_plain_name
from tinylab.errors import UserError
from tinylab.store import lock
from tinylab.store.folder import EvaluationFolder, RunFolder
from tinylab.system.files import read_json, write_json


class SweepFolder:
    """The folder ``<outputs>/sweeps/<name>``; its runs are in ``<outputs>/runs``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state_file = path / "sweep.json"
        self.table_file = path / "leaderboard.csv"
        self.markdown_file = path / "leaderboard.md"
        self.report_file = path / "report.html"
        self.inspection_file = path / "inspect.html"
        self.inspection_table = path / "inspect.csv"
        self.tensorboard_folder = path / "tensorboard"
        self.journal_file = path / "journal.log"  # of a shared study
        self.workers_folder = path / "workers"  # the workers' heartbeats and logs
        self.locks_folder = path / ".locks"  # of the journal

    def is_sweep(self) -> bool:
        """Whether the folder is a sweep's."""
        return self.state_file.is_file()

    def state(self) -> dict[str, Any] | None:
        """``arguments``, ``jobs`` and, for a search, ``search``; None if it cannot be read."""
        return read_json(self.state_file)

    def write_state(self, **state: Any) -> None:
        """Write the state atomically."""
        write_json(self.state_file, state)

    def arguments(self) -> list[str] | None:
        """The arguments after ``tinylab train -m``; None if unknown."""
        arguments = (self.state() or {}).get("arguments")
        return [str(each) for each in arguments] if isinstance(arguments, list) else None

    def jobs(self) -> dict[str, str] | None:
        """The state of each run by its id; None if it cannot be read.

        Also None if ids are not folder names: someone else may have written them.
        """
        try:
            jobs = (self.state() or {})["jobs"]
            states = {str(job["run_id"]): str(job.get("state")) for job in jobs}
        except (KeyError, TypeError, AttributeError):
            return None
        return states if all(map(is_plain_name, states)) else None

    def incomplete(self) -> dict[str, str]:
        """The unfinished runs of settings that are repeated over seeds, by id.

        With the setting's state: its mean is over fewer seeds than others', so it is not ranked.
        """
        rows = (self.state() or {}).get("jobs") or []
        states = {str(row["run_id"]): str(row.get("setting", "finished")) for row in rows}
        return {run_id: state for run_id, state in states.items() if state != "finished"}

    def ended_jobs(self) -> set[str] | None:
        """The ids of the runs that have ended; None if all have, and none is to come.

        A grid's process holds no lock, so a killed grid does not look finished.
        """
        jobs, incomplete = self.jobs() or {}, self.incomplete()
        ended = {
            name
            for name, state in jobs.items()
            if "pruned" in (state, incomplete.get(name))
            or incomplete.get(name) == "failed"
            or self._ended(name)
        }
        to_come = (self.state() or {}).get("to_come")  # to the workers of a shared study
        is_over = jobs and len(ended) == len(jobs) and not lock.is_being_written(self.path)
        is_over = is_over and not to_come
        return None if is_over else ended

    def _ended(self, run_id: str) -> bool:
        files = RunFolder(self.run_path(run_id))
        return files.result_file.exists() or files.error() is not None

    def run_path(self, run_id: str) -> Path:
        """Return the folder of one of its runs.

        A link to a sweep leads to the runs next to it, unless only the sweep is on another disk.
        """
        roots = [self.path.resolve().parents[1], Path(os.path.abspath(self.path)).parents[1]]
        beside = [root / "runs" for root in roots]
        return next((runs for runs in beside if runs.is_dir()), beside[0]) / run_id

    def sole_writer(self) -> contextlib.AbstractContextManager[bool]:
        """Hold the sweep's lock, see ``lock.sole_writer``."""
        return lock.sole_writer(self.path, busy="in use")


def sweep_folder(outputs: str, name: str) -> SweepFolder:
    """Return ``<outputs>/sweeps/<name>``."""
    return SweepFolder(Path(outputs).expanduser() / "sweeps" / name)


def sweeps_in(outputs: Path) -> list[SweepFolder]:
    """Return the sweeps in ``outputs``, by name."""
    sweeps = map(SweepFolder, sorted((outputs / "sweeps").glob("[!.]*")))
    return [sweep for sweep in sweeps if sweep.is_sweep()]


def foreign_in(folder: Path) -> list[str]:
    """Return the names in the folder of a sweep or evaluation that tinylab does not write."""
    files = {*vars(SweepFolder(folder)).values(), *vars(EvaluationFolder(folder)).values()}
    return sorted(file.name for file in {*folder.iterdir()} - files - {*folder.glob(".*.tmp")})


def made_by(outputs: Path, arguments: Sequence[str]) -> Path:
    """The folder of the sweep that was written last of those that these arguments made.

    Raises UserError where there is none.
    """
    made = [sweep for sweep in sweeps_in(outputs) if sweep.arguments() == list(arguments)]
    if not made:
        raise UserError(f"{outputs / 'sweeps'}: the sweep is not there any more")
    return max(made, key=lambda sweep: sweep.state_file.stat().st_mtime).path
