"""``tinylab doctor``: is this machine all right, and what is to be mended.

Each check is a function of its own that imports what it needs: where one library is broken, even
torch, the others are still looked at.
"""

import importlib
import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tinylab.commands.parser import Parser
from tinylab.config.option import Option
from tinylab.config.options import options
from tinylab.errors import UserError
from tinylab.system.project import default_outputs, project
from tinylab.ui.console import in_bytes, say

FREE_BYTES = 10**9  # less on a disk is worth a word
# Distribution -> module, where the names differ by more than capitals.
MODULES = {
    "hydra-core": "hydra", "opencv-python-headless": "cv2", "scikit-learn": "sklearn",
    "pyyaml": "yaml",
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """What a check found, and what to do about it; None where all is well."""

    text: str
    remedy: str | None = None


Findings = Iterator[Finding]


def main(arguments: list[str]) -> None:
    """Run the command. Raises UserError where something is to be mended."""
    parser = Parser(
        prog="tinylab doctor",
        description="Look at Python, libraries, device, data and disks, and say what to mend.",
        epilog="example: tinylab doctor --outputs /scratch/outputs",
    )
    parser.add_argument("--outputs", type=Path, default=default_outputs(), metavar="FOLDER")
    options = parser.parse_args(arguments)
    checks: dict[str, Callable[[], Findings]] = {
        "python": python,
        "library": libraries,
        "config": config,
        "device": device,
        "memory": allocator,
        "OpenMP": openmp,
        "TensorBoard": tensorboard,
        "data": datasets,
        "cache": decoded,
        "outputs": partial(folder, options.outputs),
        "code": code,
    }
    wrong = sum(_look(name, check) for name, check in checks.items())
    if wrong:
        raise UserError(f"{wrong} {'thing' if wrong == 1 else 'things'} to mend")
    say("nothing to mend")


def _look(name: str, check: Callable[[], Findings]) -> int:
    """Show what a check finds, a line each; returns how much of it is to be mended."""
    wrong = 0
    for finding in _guarded(check):
        state = "ok" if finding.remedy is None else "mend"
        say(f"{state:4}  {name:11}  {finding.text}")
        if finding.remedy is not None:
            say(f"{'':19}{finding.remedy}")
            wrong += 1
    return wrong


def _guarded(check: Callable[[], Findings]) -> Findings:
    """The findings of a check; one that breaks off has found something too."""
    try:
        yield from check()
    except UserError as error:
        text, _, remedy = str(error).partition("\n")
        yield Finding(text, remedy.strip() or "see above")
    except ImportError as error:
        yield Finding(f"not looked at: {error}", "mend the libraries first")
    except Exception as error:
        yield Finding(f"{type(error).__name__}: {error}", "mend what it names, or report it")


# ---------------------------------------------------------------- checks


def python() -> Findings:
    """The interpreter."""
    found = f"{platform.python_version()} in {sys.prefix}, on {platform.platform()}"
    yield Finding(found, None if sys.version_info >= (3, 11) else "install Python 3.11 or newer")


def libraries() -> Findings:
    """Everything that tinylab is built on: there, of the right version, fit to be imported."""
    for requirement in _requirements():
        yield from _guarded(partial(library, requirement))


def _requirements() -> list[str]:
    """As pyproject.toml has them: in a checkout it may be newer than what was installed."""
    pyproject = Path(__file__).parents[3] / "pyproject.toml"
    if pyproject.is_file():
        return list(tomllib.loads(pyproject.read_text("utf-8"))["project"]["dependencies"])
    listed = importlib.metadata.requires("tinylab") or []
    return [line for line in listed if "extra ==" not in line]


def library(requirement: str) -> Findings:
    """One library."""
    from packaging.requirements import Requirement

    wanted = Requirement(requirement)
    again = f"pip install --force-reinstall '{requirement}'"
    try:
        version = importlib.metadata.version(wanted.name)
        if wanted.name == "torchvision":
            from tinylab.system.torchvision import import_torchvision

            import_torchvision("torchvision")
        else:
            importlib.import_module(MODULES.get(wanted.name.lower(), wanted.name.lower()))
    except importlib.metadata.PackageNotFoundError:
        yield Finding(f"{wanted.name} is not installed", again)
    except UserError:
        raise
    except Exception as error:
        yield Finding(f"{wanted.name} {version} cannot be imported: {error}", again)
    else:
        fits = wanted.specifier.contains(version, prereleases=True)
        expected = "" if fits else f", but tinylab was tried with {wanted.specifier}"
        yield Finding(f"{wanted.name} {version}{expected}", None if fits else again)


def config() -> Findings:
    """The YAML files and the schema."""
    from tinylab.config import compose, folders, groups

    compose.run_hydra(lambda composed: compose.to_config(composed), [])
    yield Finding(f"{len(groups.groups())} groups in {', '.join(map(str, folders.conf_folders()))}")


def device() -> Findings:
    """What training runs on: by a small computation on it."""
    import torch

    from tinylab.system import machine, runtime

    chosen = runtime.choose_device("auto")
    torch.ones(8, device=chosen).sum().item()
    memory = ""
    if chosen.type == "cuda":
        memory = f", {in_bytes(torch.cuda.get_device_properties(chosen).total_memory)}"
    yield Finding(
        f"{chosen} ({runtime.device_name(chosen)}{memory}); {machine.cores()} of "
        f"{os.cpu_count()} cores"
    )
    if machine.gpus() and not torch.cuda.is_available():
        yield Finding(
            "there is an NVIDIA GPU that torch cannot use",
            "install torch built for CUDA, and a driver at least as new (nvidia-smi shows it)",
        )


def allocator() -> Findings:
    """Whether freed memory can be kept, without which every step takes twice as long."""
    from tinylab.system import runtime

    if "malloc" in os.environ.get("LD_PRELOAD", ""):
        yield Finding("LD_PRELOAD brings another allocator", "unset LD_PRELOAD")
    elif runtime.keep_freed_memory():
        yield Finding("glibc's allocator keeps what is freed")
    else:
        yield Finding("no glibc: its allocator cannot be told to keep what is freed")


def openmp() -> Findings:
    """Variables under which threads spin while they wait, or keep to cores that others need."""
    names = ("OMP_WAIT_POLICY", "OMP_PROC_BIND", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")
    values = {name: os.environ.get(name, "") for name in names}
    wrong = [name for name, v in values.items() if v.lower() not in ("", "false", "passive")]
    if wrong:
        shown = ", ".join(f"{name}={values[name]}" for name in wrong)
        yield Finding(
            f"{shown}: a busy neighbour slows training down, and jobs of a sweep each other",
            f"unset {' '.join(wrong)}",
        )
    else:
        spin = os.environ.get("GOMP_SPINCOUNT", "default")
        yield Finding(f"threads that wait give way (GOMP_SPINCOUNT={spin})")


def tensorboard() -> Findings:
    """Curves, by writing some."""
    from tinylab.store.folder import RunFolder
    from tinylab.ui.tensorboard import RunTracker

    with tempfile.TemporaryDirectory() as name:
        files = RunFolder(Path(name))
        RunTracker(files.path, files.metrics_file, [], {}).close()
        [file] = files.event_files()
        yield Finding(f"event files are written ({file.stat().st_size} bytes of header)")


def datasets() -> Findings:
    """The data root, and the fingerprint of each dataset in it."""
    from tinylab.system.paths import data_root

    set_by = "the default; else TINYLAB_DATA"
    if os.environ.get("TINYLAB_DATA"):
        set_by = "TINYLAB_DATA"
    elif project().data is not None:
        set_by = str(project().file)
    yield Finding(f"root {data_root()} ({set_by})")
    for option in options("dataset").values():
        if not option.required:
            yield from _guarded(partial(dataset, option))


def dataset(option: Option) -> Findings:
    """One dataset with its defaults. It is decoded where it is not in the cache yet."""
    from tinylab import data
    from tinylab.data.arrays import DataAbsentError

    try:
        yield Finding(f"{option.name}, fingerprint {data.fingerprint(option.record())[:12]}")
    except DataAbsentError:
        yield Finding(f"{option.name}: not there yet; the first run downloads it")


def decoded() -> Findings:
    """Where decoded images are kept."""
    from tinylab.data import cache

    size = sum(file.stat().st_size for file in cache.kept())
    yield Finding(f"{len(cache.kept())} decoded datasets, {in_bytes(size)}")
    yield from folder(cache.folder())


def folder(path: Path) -> Findings:
    """A folder that is written to, or will be made: whether it can be, and how much fits in."""
    from tinylab.store.lease import has_working_locks

    place = path.absolute()
    while not place.exists():
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            free = shutil.disk_usage(place).free
    except OSError as error:
        yield Finding(f"{path} cannot be written: {error.strerror}", "choose or mend that folder")
    else:
        remedy = None if free >= FREE_BYTES else "free some space: tinylab remove --help"
        yield Finding(f"{path} can be written; {in_bytes(free)} free", remedy)
        if not has_working_locks(place):
            local = "sweep.workers needs locks: a local disk, or a shared one such as NFS 4"
            yield Finding(f"{path} is on a disk without working locks", local)


def code() -> Findings:
    """Which source a result is recorded with."""
    import torch

    from tinylab.config import code as decides
    from tinylab.system import runtime

    facts = runtime.environment(torch.device("cpu"))
    if facts["git_commit"] is None:
        state = "no git checkout"
    else:
        state = f"commit {facts['git_commit'][:12]}{', changed since' if facts['dirty'] else ''}"
    yield Finding(f"{state}; what decides results has the hash {decides.core()[:12]}")
