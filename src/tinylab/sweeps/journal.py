"""Optuna's study in a file that many machines share, readable by optuna-dashboard.

It is Optuna's ``JournalStorage`` with tinylab's lock, or an Optuna database. A writer holds the
lock for everything it reads and writes. A last line torn by a kill is cut off first: Optuna would
append to it and could not read what follows.
"""

import contextlib
import math
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage, JournalStorage, get_storage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from tinylab.errors import UserError
from tinylab.store.lease import BriefLock
from tinylab.system.files import disk_errors

STATES = {
    "finished": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL,
}  # fmt: skip


class Journal:
    """The journal of one study. All methods that write require the lock."""

    def __init__(self, file: Path, name: str, better: str, url: str | None = None) -> None:
        """``url``: of a database or a gRPC proxy that has the study instead of the file."""
        self._file = file.absolute()
        self._lock = BriefLock(self._file)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        if url is not None:
            name = str(self._file.parent)  # other studies are there too
        which = StudyDirection.MINIMIZE if better == "lower" else StudyDirection.MAXIMIZE
        with disk_errors(file), self._repaired():
            self._storage = self._in_file() if url is None else _at(url)
            known = {each.study_name: each._study_id for each in self._storage.get_all_studies()}
            study = known.get(name) if url is not None else next(iter(known.values()), None)
            self._study = self._storage.create_new_study([which], name) if study is None else study

    def _in_file(self) -> BaseStorage:
        backend = JournalFileBackend(str(self._file), cast("Any", self._lock))
        with warnings.catch_warnings(action="ignore"):  # that it is experimental
            return JournalStorage(backend)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock inside the block. Raises UserError if the disk is full."""
        with disk_errors(self._file), self._repaired():
            yield

    @contextlib.contextmanager
    def _repaired(self) -> Iterator[None]:
        with self._lock:
            _cut_partial_line(self._file)
            yield

    def facts(self) -> dict[str, Any]:
        """Return the facts about the study as a whole."""
        facts: dict[str, Any] = self._storage.get_study_user_attrs(self._study)
        return facts

    def note_fact(self, key: str, value: Any) -> None:
        """Write one of ``facts``."""
        self._storage.set_study_user_attr(self._study, key, value)

    def trials(self) -> list[FrozenTrial]:
        """Return all current trials; a changed trial is a new object. Needs no lock."""
        return self._storage.get_all_trials(self._study, deepcopy=False)

    def begin(
        self,
        params: Mapping[str, Any],
        distributions: Mapping[str, BaseDistribution],
        facts: Mapping[str, Any],
    ) -> None:
        """Write a new trial."""
        trial = create_trial(
            state=TrialState.RUNNING, params=dict(params), distributions=dict(distributions),
            user_attrs=dict(facts),
        )  # fmt: skip
        self._storage.create_new_trial(self._study, trial)

    def note(self, trial: FrozenTrial, key: str, value: Any) -> None:
        """Write facts about a trial."""
        self._storage.set_trial_user_attr(trial._trial_id, key, value)

    def report(self, trial: FrozenTrial, step: int, value: float) -> None:
        """Write the value of a trial at one step."""
        self._storage.set_trial_intermediate_value(trial._trial_id, step, value)

    def end(self, trial: FrozenTrial, state: str, value: float | None) -> None:
        """Write how a trial has ended. As in Optuna, a trial without a value has failed."""
        is_known = value is not None and math.isfinite(value)
        wanted = STATES[state] if is_known or state != "finished" else TrialState.FAIL
        values = [cast("float", value)] if wanted == TrialState.COMPLETE else None
        self._storage.set_trial_state_values(trial._trial_id, wanted, values)


def _at(url: str) -> BaseStorage:
    """Optuna's storage at an address. Raises UserError where there is none."""
    kind, _, address = url.partition("://")
    host, _, port = address.partition(":")
    if not address or (kind == "grpc" and not port.isdigit()):
        raise UserError(
            f"sweep.storage={url}: expected an address such as sqlite:////path/study.db, "
            "postgresql://USER@HOST/NAME or grpc://HOST:PORT"
        )
    try:
        with warnings.catch_warnings(action="ignore"):  # that the proxy is experimental
            if kind == "grpc":
                from optuna.storages import GrpcStorageProxy  # and with it grpc

                storage: BaseStorage = GrpcStorageProxy(host=host, port=int(port))
            else:
                storage = get_storage(url)
            storage.get_all_studies()
    except Exception as error:  # SQLAlchemy's, a driver's or gRPC's
        why = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(
            f"sweep.storage={url}: cannot be opened ({why})\n"
            "  expected a database that runs, and its driver, such as pip install 'psycopg[binary]'"
        ) from error
    return storage


def _cut_partial_line(file: Path) -> None:
    """Cut off everything after the last newline."""
    if not file.exists():
        return
    with file.open("r+b") as opened:
        size = opened.seek(0, os.SEEK_END)
        kept, step = size, 4096
        while kept:
            start = max(0, kept - step)
            opened.seek(start)
            if (index := opened.read(kept - start).rfind(b"\n")) >= 0:
                kept = start + index + 1
                break
            kept = start
        if kept < size:
            opened.truncate(kept)
            os.fsync(opened.fileno())
