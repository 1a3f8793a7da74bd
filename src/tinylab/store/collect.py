"""Find the finished runs in the paths of a command. Anything else there is only listed."""

import glob
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tinylab.store.folder import ARCHIVED, RunFolder
from tinylab.store.result import Result
from tinylab.store.run import Run, open_run
from tinylab.store.sweep import SweepFolder

# Facts about a machine that affect the bits of a result -> their names.
BITS_DEPEND_ON = {"threads": "threads", "device_name": "on", "torch": "torch"}
CODE = ("own_code_sha256", "libraries", "core_sha256")  # digests and versions in a result


@dataclass(frozen=True)
class Skipped:
    """Something in a path that is not a finished run, and why."""

    path: Path
    reason: str


def collect(paths: Sequence[str | Path]) -> tuple[list[Run], list[Skipped]]:
    """Return the finished runs in ``paths``, without repetition, and what was left out.

    A path is the folder of a run or sweep, a folder of such folders, ``outputs`` itself, or a glob.
    Archived runs count only if named explicitly.
    """
    runs: dict[str, Run] = {}
    skipped: dict[Path, Skipped] = {}
    folders: set[Path] = set()
    for path in _folders(paths):
        run = path if isinstance(path, Skipped) else read(path)
        if isinstance(run, Skipped):
            skipped[run.path] = run
        elif run.folder.resolve() not in folders:
            folders.add(run.folder.resolve())
            same = runs.setdefault(json.dumps(run.values, sort_keys=True), run)
            if same is not run:
                skipped[run.folder] = Skipped(run.folder, _repetition(same, run))
    return list(runs.values()), list(skipped.values())


def _repetition(first: Run, second: Run) -> str:
    """Describe a second run of one config: a copy, a repeat with the same bits, or with others."""
    a, b = first.result, second.result
    if a.weights_sha256 == b.weights_sha256:
        return f"the same run as {first.folder}"
    here, there = a.environment.facts(), b.environment.facts()
    causes = [
        f"{words} {here.get(key)} and {there.get(key)}"
        for key, words in BITS_DEPEND_ON.items()
        if here.get(key) != there.get(key)
    ]
    causes += _code_differences(first, second)
    why = f" ({', '.join(causes)})" if causes else ""
    return f"same config as {first.folder}, but other bits{why}"


def _code_differences(first: Run, second: Run) -> list[str]:
    """Return what differs in the code of two runs: the user's, that of libraries, tinylab's."""
    a, b = first.result.environment, second.result.environment
    if a.code_sha256 == b.code_sha256:
        return []
    here, there = a.facts(), b.facts()
    own, libraries, core = (here.get(key) != there.get(key) for key in CODE)
    texts = [{file.name: file.read_bytes() for file in run.files.code_folder.rglob("*.py")}
             for run in (first, second)]  # fmt: skip
    names = sorted(name for name, text in texts[1].items() if texts[0].get(name) != text)
    own_words = ": ".join(["your code differed", *filter(None, [", ".join(names)])])
    differences = [own_words] * own
    differences += [f"{here.get('libraries')} and {there.get('libraries')}"] * libraries
    if core or not differences:
        differences.append("a different version of tinylab's code")
    return differences


def read(folder: Path) -> Run | Skipped:
    """Return the finished run in ``folder``, or why there is none."""
    run = open_run(folder)
    return run if isinstance(run.result_or_fault, Result) else Skipped(folder, run.why_not())


def _folders(paths: Sequence[str | Path]) -> Iterator[Path | Skipped]:
    """Return the folders of runs below ``paths``, finished or not."""
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
        yield Skipped(folder, "not a folder" if os.path.exists(folder) else "does not exist")
    elif RunFolder(folder).is_run():
        yield folder
    elif SweepFolder(folder).is_sweep():
        yield from _of_sweep(SweepFolder(folder))
    else:
        yield from _inside(folder / "runs" if os.path.isdir(folder / "runs") else folder)


def _inside(folder: Path) -> Iterator[Path | Skipped]:
    """Return the runs and sweeps in a folder of them."""
    try:
        inner = sorted(path for path in folder.iterdir() if path.name[0] != "." and path.is_dir())
    except OSError as error:
        yield Skipped(folder, f"cannot be read: {error.strerror}")
        return
    if not inner:
        yield Skipped(folder, "contains no run")
    for path in inner:
        if ARCHIVED.search(path.name):
            yield Skipped(path, "set aside earlier; pass its folder to include it")
        elif SweepFolder(path).is_sweep():
            yield from _of_sweep(SweepFolder(path))
        else:
            yield path


def _of_sweep(sweep: SweepFolder) -> Iterator[Path | Skipped]:
    """Return the runs that a sweep lists."""
    jobs = sweep.jobs()
    if jobs is None:
        yield Skipped(sweep.path, f"its {sweep.state_file.name} cannot be read")
        return
    paths = {run_id: sweep.run_path(run_id) for run_id in jobs}
    if not all(map(os.path.isdir, paths.values())):
        paths |= _renamed(paths)
    incomplete = sweep.incomplete()
    for run_id, state in jobs.items():
        run = RunFolder(paths[run_id])
        is_finished = run.result_file.exists()
        if state == "pruned" and not is_finished:
            yield Skipped(run.path, "pruned by the search")
        elif run_id in incomplete and is_finished:
            why = "pruned" if incomplete[run_id] == "pruned" else "not finished"
            yield Skipped(run.path, f"repeat of a setting that is {why}")
        else:
            yield run.path


def _renamed(paths: dict[str, Path]) -> dict[str, Path]:
    """Return runs that are not in the folders of their ids: next to these, renamed."""
    missing = {run_id for run_id, path in paths.items() if not os.path.isdir(path)}
    renamed: dict[str, Path] = {}
    for beside in {path.parent for path in paths.values() if os.path.isdir(path.parent)}:
        for path in sorted(beside.iterdir()):
            if path.name not in paths and not ARCHIVED.search(path.name):
                result = RunFolder(path).result()
                if result is not None and result.run_id in missing:
                    renamed.setdefault(result.run_id, path)
    return renamed
