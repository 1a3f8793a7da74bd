"""torchvision's datasets with one label per image, with its own downloads and readers.

The files of each dataset are listed here, since torchvision takes seconds to import: they are found
without it, and it is used only if they are missing or not decoded yet.
"""

import contextlib
import importlib.metadata
import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinylab.config.decorators import dataset
from tinylab.config.values import option
from tinylab.data.arrays import DataAbsentError, Dataset, Source
from tinylab.data.decoding import in_threads
from tinylab.data.resize import resized, version
from tinylab.errors import UserError
from tinylab.system.paths import data_root, user_path
from tinylab.system.torchvision import import_torchvision
from tinylab.ui.console import is_terminal, say

PARTS = ("train", "val", "test")  # in the order of the images
Arguments = dict[str, Any]

BY_FLAG: dict[str, Arguments] = {"train": {"train": True}, "test": {"train": False}}
BY_NAME: dict[str, Arguments] = {"train": {"split": "train"}, "test": {"split": "test"}}
WITH_VAL: dict[str, Arguments] = BY_NAME | {"val": {"split": "val"}}
WHOLE: dict[str, Arguments] = {"train": {}}


@dataclass(frozen=True)
class Kind:
    """One of torchvision's classes.

    parts: part -> the arguments that select it. side: of all images, in pixels; None if they
    differ. files: below the root; for a folder, everything in it. labels: the classes, if
    torchvision does not name them.
    """

    parts: dict[str, Arguments]
    files: tuple[str, ...]
    side: int | None = None
    is_gray: bool = False
    labels: tuple[str, ...] = ()


def _idx(
    name: str, labels: tuple[str, ...] = (), test: str = "t10k", labels_type: str = "1-ubyte"
) -> Kind:
    """A dataset in MNIST's format; ``test`` and ``labels_type`` are parts of its file names."""
    prefix = name.lower() + "-" if name in ("EMNIST", "QMNIST") else ""
    prefix += "{split}-" if name == "EMNIST" else ""
    files = tuple(
        f"{name}/raw/{prefix}{part}-{kind}"
        for part in ("train", test)
        for kind in ("images-idx3-ubyte", f"labels-idx{labels_type}")
    )
    return Kind(BY_FLAG, files, 28, is_gray=True, labels=labels)


DIGITS = tuple("0123456789")
SETS: dict[str, Kind] = {
    "MNIST": _idx("MNIST", DIGITS),
    "FashionMNIST": _idx("FashionMNIST"),
    "KMNIST": _idx("KMNIST"),
    "QMNIST": _idx("QMNIST", DIGITS, "test", "2-int"),
    "EMNIST": _idx("EMNIST", test="test"),
    "USPS": Kind(BY_FLAG, ("usps.bz2", "usps.t.bz2"), 16, is_gray=True, labels=DIGITS),
    "SEMEION": Kind(WHOLE, ("semeion.data",), 16, is_gray=True, labels=DIGITS),
    "CIFAR10": Kind(
        BY_FLAG,
        tuple(
            f"cifar-10-batches-py/{file}"
            for file in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta")
        ),
        32,
    ),
    "CIFAR100": Kind(
        BY_FLAG, tuple(f"cifar-100-python/{file}" for file in ("train", "test", "meta")), 32
    ),
    "SVHN": Kind(BY_NAME, ("train_32x32.mat", "test_32x32.mat"), 32, labels=DIGITS),
    "STL10": Kind(
        BY_NAME,
        tuple(
            f"stl10_binary/{name}"
            for name in (
                "train_X.bin",
                "train_y.bin",
                "test_X.bin",
                "test_y.bin",
                "class_names.txt",
            )
        ),
        96,
    ),
    "EuroSAT": Kind(WHOLE, ("eurosat/2750",), 64),
    "GTSRB": Kind(
        BY_NAME,
        ("gtsrb/GTSRB/Training", "gtsrb/GTSRB/Final_Test/Images", "gtsrb/GT-final_test.csv"),
        labels=tuple(map(str, range(43))),
    ),
    "Food101": Kind(BY_NAME, ("food-101/meta", "food-101/images")),
    "Flowers102": Kind(
        WITH_VAL, ("flowers-102/imagelabels.mat", "flowers-102/setid.mat", "flowers-102/jpg")
    ),
    "DTD": Kind(WITH_VAL, ("dtd/dtd/labels", "dtd/dtd/images")),
    "FGVCAircraft": Kind(WITH_VAL, ("fgvc-aircraft-2013b/data",)),
    "OxfordIIITPet": Kind(
        BY_NAME | {"train": {"split": "trainval"}},
        ("oxford-iiit-pet/annotations", "oxford-iiit-pet/images"),
    ),
    "Country211": Kind(WITH_VAL | {"val": {"split": "valid"}}, ("country211",)),
    "RenderedSST2": Kind(WITH_VAL, ("rendered-sst2",)),
    "Imagenette": Kind(
        {part: {"split": part, "size": "160px"} for part in ("train", "val")}, ("imagenette2-160",)
    ),
    "Caltech101": Kind(WHOLE, ("caltech101/101_ObjectCategories",)),
    "Caltech256": Kind(WHOLE, ("caltech256/256_ObjectCategories",)),
}


@dataset
@dataclass(frozen=True)
class Torchvision:
    """torchvision's datasets with one label per image: dataset.set=CIFAR10, FashionMNIST, ...

    The key is ``set``, since ``dataset.name`` is the name of the option, here ``torchvision``.
    """

    set: str | None = option(
        None,
        "one of torchvision's datasets, such as CIFAR10 (required)",
        one_of=(
            "MNIST", "FashionMNIST", "KMNIST", "QMNIST", "EMNIST", "USPS", "SEMEION", "CIFAR10",
            "CIFAR100", "SVHN", "STL10", "EuroSAT", "GTSRB", "Food101", "Flowers102", "DTD",
            "FGVCAircraft", "OxfordIIITPet", "Country211", "RenderedSST2", "Imagenette",
            "Caltech101", "Caltech256",
        ),
        required="the name of one of torchvision's datasets, such as CIFAR10 or FashionMNIST",
    )  # fmt: skip
    split: str | None = option(
        None,
        "EMNIST's split: byclass, bymerge, balanced, letters, digits, mnist",
        one_of=("byclass", "bymerge", "balanced", "letters", "digits", "mnist"),
    )
    root: str | None = option(
        None, "folder for torchvision's datasets; null: the data root", is_place=True
    )
    image_size: int | None = option(
        None,
        "height and width of the prepared images, in pixels; null: as stored, if all have the "
        "same size",
        at_least=1,
        at_most=1024,
    )

    def find(self) -> Source:
        """Return the files. Raises DataAbsentError if one is missing, UserError for keys."""
        kind = self._kind()
        root = self._root()
        files = [root / name.format(split=self.split) for name in kind.files]
        absent = [file for file in files if not file.exists()]
        if absent:
            raise DataAbsentError(
                f"{absent[0]}: not found; expected torchvision's {self.set} there"
            )
        preparation: dict[str, object] = {
            "set": self.set,
            "split": self.split,
            "image_size": self.image_size,
            "torchvision": importlib.metadata.version("torchvision"),
            "pillow": importlib.metadata.version("pillow"),
            "opencv": version(),
        }
        contents = tuple(chain.from_iterable(map(_below, files)))
        return Source("torchvision", contents, preparation, self.read)

    def fetch(self) -> None:
        """Let torchvision download the missing files. Raises UserError."""
        kind, root = self._kind(), self._root()
        if self.root is not None and not root.is_dir():
            raise UserError(
                f"dataset.root={self.root}: no such folder; expected one for torchvision's "
                "datasets\n  create it to download them there, or leave dataset.root out"
            )
        say(f"{self.set} is not in {root}: torchvision downloads it")
        try:
            root.mkdir(parents=True, exist_ok=True)
            with _bars_for_terminals():
                for part in kind.parts:
                    self._opened(part, download=True)
        except UserError:
            raise
        except Exception as error:  # from hosts, archives and disks: RuntimeError, URLError, ...
            files = ", ".join(name.format(split=self.split) for name in kind.files)
            raise UserError(
                f"{self.set} cannot be downloaded: {_in_a_line(error)}\n"
                f"  put {files} into {root}, or set dataset.root or TINYLAB_DATA to where they are"
            ) from error

    def read(self) -> Dataset:
        """Read all images as uint8 (N, C, S, S); official validation and test images last.

        Raises UserError if torchvision cannot read its files.
        """
        kind, root = self._kind(), self._root()
        images, labels, counts = [], [], {}
        try:
            for part in (part for part in PARTS if part in kind.parts):
                opened = self._opened(part, download=False)
                counts[part] = len(opened)
                pixels, numbers = self._decoded(opened)
                images.append(pixels)
                labels.append(numbers)
        except UserError:
            raise
        except Exception as error:  # a damaged file raises a dozen kinds of errors
            files = ", ".join(kind.files).format(split=self.split)
            raise UserError(
                f"{root}: torchvision cannot read {self.set}: {_in_a_line(error)}\n"
                f"  remove {files} there to download it again"
            ) from error
        names, first = self._classes(opened)
        return Dataset(
            np.concatenate(images),
            np.concatenate(labels) - first,
            names,
            counts.get("test", 0),
            num_official_val=counts.get("val", 0),
        )

    def _opened(self, part: str, download: bool) -> Any:
        made = getattr(import_torchvision("torchvision.datasets"), str(self.set))
        split = {} if self.split is None else {"split": self.split}
        root = str(self._root())
        return made(root, **split, **self._kind().parts[part], download=download)

    def _decoded(self, opened: Any) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Read images (N, C, S, S) and labels (N,) of one part, decoded in several threads."""
        kind, N = self._kind(), len(opened)
        S = self.image_size or kind.side
        assert S is not None
        images = np.empty((N, 1 if kind.is_gray else 3, S, S), np.uint8)
        labels = np.empty(N, np.int64)

        def fill(index: int) -> None:
            image, labels[index] = opened[index]
            pixels = np.asarray(image.convert("L" if kind.is_gray else "RGB"))
            if self.set == "EMNIST":  # stored with rows and columns transposed
                pixels = pixels.T
            images[index] = np.atleast_3d(resized(pixels, S)).transpose(2, 0, 1)

        in_threads(fill, N)
        return images, labels

    def _classes(self, opened: Any) -> tuple[tuple[str, ...], int]:
        """Return the class names, and the label of the first: EMNIST's letters start at 1."""
        if labels := self._kind().labels:
            return labels, 0
        named = opened.classes if hasattr(opened, "classes") else opened.categories
        # Imagenette has several names for a class.
        names = tuple(name if isinstance(name, str) else name[0] for name in named)
        return (names[1:], 1) if names[0] == "N/A" else (names, 0)

    def _kind(self) -> Kind:
        """Return the facts about the dataset. Raises UserError for incompatible keys."""
        assert self.set is not None
        kind = SETS[self.set]
        if (self.split is not None) != (self.set == "EMNIST"):
            expected = "one of byclass, bymerge, balanced, letters, digits, mnist"
            raise UserError(
                f"dataset.split={self.split or 'null'} with dataset.set={self.set}: expected "
                f"{expected if self.split is None else 'null; only EMNIST has several splits'}"
            )
        if kind.side is None and self.image_size is None:
            raise UserError(
                f"dataset.image_size=null: the images of {self.set} differ in size; expected a "
                "size to resize them all to, such as dataset.image_size=64"
            )
        return kind

    def _root(self) -> Path:
        return (data_root() if self.root is None else user_path(self.root)).absolute()


def _below(path: Path) -> Iterator[str]:
    """Return a file, or all files in a folder, in the same order everywhere."""
    if not path.is_dir():
        yield str(path)
        return
    yield from sorted(str(file) for file in path.rglob("*") if not file.is_dir())


def _bars_for_terminals() -> contextlib.AbstractContextManager[Any]:
    """Suppress torchvision's progress bars, which fill log files."""
    return contextlib.nullcontext() if is_terminal() else contextlib.redirect_stderr(io.StringIO())


def _in_a_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
