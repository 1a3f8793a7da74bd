"""Datasets of a user's own code: what they may give, what is refused of it, and when it is called.

The functions under test are written to files and read as ``code=`` reads them.
"""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from option_records import AdamConfig, MlpConfig
from tinylab import data
from tinylab.config import options
from tinylab.config.identity import run_id
from tinylab.config.schema import Config, SplitConfig
from tinylab.data.arrays import DataAbsentError, Dataset
from tinylab.data.cache import folder as cache_folder
from tinylab.errors import UserError

HEAD = """import numpy as np
import tinylab

X = np.random.default_rng(0).integers(0, 256, (12, 8, 8), dtype=np.uint8)
Y = np.arange(12) % 3


class Pairs:
    classes = ["cat", "dog", "owl"]

    def __init__(self, images=X, labels=Y):
        self.pairs = [(image, int(label)) for image, label in zip(images, labels)]

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, index):
        return self.pairs[index]

"""
X = np.random.default_rng(0).integers(0, 256, (12, 8, 8), dtype=np.uint8)
Y = np.arange(12) % 3
NAMES = ("cat", "dog", "owl")


def declared(folder: Path, body: str, keys: str = "", mark: str = "@tinylab.dataset") -> Path:
    """A file whose dataset ``mine`` has this body."""
    file = folder / "mine.py"
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    file.write_text(f"{HEAD}\n{mark}\ndef mine({keys}):\n{lines}\n")
    options.use_files([file])
    return file


def read(folder: Path, body: str, **values: object) -> Dataset:
    declared(folder, body)
    return data.load_undivided(options.record("dataset", "mine", **values)).dataset


# ---------------------------------------------------------------- what it may give


@pytest.mark.parametrize(
    "given",
    [
        "X, Y",
        "X[:, None], Y",
        "X[..., None], Y[:, None]",
        "(X / 255).astype(np.float32), Y.astype(float)",
        "torch.from_numpy(X), torch.from_numpy(Y)",
        "list(X), list(Y)",
        "X, np.array(['cat', 'dog', 'owl'])[Y]",
        "Pairs()",
        "Pairs([image.astype(np.float64) / 255 for image in X])",
        "Pairs([torch.from_numpy(image)[None] for image in X])",
        "Pairs([Image.fromarray(image) for image in X])",
        "{'train': Pairs()}",
        "{'train': (X, Y), 'classes': ['cat', 'dog', 'owl'], 'test': None}",
    ],
)
def test_arrays_tensors_and_objects_give_the_same_images(tmp_path: Path, given: str) -> None:
    dataset = read(tmp_path, f"import torch\nfrom PIL import Image\nreturn {given}")
    assert (dataset.pixels == X[:, None]).all()
    assert (dataset.labels == Y).all()
    is_named = "Pairs" in given or "cat" in given
    assert dataset.classes == (NAMES if is_named else ("0", "1", "2"))


def test_official_parts_are_the_last_images(tmp_path: Path) -> None:
    parts = "{'test': (X[8:], Y[8:]), 'val': Pairs(X[6:8], Y[6:8]), 'train': (X[:6], Y[:6])}"
    dataset = read(tmp_path, f"return {parts}")
    assert (dataset.pixels == X[:, None]).all()
    assert (dataset.num_official_val, dataset.num_official_test) == (2, 4)


def test_colors_palettes_and_sizes_are_brought_to_one_form(tmp_path: Path) -> None:
    body = (
        "from PIL import Image\n"
        "sizes = [(8, 8), (10, 20), (31, 9)] * 4\n"
        "return Pairs([Image.new('RGBA' if i % 2 else 'P', size, i) for i, size in "
        "enumerate(sizes)])"
    )
    dataset = read(tmp_path, body, image_size=16)
    assert dataset.pixels.shape == (12, 3, 16, 16)
    with pytest.raises(UserError, match=r"different sizes.*\n.*dataset\.image_size=SIZE"):
        read(tmp_path, body)


def test_a_resized_image_is_that_of_every_other_reader(tmp_path: Path) -> None:
    one = read(tmp_path, "return X, Y", image_size=4).pixels
    several = read(tmp_path, "return [*X[:-1], np.zeros((9, 9), np.uint8)], Y", image_size=4).pixels
    assert (one[:-1] == several[:-1]).all()
    assert (one[0, 0] == X[0].reshape(4, 2, 4, 2).mean((1, 3)).round()).mean() > 0.9


def test_a_class_is_called_with_its_keys_and_is_the_data_itself(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        f"{HEAD}\n@tinylab.dataset(name='mine', normalize='standard')\nclass Mine(Pairs):\n"
        "    def __init__(self, count: int = 12):\n        super().__init__(X[:count], Y[:count])\n"
    )
    options.use_files([file])
    record = options.record("dataset", "mine", count=9)
    assert len(data.load_undivided(record).dataset.labels) == 9
    assert (record.normalize, record.image_size) == ("standard", None)


def test_a_size_of_its_own_is_given_to_the_function(tmp_path: Path) -> None:
    declared(tmp_path, "return X[:, :image_size, :image_size], Y", "image_size: int = 6")
    shapes = [
        data.load_undivided(options.record("dataset", "mine", **values)).dataset.pixels.shape
        for values in ({}, {"image_size": 8})
    ]
    assert shapes == [(12, 1, 6, 6), (12, 1, 8, 8)]


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("X", "train is an ndarray of 12x8x8\n"),
        ("3", "train is an int\n"),
        ("None", "train is None\n"),
        ("X, Y, NAMES", "name 'NAMES' is not defined"),
        ("X, Y, 1", "train is a tuple\n"),
        ("X, Y[:-1]", "(11,); expected as many labels as images"),
        ("X[:0], Y[:0]", "at least one"),
        ("X, Y + 0.5", "train labels: values of type float64; expected integers"),
        ("X, np.eye(12)", "train labels: shape (12, 12); expected one label per image"),
        ("X, Y - 1", "train labels from -1 to 1\n  expected 0 or more"),
        ("{'train': (X, Y), 'classes': ['a', 'b']}", "from 0 to 2 for 2 classes\n  expected 0 to"),
        ("{'train': (X, Y), 'test': (X, Y + 1), 'classes': 'abc'}", "test labels from 1 to 3 for"),
        ("{'train': (X, Y), 'test': (X[:, :4], Y)}", "images of 4x8; expected square images"),
        ("{'train': (X, Y), 'test': (X / 255, Y)}", "values of type float64, uint8"),
        ("{'trian': (X, Y)}", "gave a dict with trian\n"),
        ("{'train': (X, Y), 'tset': (X, Y)}", "gave a dict with train, tset\n"),
        ("X - 128.0, Y", "values from -128 to 127; expected 0 to 255, or 0 to 1\n"),
        ("X.astype(complex), Y", "values of type complex128"),
        ("X.reshape(12, 64), Y", "shape (12, 64), not 1 or 3 channels"),
        ("X, Y * 0", "all labels are 0; expected at least two classes"),
        ("[*X]", "item 0 is an ndarray of 8x8\n  expected (image, label)"),
        ("range(3)", "item 0 is an int\n  expected (image, label)"),
        ("X, [[1], [2, 3]]", "train labels: "),
        ("[*X[:-1], X[0, :4]], Y", "different sizes: 4x8, 8x8\n"),
        ("Pairs(X / 0)", "values from"),
        ("1 / 0", "mine.py:"),
    ],
)
def test_what_is_no_data_is_refused_in_a_few_lines_that_name_it(
    tmp_path: Path, given: str, words: str
) -> None:
    with np.errstate(all="ignore"), pytest.raises(UserError) as refused:
        read(tmp_path, f"return {given}")
    assert words in str(refused.value)
    assert str(refused.value).startswith("dataset=mine: ")
    assert len(str(refused.value).splitlines()) <= (3 if "mine.py" in str(refused.value) else 2)


def test_a_mistake_in_an_item_shows_their_lines_alone(tmp_path: Path) -> None:
    body = (
        "class Broken(Pairs):\n    def __getitem__(self, i):\n        return 1 / 0\nreturn Broken()"
    )
    with pytest.raises(UserError) as error:
        read(tmp_path, body)
    lines = str(error.value).splitlines()
    assert lines[0] == "dataset=mine: ZeroDivisionError: division by zero"
    assert lines[1].endswith("in __getitem__")
    assert len(lines) == 3


def test_a_mistake_in_an_item_of_a_library_names_the_item(tmp_path: Path) -> None:
    body = "from collections import UserList\nreturn UserList([(X[0], 0), (X[0],)])"
    with pytest.raises(UserError, match=r"train: item 1 is a tuple"):
        read(tmp_path, body)
    body = (
        "from torch.utils.data import StackDataset\n"
        "return StackDataset(range(3), type('Far', (), {'__len__': lambda s: 3, "
        "'__getitem__': {}.__getitem__})())"
    )
    with pytest.raises(UserError, match=r"dataset=mine: train: item 0 cannot be read: KeyError: 0"):
        read(tmp_path, body)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("root", "root: expected a default"),
        ("name: str = 'a'", "dataset.name is a built-in key"),
        ("normalize: bool = True", "dataset.normalize is a built-in key"),
        (
            "root: str = tinylab.option('a', is_place=True)",
            "is_place: not allowed, since the location of own data counts",
        ),
    ],
)
def test_keys_that_cannot_be_are_refused_before_it_is_executed(
    tmp_path: Path, keys: str, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        declared(tmp_path, "raise SystemExit('executed')", keys)


def test_a_default_of_an_unknown_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="color: expected one of name, image_size, normalize"):
        declared(tmp_path, "return X, Y", mark="@tinylab.dataset(color=True)")


# ---------------------------------------------------------------- when it is called


def test_nothing_is_executed_before_images_are_needed(tmp_path: Path) -> None:
    declared(tmp_path, "raise SystemExit('executed')")
    record = options.record("dataset", "mine")
    config = Config(dataset=record, model=MlpConfig(), optim=AdamConfig())
    assert data.identified(config).dataset == config.dataset
    data.make_ready(record)
    assert run_id(config).startswith("mine-mlp-")


def test_files_that_it_reads_are_read_again_and_nothing_is_kept(tmp_path: Path) -> None:
    declared(tmp_path, "return np.load(file), Y", f"file: str = {str(tmp_path / 'x.npy')!r}")
    record = options.record("dataset", "mine")
    with pytest.raises(DataAbsentError, match="FileNotFoundError"):
        data.fingerprint(record)
    np.save(tmp_path / "x.npy", X)
    before = data.fingerprint(record)
    assert data.fingerprint(record) == before
    assert data.load(record, SplitConfig()).fingerprint == before
    np.save(tmp_path / "x.npy", 255 - X)
    assert data.fingerprint(record) != before
    assert (data.load(record, SplitConfig()).data.pixels == 255 - X[:, None]).all()
    assert not [*cache_folder().glob("mine-*")]


def test_an_edited_function_gives_its_new_images(tmp_path: Path) -> None:
    assert (read(tmp_path, "return X, Y").pixels == X[:, None]).all()
    assert (read(tmp_path, "return X * 0 + 7, Y").pixels == 7).all()


def test_global_generators_draw_the_same_in_each_call_and_go_on_after_it(tmp_path: Path) -> None:
    body = "import random\nreturn np.random.rand(12, 8, 8) * random.random(), Y"
    np.random.seed(5)
    first = read(tmp_path, body).pixels
    after = np.random.rand()
    np.random.seed(5)
    assert after == np.random.rand()
    assert (read(tmp_path, body).pixels == first).all()


def test_images_are_those_that_pillow_reads(tmp_path: Path) -> None:
    Image.fromarray(np.stack([X[0]] * 3, -1)).save(tmp_path / "one.png")
    body = (
        "from PIL import Image\n"
        f"return Pairs([Image.open({str(tmp_path / 'one.png')!r}) for _ in range(12)])"
    )
    assert (read(tmp_path, body).pixels == X[0]).all()
