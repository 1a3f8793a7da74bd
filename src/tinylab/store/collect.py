"""Which finished runs the paths of a command mean. Whatever else lies there is listed, no more."""

import glob
import hashlib
import json
import math
import os
import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinylab.config.keys import without_effect
from tinylab.config.metrics import METRICS
from tinylab.config.schema import flatten
from tinylab.config.values import is_number
from tinylab.store import folder as runs
from tinylab.store import result as results

SET_ASIDE = re.compile(r"\.\d{8}-\d{6}(-\d+)?")  # the end of the name that runs.set_aside gives
RUN_FILES = ("result.json", "config.yaml", "failure.json")


@dataclass(frozen=True)
class Skipped:
    """Something in a path that is no finished run, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Run:
    """A finished run.

    ``result`` is what its ``result.json`` holds; ``values`` are the config values that can change
    a result, by the keys that a user types (``model``, ``model.filters``, ``split.seed``).
    """

    folder: Path
    result: dict[str, Any]
    values: dict[str, Any]

    @property
    def name(self) -> str:
        """The folder's name, which is the run's id unless it was set aside."""
        return self.folder.name

    def figure(self, name: str) -> float | None:
        """One of METRICS; None where the run has it not: no image validates, or it is older."""
        value = results.lookup(self.result, METRICS[name].path)
        return float(value) if is_number(value) and math.isfinite(value) else None

    @cached_property
    def predictions(self) -> dict[str, NDArray[Any]] | None:
        """``index``, ``label`` and ``predicted``, each int64 (num_test,); None if unreadable."""
        try:
            # Opened here, because np.load leaves a damaged file open.
            path = self.folder / "predictions.npz"
            with path.open("rb") as file, np.load(file) as saved:
                arrays = {key: saved[key] for key in ("index", "label", "predicted")}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        shapes = {array.shape for array in arrays.values()}
        return arrays if shapes == {(self.result["dataset"]["num_test"],)} else None

    @cached_property
    def test_set(self) -> str:
        """Equal for two runs of one dataset if they were tested on the same images."""
        arrays = self.predictions
        if arrays is None:
            return str(self.result["split_sha256"])
        digest = hashlib.sha256(arrays["index"].tobytes())
        digest.update(arrays["label"].tobytes())
        return digest.hexdigest()


def collect(paths: Sequence[str | Path]) -> tuple[list[Run], list[Skipped]]:
    """The finished runs that ``paths`` mean, each once, and what was left out.

    A path is the folder of a run or of a sweep, a folder of such folders, ``outputs`` itself, or
    a glob. Runs that were set aside count only where they are named.
    """
    found: dict[str, Run] = {}
    skipped: dict[Path, Skipped] = {}
    folders: set[Path] = set()
    for place in _places(paths):
        run = place if isinstance(place, Skipped) else read(place)
        if isinstance(run, Skipped):
            skipped[run.path] = run
        elif run.folder.resolve() not in folders:
            folders.add(run.folder.resolve())
            same = found.setdefault(json.dumps(run.values, sort_keys=True), run)
            if same is not run:
                skipped[run.folder] = Skipped(run.folder, f"the same run as {same.folder}")
    return list(found.values()), list(skipped.values())


def read(folder: Path) -> Run | Skipped:
    """The finished run in ``folder``, or why there is none."""
    result = runs.read_result(folder)
    if result is None:
        return Skipped(folder, _why_not(folder))
    if (fault := results.fault(result)) is not None:
        return Skipped(folder, fault)
    flat = flatten(result["config"])
    return Run(folder, result, {k: v for k, v in flat.items() if k not in without_effect()})


def _why_not(folder: Path) -> str:
    failure = runs.read_json(folder / "failure.json")
    if failure is not None:
        return f"failed: {str(failure.get('error', '')).partition(chr(10))[0]}"
    result = runs.read_json(folder / "result.json")
    if result is None and (folder / "result.json").exists():
        return "its result.json cannot be read"
    if result is not None or (folder / "config.yaml").exists():
        return "unfinished"
    return "no run" if folder.exists() else "not there"


def _places(paths: Sequence[str | Path]) -> Iterator[Path | Skipped]:
    """The folders of runs below ``paths``, finished or not."""
    for path in paths:
        named = Path(path).expanduser()
        if os.path.exists(named) or not glob.has_magic(str(named)):
            yield from _below(named)
            continue
        matches = sorted(glob.glob(str(named)))
        if not matches:
            yield Skipped(named, "matches nothing")
        for match in matches:
            yield from _below(Path(match))


def _below(folder: Path) -> Iterator[Path | Skipped]:
    if not os.path.isdir(folder):
        yield Skipped(folder, "not a folder" if os.path.exists(folder) else "not there")
    elif _holds(folder, *RUN_FILES):
        yield folder
    elif _holds(folder, "sweep.json"):
        yield from _of_sweep(folder)
    else:
        yield from _inside(folder / "runs" if os.path.isdir(folder / "runs") else folder)


def _inside(folder: Path) -> Iterator[Path | Skipped]:
    """The runs and sweeps in a folder of them."""
    try:
        inner = sorted(path for path in folder.iterdir() if path.name[0] != "." and path.is_dir())
    except OSError as error:
        yield Skipped(folder, f"cannot be read: {error.strerror}")
        return
    if not inner:
        yield Skipped(folder, "no run in it")
    for path in inner:
        if SET_ASIDE.search(path.name):
            yield Skipped(path, "set aside earlier; name the folder to compare it")
        elif _holds(path, "sweep.json"):
            yield from _of_sweep(path)
        else:
            yield path


def _of_sweep(folder: Path) -> Iterator[Path | Skipped]:
    """The runs that a sweep lists; they lie beside the sweeps, in ``runs``."""
    state = runs.read_json(folder / "sweep.json") or {}
    try:
        names = {str(job["run_id"]): job.get("state") for job in state["jobs"]}
    except (KeyError, TypeError, AttributeError):
        yield Skipped(folder, "its sweep.json cannot be read")
        return
    for name, said in names.items():
        run = folder.absolute().parents[1] / "runs" / name
        is_pruned = said == "pruned" and not _holds(run, "result.json")
        yield Skipped(run, "pruned by the search") if is_pruned else run


def _holds(folder: Path, *names: str) -> bool:
    return any(os.path.exists(folder / name) for name in names)
