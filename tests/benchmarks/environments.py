"""A Python for each peer: a virtual environment with pinned packages, made on first use."""

import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

KERAS = ("tensorflow-cpu==2.21.0", "keras==3.15.1")


def torch_packages() -> tuple[str, ...]:
    """Lightning, and the very torch that tinylab runs on here."""
    pair = [f"{name}=={version(name).partition('+')[0]}" for name in ("torch", "torchvision")]
    return (*pair, "lightning==2.6.6")


def python_of(peer: str, folder: Path) -> Path:
    """The interpreter for a peer; what computes tinylab's own floor is this one."""
    if peer == "floor":
        return Path(sys.executable)
    name, packages = ("keras", KERAS) if peer == "keras" else ("torch", torch_packages())
    return make(folder / name, packages)


def make(folder: Path, packages: tuple[str, ...]) -> Path:
    """The interpreter of an environment with ``packages``, which is made again where they differ.

    Raises CalledProcessError where the installation fails; the next call then begins again.
    """
    python, done = folder.absolute() / "bin" / "python", folder / "packages.txt"
    if done.is_file() and done.read_text() == "\n".join(packages):
        return python
    print(f"installing {', '.join(packages)} in {folder}", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    uv = shutil.which("uv")
    pip = [uv, "pip", "install", "-p", str(python)] if uv else [str(python), "-m", "pip", "install"]
    subprocess.run([*pip, "-q", *packages], check=True)
    done.write_text("\n".join(packages))
    return python
