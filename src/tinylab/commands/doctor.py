"""``tinylab doctor``: checks the machine and suggests fixes.

Each check is a separate function that imports what it needs, so that a broken library, even torch,
does not prevent the other checks.
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
from tinylab.system.project import project
from tinylab.ui.console import in_bytes, say

FREE_BYTES = 10**9  # less free space is reported
# Distribution -> module, where the names differ in more than case.
MODULES = {
    "hydra-core": "hydra", "opencv-python-headless": "cv2", "scikit-learn": "sklearn",
    "pyyaml": "yaml",
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """The outcome of a check and its remedy (None: no problem)."""

    text: str
    remedy: str | None = None


Findings = Iterator[Finding]


def main(arguments: list[str]) -> None:
    """Run the command. Raises UserError if problems were found."""
    parser = Parser(
        prog="tinylab doctor",
        description="Check Python, libraries, device, data and disks.",
        epilog="example: tinylab doctor --outputs /scratch/outputs",
    )
    parser.add_outputs()
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
        raise UserError(f"{wrong} {'problem' if wrong == 1 else 'problems'} found")
    say("no problems found")


def _look(name: str, check: Callable[[], Findings]) -> int:
    """Show the findings of a check, one per line; returns the number of problems."""
    wrong = 0
    for finding in _guarded(check):
        state = "ok" if finding.remedy is None else "fail"
        say(f"{state:4}  {name:11}  {finding.text}")
        if finding.remedy is not None:
            say(f"{'':19}{finding.remedy}")
            wrong += 1
    return wrong


def _guarded(check: Callable[[], Findings]) -> Findings:
    """Return the findings of a check; an exception is a finding too."""
    try:
        yield from check()
    except UserError as error:
        text, _, remedy = str(error).partition("\n")
        yield Finding(text, remedy.strip() or "see above")
    except ImportError as error:
        yield Finding(f"not checked: {error}", "fix the libraries first")
    except Exception as error:
        yield Finding(f"{type(error).__name__}: {error}", "fix what it names, or report it")


# ---------------------------------------------------------------- checks


def python() -> Findings:
    """Check the interpreter."""
    version = f"{platform.python_version()} in {sys.prefix}, on {platform.platform()}"
    yield Finding(version, None if sys.version_info >= (3, 11) else "install Python 3.11 or newer")


def libraries() -> Findings:
    """Check all dependencies: installed, in a supported version, importable."""
    for requirement in _requirements():
        yield from _guarded(partial(library, requirement))


def _requirements() -> list[str]:
    """Return the requirements in pyproject.toml: a checkout may be newer than its installation."""
    pyproject = Path(__file__).parents[3] / "pyproject.toml"
    if pyproject.is_file():
        return list(tomllib.loads(pyproject.read_text("utf-8"))["project"]["dependencies"])
    listed = importlib.metadata.requires("tinylab") or []
    return [line for line in listed if "extra ==" not in line]


def library(requirement: str) -> Findings:
    """Check one library."""
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
        expected = "" if fits else f", but tinylab is tested with {wanted.specifier}"
        yield Finding(f"{wanted.name} {version}{expected}", None if fits else again)


def config() -> Findings:
    """Check the YAML files and the schema."""
    from tinylab.config import compose, folders, groups

    compose.run_hydra(lambda composed: compose.to_config(composed), [])
    yield Finding(f"{len(groups.groups())} groups in {', '.join(map(str, folders.conf_folders()))}")


def device() -> Findings:
    """Check the training device with a small computation."""
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
            "an NVIDIA GPU is present, but torch cannot use it",
            "install torch built for CUDA, and a driver at least as new (nvidia-smi shows it)",
        )


def allocator() -> Findings:
    """Check that freed memory is kept; otherwise every step takes twice as long."""
    from tinylab.system import runtime

    if "malloc" in os.environ.get("LD_PRELOAD", ""):
        yield Finding("LD_PRELOAD loads another allocator", "unset LD_PRELOAD")
    elif runtime.keep_freed_memory():
        yield Finding("glibc's allocator keeps freed memory")
    else:
        yield Finding("no glibc: the allocator cannot be set to keep freed memory")


def openmp() -> Findings:
    """Check variables that make waiting threads spin, or bind them to busy cores."""
    names = ("OMP_WAIT_POLICY", "OMP_PROC_BIND", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")
    values = {name: os.environ.get(name, "") for name in names}
    wrong = [name for name, v in values.items() if v.lower() not in ("", "false", "passive")]
    if wrong:
        shown = ", ".join(f"{name}={values[name]}" for name in wrong)
        yield Finding(
            f"{shown}: waiting threads spin, so busy processes slow each other down",
            f"unset {' '.join(wrong)}",
        )
    else:
        spin = os.environ.get("GOMP_SPINCOUNT", "default")
        yield Finding(f"waiting threads yield (GOMP_SPINCOUNT={spin})")


def tensorboard() -> Findings:
    """Check TensorBoard by writing curves."""
    from tinylab.store.folder import RunFolder
    from tinylab.ui.tensorboard import RunTracker

    with tempfile.TemporaryDirectory() as name:
        files = RunFolder(Path(name))
        RunTracker(files.path, files.metrics_file, [], {}).close()
        [file] = files.event_files()
        yield Finding(f"event files are written ({file.stat().st_size} bytes of header)")


def datasets() -> Findings:
    """Check the data root, and the fingerprint of each dataset in it."""
    from tinylab.system.paths import data_root

    set_by = "the default; TINYLAB_DATA changes it"
    if os.environ.get("TINYLAB_DATA"):
        set_by = "TINYLAB_DATA"
    elif project().data is not None:
        set_by = str(project().file)
    yield Finding(f"root {data_root()} ({set_by})")
    for option in options("dataset").values():
        if not option.required:
            yield from _guarded(partial(dataset, option))


def dataset(option: Option) -> Findings:
    """Check a dataset with its defaults; decodes it if it is not cached."""
    from tinylab import data
    from tinylab.data.arrays import DataAbsentError

    try:
        yield Finding(f"{option.name}, fingerprint {data.fingerprint(option.record())[:12]}")
    except DataAbsentError:
        yield Finding(f"{option.name}: not downloaded yet; the first run downloads it")


def decoded() -> Findings:
    """Check the image cache."""
    from tinylab.data import cache

    size = sum(file.stat().st_size for file in cache.kept())
    yield Finding(f"{len(cache.kept())} decoded datasets, {in_bytes(size)}")
    yield from folder(cache.folder())


def folder(path: Path) -> Findings:
    """Check that a folder can be written, and its free space."""
    from tinylab.store.lease import has_working_locks

    parent = path.absolute()
    while not parent.exists():
        parent = parent.parent
    try:
        with tempfile.TemporaryFile(dir=parent):
            free = shutil.disk_usage(parent).free
    except OSError as error:
        yield Finding(
            f"{path} cannot be written: {error.strerror}", "choose another folder, or fix this one"
        )
    else:
        remedy = None if free >= FREE_BYTES else "free some space: tinylab remove --help"
        yield Finding(f"{path} can be written; {in_bytes(free)} free", remedy)
        if not has_working_locks(parent):
            local = "sweep.workers needs locks: a local disk, or a shared one such as NFS 4"
            yield Finding(f"{path} is on a disk without working locks", local)


def code() -> Findings:
    """Report the source version that results record."""
    import torch

    from tinylab.config import code as decides
    from tinylab.system import runtime

    facts = runtime.environment(torch.device("cpu"))
    if facts["git_commit"] is None:
        state = "not a git checkout"
    else:
        dirty = ", with uncommitted changes" if facts["dirty"] else ""
        state = f"commit {facts['git_commit'][:12]}{dirty}"
    yield Finding(f"{state}; hash of the code that decides results: {decides.core()[:12]}")
