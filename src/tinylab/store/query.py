"""Find the runs in an outputs folder by config and metrics."""

import contextlib
import math
import operator
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from tinylab.config import user_code
from tinylab.config.values import did_you_mean, is_number, order, shown
from tinylab.errors import UserError
from tinylab.store.folder import ARCHIVED, RunFolder, named
from tinylab.store.run import Row, Run, open_run
from tinylab.store.sweep import SweepFolder

RUN_NAME = re.compile(rf".+-.+-[0-9a-f]{{10}}({ARCHIVED.pattern})?")  # unless it was renamed


def runs_in(outputs: Path) -> list[Run]:
    """Return every run in ``outputs``, including archived ones, by name."""
    try:
        names = sorted(os.listdir(outputs / "runs"))
    except FileNotFoundError:
        return []
    folders = [outputs / "runs" / name for name in names]
    runs = []
    for folder in filter(_is_run, folders):
        with contextlib.suppress(FileNotFoundError):  # removed in the meantime
            runs.append(read(folder))
    return runs


def read(folder: Path) -> Run:
    """Return the run in ``folder``. Raises UserError if it is not one."""
    if not _is_run(folder):
        raise UserError(f"{folder}: expected the folder of a run, <outputs>/runs/<run id>")
    return open_run(folder)


def _is_run(folder: Path) -> bool:
    """Return whether a folder is a run's, by its name or, if renamed, by its contents."""
    if not folder.is_dir() or folder.name.startswith("."):
        return False
    return RUN_NAME.fullmatch(folder.name) is not None or RunFolder(folder).is_surely_run()


# ---------------------------------------------------------------- conditions

OPERATORS = {
    "<=": operator.le, ">=": operator.ge, "!=": operator.ne,
    "=": operator.eq, "<": operator.lt, ">": operator.gt,
}  # fmt: skip
CONDITION = re.compile(rf"([\w.]+)({'|'.join(OPERATORS)})(.*)")


@dataclass(frozen=True)
class Condition:
    """A condition such as ``optim.lr<0.01``, ``model=baseline`` or ``run=mnist-*``.

    Numbers are compared as numbers; for ``=`` and ``!=`` a string may contain ``*`` and ``?``. A
    missing value only satisfies ``=null`` and ``!=``.
    """

    key: str
    operator: str
    typed: str

    def holds(self, row: Row) -> bool:
        """Return whether a run's row satisfies it. Raises UserError if a number is required."""
        value, compare = row.get(self.key), OPERATORS[self.operator]
        if self.key == "code" and value is not None and self.operator in ("=", "!="):
            return bool(compare(any(map(self._is_file, user_code.names(value))), True))
        if is_number(value):
            return bool(compare(value, self._number()))
        if self.operator in ("=", "!="):
            pattern = self.typed.replace("[", "[[]")
            return bool(compare(fnmatchcase(shown(value), pattern), True))
        return isinstance(value, str) and bool(compare(value, self.typed))

    def _is_file(self, path: str) -> bool:
        """Return whether a user's file, of which the whole path is recorded, is as typed."""
        typed = os.path.expanduser(self.typed)
        return Path(path) == Path(os.path.abspath(typed)) or Path(path).match(typed or "-")

    def _number(self) -> float:
        for number in (int, float):
            with contextlib.suppress(ValueError):
                return number(self.typed)
        if self.operator in ("=", "!="):
            return math.nan  # null and other words equal no number
        raise UserError(f"{self.key}{self.operator}{self.typed}: expected a number")


def select(words: Sequence[str], outputs: Path, with_archived: bool = False) -> list[Run]:
    """Return the runs selected by ``words``: conditions, which must all hold, and runs.

    A run is named by its folder or by its name in ``outputs``, with wildcards ``*`` and ``?``, or,
    with the other runs of its sweep, by the sweep's folder; without a name, all runs are selected.
    Archived runs must be requested or named in full. Raises UserError for a run that does not
    exist, and for a key that no run has.
    """
    named = [word for word in words if not is_condition(word)]
    candidates = _named(named, outputs) if named else runs_in(outputs)
    in_full = {Path(word).name for word in named}
    asked = conditions(words)
    refuse_unknown([condition.key for condition in asked], candidates)
    return [
        run
        for run in candidates
        if (with_archived or not run.is_archived or run.folder.name in in_full)
        and all(condition.holds(run.row) for condition in asked)
    ]


def conditions(words: Sequence[str]) -> list[Condition]:
    """Return those of ``words`` that are conditions."""
    matches = [CONDITION.fullmatch(word) for word in words if is_condition(word)]
    return [Condition(*match.groups()) for match in matches if match is not None]


def is_condition(word: str) -> bool:
    """Return whether a word is a condition, not a run or sweep."""
    return CONDITION.fullmatch(word) is not None and not os.path.isdir(word)


def _named(words: Sequence[str], outputs: Path) -> list[Run]:
    """Return the named runs without repetition, in the order of the words."""
    runs: dict[Path, Run] = {}
    for word in words:
        if (sweep := SweepFolder(Path(word))).is_sweep():
            paths = map(sweep.run_path, sweep.jobs() or {})
            chosen = [read(path) for path in paths if _is_run(path)]
        elif os.path.isdir(word):
            chosen = [read(named(Path(word)))]
        else:
            chosen = [run for run in runs_in(outputs) if fnmatchcase(run.folder.name, word)]
        if not chosen:
            raise UserError(
                f"{word}: no such run in {outputs / 'runs'}; expected a run's name or folder, or a "
                "condition such as optim.lr<0.01"
            )
        runs |= {run.folder.resolve(): run for run in chosen}
    return list(runs.values())


def refuse_unknown(keys: Sequence[str], candidates: Sequence[Run]) -> None:
    """Raise UserError for a key that no run has; without runs, all keys are accepted."""
    known = list(dict.fromkeys(key for run in candidates for key in run.row))
    for key in keys:
        if known and key not in known:
            hint = did_you_mean(key, known)
            raise UserError(f"{key}: not a key of any run{hint}; expected a config key or metric")


def in_order(chosen: Sequence[Run], key: str) -> list[Run]:
    """Sort by ``key``, or descending by ``-key``; runs without a value come last."""
    name, downwards = key.removeprefix("-"), key.startswith("-")
    refuse_unknown([name], chosen)
    present = [run for run in chosen if run.row.get(name) is not None]
    absent = [run for run in chosen if run.row.get(name) is None]
    return sorted(present, key=lambda run: order(run.row[name]), reverse=downwards) + absent
