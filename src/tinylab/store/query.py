"""Which runs lie in an outputs folder, in which state, and found by their config and figures.

Each run is one row of plain values, so that filters, sorting and the files that ``tinylab list``
writes know one set of names: config keys as they are typed, and figures. No torch in here.
"""

import contextlib
import math
import operator
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from tinylab.config.schema import did_you_mean, flatten, shown
from tinylab.errors import UserError
from tinylab.store import folder as runs
from tinylab.store import result as results

Row = dict[str, Any]

RUN_NAME = re.compile(r".+-.+-[0-9a-f]{10}")  # <dataset>-<model>-<hash>, unless it was renamed
DATE = re.compile(r"\.\d{8}-\d{6}(-\d+)?$")  # at which an old one was set aside
SET_ASIDE = "set aside"
STATES = ("finished", "running", "stopped", "failed", "damaged", SET_ASIDE)
FIGURES = (
    "val_accuracy", "val_loss", "test_accuracy", "test_low", "test_high", "test_loss",
    "best_epoch", "epochs", "parameters", "train_seconds",
)  # fmt: skip
# State -> the file whose time is the run's.
WITNESSES = {"finished": "result.json", "failed": "failure.json"}


@dataclass(frozen=True)
class Run:
    """A run's folder as it is now.

    row: ``run`` (its name), ``state`` (one of STATES), ``when`` (local time), ``size`` (bytes),
    ``error``, FIGURES (None where it has none), and its config: ``optim.lr``, and ``optim`` for
    the group's choice.
    """

    folder: Path
    row: Row

    @property
    def is_set_aside(self) -> bool:
        """Whether a newer run, or a changed program, has taken its place."""
        return bool(self.row["state"] == SET_ASIDE)


def runs_in(outputs: Path) -> list[Run]:
    """Every run in ``outputs``, old ones that were set aside among them, by name."""
    try:
        names = sorted(os.listdir(outputs / "runs"))
    except FileNotFoundError:
        return []
    folders = [outputs / "runs" / name for name in names]
    found = []
    for folder in folders:
        with contextlib.suppress(FileNotFoundError):  # removed while we looked
            found += [read(folder)] if _is_run(folder) else []
    return found


def read(folder: Path) -> Run:
    """The run in ``folder``. Raises UserError for a folder that is none."""
    if not _is_run(folder):
        raise UserError(f"{folder}: expected the folder of a run, <outputs>/runs/<run id>")
    state, details = _state(folder)
    witness = folder / WITNESSES.get(state, "last.ckpt")
    moment = (witness if witness.exists() else folder).stat().st_mtime
    row = {
        "run": folder.name,
        "state": SET_ASIDE if DATE.search(folder.name) else state,
        "when": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment)),
        "size": _size(folder),
        "error": None,
        **dict.fromkeys(FIGURES),
        **details,
    }
    return Run(folder, row)


def _is_run(folder: Path) -> bool:
    """Whether a folder is a run's: by its name, or by what is in it, if somebody renamed it."""
    if not folder.is_dir() or folder.name.startswith("."):
        return False
    is_named = RUN_NAME.fullmatch(DATE.sub("", folder.name)) is not None
    return is_named or any((folder / name).is_file() for name in ("config.yaml", "result.json"))


def _state(folder: Path) -> tuple[str, Row]:
    """How far a run has come, and the part of its row that follows from it."""
    result = runs.read_result(folder)
    if result is not None and (fault := results.fault(result)) is not None:
        return "damaged", {"error": fault}
    if result is not None:
        return "finished", {**figures(result), **flatten(result["config"])}
    details = {"epochs": _epochs_done(folder), **flatten(_saved_config(folder))}
    if runs.is_being_written(folder):
        return "running", details
    failure = runs.read_json(folder / "failure.json")
    if failure is not None:
        return "failed", {**details, "error": str(failure.get("error"))}
    return "stopped", details


def figures(result: Row) -> Row:
    """The FIGURES of a finished run, from what ``result.json`` holds."""
    low, high = result["test"]["accuracy_ci95"]
    val = result["val"] or {"accuracy": None, "loss": None}
    return {
        "val_accuracy": val["accuracy"],
        "val_loss": val["loss"],
        "test_accuracy": result["test"]["accuracy"],
        "test_low": low,
        "test_high": high,
        "test_loss": result["test"]["loss"],
        "best_epoch": result["best_epoch"],
        "epochs": result["epochs"],
        "parameters": result["num_parameters"],
        "train_seconds": round(result["seconds"]["train"], 1),
    }


def _epochs_done(folder: Path) -> int:
    try:
        return (folder / "metrics.jsonl").read_bytes().count(b"\n")
    except OSError:
        return 0


def _saved_config(folder: Path) -> Row:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C it takes 0.6 ms, else 4.4 ms
    with contextlib.suppress(OSError, ValueError, yaml.YAMLError):
        config = yaml.load((folder / "config.yaml").read_text(encoding="utf-8"), loader)
        if isinstance(config, dict):
            return config
    return {}


def _size(folder: Path) -> int:
    """Bytes of all files in ``folder`` and below."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # a run in training replaces its files
                total += os.lstat(os.path.join(place, name)).st_size
    return total


# ---------------------------------------------------------------- finding

OPERATORS = {
    "<=": operator.le, ">=": operator.ge, "!=": operator.ne,
    "=": operator.eq, "<": operator.lt, ">": operator.gt,
}  # fmt: skip
CONDITION = re.compile(rf"([\w.]+)({'|'.join(OPERATORS)})(.*)")


@dataclass(frozen=True)
class Condition:
    """``optim.lr<0.01``, ``model=baseline``, ``test_accuracy>=0.9``, ``run=mnist-*``.

    Numbers are compared as numbers; for ``=`` and ``!=`` a text may hold ``*`` and ``?``. A value
    that is absent fulfils only ``=null`` and ``!=``.
    """

    key: str
    operator: str
    typed: str

    def holds(self, row: Row) -> bool:
        """Whether a run's row fulfils it. Raises UserError where a number was to be typed."""
        value, compare = row.get(self.key), OPERATORS[self.operator]
        if isinstance(value, int | float) and not isinstance(value, bool):
            return bool(compare(value, self._number()))
        if self.operator in ("=", "!="):
            pattern = self.typed.replace("[", "[[]")
            return bool(compare(fnmatchcase(shown(value), pattern), True))
        return isinstance(value, str) and bool(compare(value, self.typed))

    def _number(self) -> float:
        for number in (int, float):
            with contextlib.suppress(ValueError):
                return number(self.typed)
        if self.operator in ("=", "!="):
            return math.nan  # null and other words are no number's equal
        raise UserError(f"{self.key}{self.operator}{self.typed}: expected a number")


def select(words: Sequence[str], outputs: Path, with_set_aside: bool = False) -> list[Run]:
    """The runs that ``words`` ask for: conditions, which must all hold, and runs.

    A run is named by its folder, or by its name in ``outputs``, where ``*`` and ``?`` may stand;
    without any name all runs are meant. Those that were set aside must be asked for, or named in
    full. Raises UserError for a run that is not there, and for a key that no run has.
    """
    named = [word for word in words if not _is_condition(word)]
    candidates = _named(named, outputs) if named else runs_in(outputs)
    in_full = {Path(word).name for word in named}
    asked = conditions(words)
    refuse_unknown([condition.key for condition in asked], candidates)
    return [
        run
        for run in candidates
        if (with_set_aside or not run.is_set_aside or run.folder.name in in_full)
        and all(condition.holds(run.row) for condition in asked)
    ]


def conditions(words: Sequence[str]) -> list[Condition]:
    """Those of ``words`` that are conditions, and no runs."""
    matches = [CONDITION.fullmatch(word) for word in words if _is_condition(word)]
    return [Condition(*match.groups()) for match in matches if match is not None]


def _is_condition(word: str) -> bool:
    return CONDITION.fullmatch(word) is not None and not os.path.isdir(word)


def _named(words: Sequence[str], outputs: Path) -> list[Run]:
    """The runs that are named, each once, in the order of the words."""
    found: dict[Path, Run] = {}
    for word in words:
        if os.path.isdir(word):
            chosen = [read(Path(word))]
        else:
            chosen = [run for run in runs_in(outputs) if fnmatchcase(run.folder.name, word)]
        if not chosen:
            raise UserError(
                f"{word}: no such run in {outputs / 'runs'}; expected a run's name or folder, or a "
                "condition such as optim.lr<0.01"
            )
        found |= {run.folder.resolve(): run for run in chosen}
    return list(found.values())


def refuse_unknown(keys: Sequence[str], candidates: Sequence[Run]) -> None:
    """Raise UserError for a key that none of the runs has; of no runs nothing is expected."""
    known = list(dict.fromkeys(key for run in candidates for key in run.row))
    for key in keys:
        if known and key not in known:
            hint = did_you_mean(key, known)
            raise UserError(
                f"{key}: no run has such a key{hint}; expected a config key or a figure"
            )


def in_order(chosen: Sequence[Run], key: str) -> list[Run]:
    """Sorted by ``key``, or downwards by ``-key``; runs without a value come last."""
    name, downwards = key.removeprefix("-"), key.startswith("-")
    refuse_unknown([name], chosen)
    present = [run for run in chosen if run.row.get(name) is not None]
    absent = [run for run in chosen if run.row.get(name) is None]
    return sorted(present, key=lambda run: _rank(run.row[name]), reverse=downwards) + absent


def _rank(value: Any) -> tuple[bool, float, str]:
    """Numbers by size, before texts by letters."""
    is_number = isinstance(value, int | float)
    return not is_number, value if is_number else 0.0, "" if is_number else str(value)
