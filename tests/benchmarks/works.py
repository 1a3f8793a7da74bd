"""What is measured: each work as tinylab's overrides and as the peers' arguments."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import process

HERE = Path(__file__).parent
ON_CPU = "device=cpu"  # Keras is installed without CUDA, and the peers' scripts use none


@dataclass(frozen=True)
class Work:
    """A training: the network by the peers' name, tinylab's overrides, images a step.

    ``times``: how often MNIST's training images are repeated.
    """

    network: str
    overrides: tuple[str, ...]
    batch_size: int
    times: int = 1


BASELINE = ("model=baseline", "optim=adam")
MNIST = ("dataset=mnist", *BASELINE)
WORKS = {
    "digits": Work("baseline", ("dataset=digits", *BASELINE), 32),
    "mnist32": Work("baseline", MNIST, 32),
    "mnist512": Work("baseline", MNIST, 512),
    "scene15": Work("resnet", ("dataset=scene15", "model=resnet", "optim=adam"), 64),
    "mnist x1": Work("baseline", MNIST, 512),
    "mnist x4": Work("baseline", MNIST, 512, times=4),
    "mnist x16": Work("baseline", MNIST, 512, times=16),
}


def folder_work(folder: Path, count: int) -> Work:
    """Training on ``count`` color images in class folders, made of 15-Scene's photographs."""
    root = folder / "data" / f"folder-{count}"
    if not root.is_dir():
        _link_photographs(root, count)
    return Work("baseline", ("dataset=folder", f"dataset.root={root}", *BASELINE), 512)


def _link_photographs(root: Path, count: int) -> None:
    """Links to 15-Scene's files, over and over: 200x200 JPEG, 84 MB in all.

    Once read they lie in the file cache, so this measures decoding, and not the disk.
    """
    source = Path(os.environ.get("TINYLAB_DATA", "")).absolute() / "15-Scene"
    files = sorted(source.glob("*/*.jpg"))
    if not files:
        raise SystemExit(f"{source}: expected 15-Scene's photographs; set TINYLAB_DATA")
    unfinished = root.with_suffix(".part")
    for number in range(count):
        file = files[number % len(files)]
        link = unfinished / file.parent.name / f"{number}.jpg"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(file)
    unfinished.rename(root)


def tinylab(work: Work, *overrides: str) -> list[str]:
    """The real command."""
    repeated = [str(HERE / "repeated.py"), str(work.times)]
    program = repeated if work.times > 1 else ["-m", "tinylab"]
    return [sys.executable, *program, "train", *arguments(work), *overrides]


def arguments(work: Work) -> list[str]:
    """Overrides that tinylab, its floor and the peers' data have in common."""
    return [*work.overrides, f"train.batch_size={work.batch_size}", ON_CPU]


def peer(python: Path, script: str, data: Path, work: Work, epochs: int) -> list[str]:
    """A peer's script on the same work."""
    path = HERE / "peers" / f"{script}.py"
    return [str(python), str(path), str(data), work.network, str(epochs), str(work.batch_size)]


def data_of(name: str, work: Work, folder: Path) -> Path:
    """The file of images for the peers, made on first use."""
    path = folder / "data" / f"{name.replace(' ', '-')}.npz"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        program = [sys.executable, str(HERE / "make_data.py"), str(unfinished), str(work.times)]
        process.run([*program, *arguments(work)])
        unfinished.rename(path)
    return path
