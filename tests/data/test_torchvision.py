"""torchvision's datasets, small, in the very formats in which they are downloaded."""

import bz2
import gzip
import hashlib
import pickle
import shutil
import struct
import sys
import tarfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import scipy.io
from numpy.typing import NDArray

from image_files import fill
from option_records import MnistConfig, TorchvisionSetConfig
from tinylab import cli, data
from tinylab.commands import doctor
from tinylab.config.options import options
from tinylab.config.schema import SplitConfig
from tinylab.data import part_of
from tinylab.data.arrays import DataAbsentError, Dataset
from tinylab.data.torchvision import SETS
from tinylab.errors import UserError

pytestmark = pytest.mark.costly
Pixels = NDArray[np.uint8]


def datasets() -> Any:
    """torchvision's module of them: 2 s of imports, for no other test."""
    import torchvision

    return torchvision.datasets


def pixels(*shape: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def write(file: Path, content: bytes) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def md5(file: Path) -> str:
    return hashlib.md5(file.read_bytes()).hexdigest()


def idx(values: NDArray[Any], kind: int = 8) -> bytes:
    """An array in MNIST's format: ``kind`` 8 is uint8, 12 is big-endian int32."""
    header = struct.pack(f">BBBB{values.ndim}I", 0, 0, kind, values.ndim, *values.shape)
    return header + values.astype({8: "u1", 12: ">i4"}[kind]).tobytes()


def two_parts(
    *shape: int, classes: int = 3, counts: tuple[int, int] = (12, 4)
) -> list[tuple[Pixels, NDArray[np.int64]]]:
    """Images and labels of the training and the test part."""
    return [(pixels(count, *shape, seed=count), np.arange(count) % classes) for count in counts]


def config(root: Path, name: str, **keys: Any) -> Any:
    return TorchvisionSetConfig(set=name, root=str(root), **keys)


def read(root: Path, name: str, **keys: Any) -> Dataset:
    """The images by way of the cache, as every command reads them."""
    return data.load_undivided(config(root, name, **keys)).dataset


def check(result: Dataset, parts: list[tuple[Pixels, NDArray[np.int64]]]) -> None:
    """``parts`` hold images (N, H, W) or (N, H, W, 3); the last of two is the official test set."""
    expected = np.concatenate([images for images, _ in parts])
    expected = expected[:, None] if expected.ndim == 3 else expected.transpose(0, 3, 1, 2)
    assert (result.pixels == expected).all()
    assert result.labels.tolist() == np.concatenate([labels for _, labels in parts]).tolist()
    assert result.num_official_test == (len(parts[1][1]) if len(parts) > 1 else 0)


# ---------------------------------------------------------------- the datasets


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST", "KMNIST"])
def test_mnists_family(name: str, tmp_path: Path) -> None:
    parts = two_parts(28, 28)
    for part, (images, labels) in zip(("train", "t10k"), parts, strict=True):
        write(tmp_path / name / "raw" / f"{part}-images-idx3-ubyte", idx(images))
        write(tmp_path / name / "raw" / f"{part}-labels-idx1-ubyte", idx(labels))
    result = read(tmp_path, name)
    check(result, parts)
    firsts = {"MNIST": "0", "FashionMNIST": "T-shirt/top", "KMNIST": "o"}
    assert (len(result.classes), result.classes[0]) == (10, firsts[name])


def test_qmnists_labels_have_eight_columns(tmp_path: Path) -> None:
    parts = two_parts(28, 28)
    for part, (images, labels) in zip(("train", "test"), parts, strict=True):
        columns = np.stack([labels, *[labels + 100] * 7], axis=1)
        raw = tmp_path / "QMNIST" / "raw"
        write(raw / f"qmnist-{part}-images-idx3-ubyte", idx(images))
        write(raw / f"qmnist-{part}-labels-idx2-int", idx(columns, 12))
    check(read(tmp_path, "QMNIST"), parts)


def emnist(
    root: Path, split: str, first: int, **amounts: Any
) -> list[tuple[Pixels, NDArray[np.int64]]]:
    """The files of EMNIST, whose images are stored with rows and columns exchanged."""
    parts = two_parts(28, 28, **amounts)
    for part, (images, labels) in zip(("train", "test"), parts, strict=True):
        raw = root / "EMNIST" / "raw"
        stored = images.transpose(0, 2, 1)
        write(raw / f"emnist-{split}-{part}-images-idx3-ubyte", idx(stored))
        write(raw / f"emnist-{split}-{part}-labels-idx1-ubyte", idx(labels + first))
    return parts


@pytest.mark.parametrize(
    ("split", "first", "count", "last"),
    [("letters", 1, 26, "z"), ("digits", 0, 10, "9"), ("balanced", 0, 47, "t")],
)
def test_emnist_is_turned_upright_and_letters_start_at_a(
    split: str, first: int, count: int, last: str, tmp_path: Path
) -> None:
    parts = emnist(tmp_path, split, first)
    result = read(tmp_path, "EMNIST", split=split)
    check(result, parts)
    assert (len(result.classes), result.classes[-1]) == (count, last)
    assert result.classes[0] == ("a" if split == "letters" else "0")


def test_a_split_of_emnist_is_named_and_no_other_datasets_is(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dataset\.split=null with .*EMNIST: expected one of by"):
        part_of(config(tmp_path, "EMNIST")).find()
    with pytest.raises(UserError, match=r"dataset\.split=letters with .*USPS: expected null"):
        part_of(config(tmp_path, "USPS", split="letters")).find()


def cifar_batch(images: Pixels, **labels: Any) -> bytes:
    """A pickled batch: rows of red, then green, then blue."""
    rows = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return pickle.dumps({"data": rows, **{key: list(map(int, v)) for key, v in labels.items()}})


@pytest.fixture
def cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """CIFAR-10 in five batches of three, and a test batch; torchvision takes their hashes."""
    classes = datasets().CIFAR10
    folder = tmp_path / "cifar-10-batches-py"
    made, hashes = [], []
    for number, (name, _) in enumerate((*classes.train_list, *classes.test_list)):
        images, labels = pixels(3, 32, 32, 3, seed=number), np.arange(3)
        hashes.append([name, md5(write(folder / name, cifar_batch(images, labels=labels)))])
        made.append((images, labels))
    meta = write(folder / "batches.meta", pickle.dumps({"label_names": ["plane", "car", "bird"]}))
    monkeypatch.setattr(classes, "train_list", hashes[:5])
    monkeypatch.setattr(classes, "test_list", hashes[5:])
    monkeypatch.setattr(classes, "meta", {**classes.meta, "md5": md5(meta)})
    return [tuple(map(np.concatenate, zip(*made[:5], strict=True))), made[5]]


def test_cifar10(cifar10: list[Any], tmp_path: Path) -> None:
    result = read(tmp_path, "CIFAR10")
    check(result, cifar10)
    assert result.classes == ("plane", "car", "bird")


def test_cifar100_has_its_fine_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classes, folder = datasets().CIFAR100, tmp_path / "cifar-100-python"
    parts = two_parts(32, 32, 3)
    for part, (images, labels) in zip(("train", "test"), parts, strict=True):
        batch = cifar_batch(images, fine_labels=labels, coarse_labels=labels * 0)
        listed = [[part, md5(write(folder / part, batch))]]
        monkeypatch.setattr(classes, f"{part}_list", listed)
    names = {"fine_label_names": ["apple", "bear", "crab"], "coarse_label_names": ["all"]}
    meta = write(folder / "meta", pickle.dumps(names))
    monkeypatch.setattr(classes, "meta", {**classes.meta, "md5": md5(meta)})
    result = read(tmp_path, "CIFAR100")
    check(result, parts)
    assert result.classes == ("apple", "bear", "crab")


def usps(root: Path, **amounts: Any) -> list[tuple[Pixels, NDArray[np.int64]]]:
    """Lines of ``label index:value``, labels from 1, values from -1 to 1."""
    parts = two_parts(16, 16, **amounts)
    for name, (images, labels) in zip(("usps.bz2", "usps.t.bz2"), parts, strict=True):
        lines = [
            f"{label + 1} "
            + " ".join(f"{i}:{value / 255 * 2 - 1 + 1e-4:.6f}" for i, value in enumerate(image, 1))
            for image, label in zip(images.reshape(len(images), -1), labels, strict=True)
        ]
        write(root / name, bz2.compress("\n".join(lines).encode()))
    return parts


def test_usps(tmp_path: Path) -> None:
    parts = usps(tmp_path)
    result = read(tmp_path, "USPS")
    difference = result.pixels[:, 0].astype(int) - np.concatenate([images for images, _ in parts])
    assert np.abs(difference).max() <= 1  # torchvision rounds down
    assert result.classes == tuple("0123456789")
    assert result.labels[:4].tolist() == [0, 1, 2, 0]
    assert result.num_official_test == 4


def test_semeion_has_no_official_test_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = pixels(20, 16, 16) > 127
    rows = np.hstack([images.reshape(20, -1), np.eye(10)[np.arange(20) % 10]])
    np.savetxt(tmp_path / "semeion.data", rows, fmt="%.4f")
    hashed = md5(tmp_path / "semeion.data")
    monkeypatch.setattr(datasets().SEMEION, "md5_checksum", hashed)
    check(read(tmp_path, "SEMEION"), [((images * 255).astype(np.uint8), np.arange(20) % 10)])


def test_svhns_ten_is_a_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts, listed = two_parts(32, 32, 3), dict(datasets().SVHN.split_list)
    for part, (images, labels) in zip(("train", "test"), parts, strict=True):
        file = tmp_path / f"{part}_32x32.mat"
        stored = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]
        scipy.io.savemat(file, {"X": images.transpose(1, 2, 3, 0), "y": stored})
        listed[part] = [*listed[part][:2], md5(file)]
    monkeypatch.setattr(datasets().SVHN, "split_list", listed)
    check(read(tmp_path, "SVHN"), parts)


def test_stl10_without_its_unlabelled_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classes, folder, parts = (
        datasets().STL10,
        tmp_path / "stl10_binary",
        two_parts(96, 96, 3),
    )
    for part, (images, labels) in zip(("train", "test"), parts, strict=True):
        # Channel by channel, each column by column; labels start at 1.
        files = [
            write(folder / f"{part}_X.bin", images.transpose(0, 3, 2, 1).tobytes()),
            write(folder / f"{part}_y.bin", (labels + 1).astype(np.uint8).tobytes()),
        ]
        listed = [[file.name, md5(file)] for file in files]
        monkeypatch.setattr(classes, f"{part}_list", listed)
    write(folder / "class_names.txt", b"airplane\nbird\ncar")
    result = read(tmp_path, "STL10")
    check(result, parts)
    assert result.classes == ("airplane", "bird", "car")


def photos(folder: Path, *names: str) -> list[Pixels]:
    """PNG files of 20x30 pixels under any name; as red, green, blue (20, 30, 3)."""
    made = [pixels(20, 30, 3, seed=number) for number, _ in enumerate(names)]
    for name, image in zip(names, made, strict=True):
        _, encoded = cv2.imencode(".png", image[..., ::-1])
        fill(folder, name, content=encoded.tobytes())
    return made


def shrunk(images: list[Pixels], size: int) -> Pixels:
    each = [cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA) for image in images]
    return np.stack(each)


def test_flowers_have_an_official_validation_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classes, folder = datasets().Flowers102, tmp_path / "flowers-102"
    images = photos(folder / "jpg", *(f"image_{number:05d}.jpg" for number in range(1, 9)))
    parts = {"trnid": [1, 4, 5], "valid": [2, 6], "tstid": [3, 7, 8]}
    scipy.io.savemat(folder / "setid.mat", {key: [value] for key, value in parts.items()})
    scipy.io.savemat(folder / "imagelabels.mat", {"labels": [[1, 2, 3, 1, 2, 3, 1, 2]]})
    hashed = {
        key: (name, md5(folder / name) if key != "image" else "")
        for key, (name, _) in classes._file_dict.items()
    }
    monkeypatch.setattr(classes, "_file_dict", hashed)
    result = read(tmp_path, "Flowers102", image_size=8)
    assert (result.num_official_val, result.num_official_test) == (2, 3)
    order = [number - 1 for part in parts.values() for number in part]
    expected = shrunk([images[place] for place in order], 8)
    assert (result.pixels == expected.transpose(0, 3, 1, 2)).all()
    assert result.labels.tolist() == [0, 0, 1, 1, 2, 2, 0, 1]
    assert result.classes[:2] == ("pink primrose", "hard-leaved pocket orchid")


def test_food_is_listed_by_json(tmp_path: Path) -> None:
    folder = tmp_path / "food-101"
    images = photos(folder / "images", "pie/1.jpg", "soup/2.jpg", "pie/3.jpg", "soup/4.jpg")
    write(folder / "meta" / "train.json", b'{"pie": ["pie/1"], "soup": ["soup/2"]}')
    write(folder / "meta" / "test.json", b'{"pie": ["pie/3"], "soup": ["soup/4"]}')
    result = read(tmp_path, "Food101", image_size=8)
    assert (result.pixels == shrunk(images, 8).transpose(0, 3, 1, 2)).all()
    assert (result.labels.tolist(), result.classes) == ([0, 1, 0, 1], ("pie", "soup"))
    assert result.num_official_test == 2


def test_pets_are_listed_by_lines(tmp_path: Path) -> None:
    folder = tmp_path / "oxford-iiit-pet"
    images = photos(folder / "images", "Birman_1.jpg", "pug_1.jpg", "Birman_2.jpg", "pug_2.jpg")
    write(folder / "annotations" / "trainval.txt", b"Birman_1 1 1 1\npug_1 2 2 1\n")
    write(folder / "annotations" / "test.txt", b"Birman_2 1 1 1\npug_2 2 2 1\n")
    result = read(tmp_path, "OxfordIIITPet", image_size=8)
    assert (result.pixels == shrunk(images, 8).transpose(0, 3, 1, 2)).all()
    assert (result.labels.tolist(), result.classes) == ([0, 1, 0, 1], ("Birman", "Pug"))


def test_textures_have_three_parts(tmp_path: Path) -> None:
    folder = tmp_path / "dtd" / "dtd"
    photos(folder / "images", *(f"{kind}/{number}.jpg" for kind in "ab" for number in range(3)))
    for number, part in enumerate(("train", "val", "test")):
        content = f"a/{number}.jpg\nb/{number}.jpg\n".encode()
        write(folder / "labels" / f"{part}1.txt", content)
    result = read(tmp_path, "DTD", image_size=8)
    assert (result.num_official_val, result.num_official_test, len(result.pixels)) == (2, 2, 6)
    assert (result.labels.tolist(), result.classes) == ([0, 1] * 3, ("a", "b"))


def test_aircraft_are_listed_by_variant(tmp_path: Path) -> None:
    folder = tmp_path / "fgvc-aircraft-2013b" / "data"
    photos(folder / "images", *(f"{number}.jpg" for number in range(6)))
    write(folder / "variants.txt", b"707-320\nA 300\n")
    for number, part in enumerate(("train", "val", "test")):
        content = f"{2 * number} 707-320\n{2 * number + 1} A 300\n".encode()
        write(folder / f"images_variant_{part}.txt", content)
    result = read(tmp_path, "FGVCAircraft", image_size=8)
    assert (result.num_official_val, result.num_official_test, len(result.pixels)) == (2, 2, 6)
    assert (result.labels.tolist(), result.classes) == ([0, 1] * 3, ("707-320", "A 300"))


@pytest.mark.parametrize(
    ("name", "folder", "parts", "counts"),
    [
        ("EuroSAT", "eurosat/2750", [""], (0, 0)),
        ("Country211", "country211", ["train/", "valid/", "test/"], (2, 2)),
        ("Caltech256", "caltech256/256_ObjectCategories", [""], (0, 0)),
    ],
)
def test_class_folders_are_read(
    name: str, folder: str, parts: list[str], counts: tuple[int, int], tmp_path: Path
) -> None:
    files = [f"{part}{kind}/00{kind}_0001.jpg" for part in parts for kind in "12"]
    images = photos(tmp_path / folder, *files)
    result = read(tmp_path, name, image_size=8)
    assert (result.pixels == shrunk(images, 8).transpose(0, 3, 1, 2)).all()
    assert (result.num_official_val, result.num_official_test) == counts
    assert (result.labels.tolist(), result.classes) == ([0, 1] * len(parts), ("1", "2"))


def test_gray_photographs_of_caltech_become_color(tmp_path: Path) -> None:
    folder = tmp_path / "caltech101" / "101_ObjectCategories"
    gray = pixels(20, 20)
    _, encoded = cv2.imencode(".png", gray)
    fill(folder, "ant/image_0001.jpg", "bass/image_0001.jpg", content=encoded.tobytes())
    (folder / "BACKGROUND_Google").mkdir()
    result = read(tmp_path, "Caltech101", image_size=20)
    assert (result.pixels == gray).all()
    assert (result.pixels.shape[1], result.classes) == (3, ("ant", "bass"))


def test_imagenette_validates_and_has_no_official_test_part(tmp_path: Path) -> None:
    wnids = sorted(datasets().Imagenette._WNID_TO_CLASS)[:2]
    names = [f"{part}/{wnid}/1.jpeg" for part in ("train", "val") for wnid in wnids]
    photos(tmp_path / "imagenette2-160", *names)
    result = read(tmp_path, "Imagenette", image_size=8)
    assert (result.num_official_val, result.num_official_test, len(result.pixels)) == (2, 0, 4)
    assert result.classes == ("tench", "English springer")


def test_signs_are_numbered(tmp_path: Path) -> None:
    folder = tmp_path / "gtsrb"
    _, encoded = cv2.imencode(".ppm", pixels(20, 30, 3))
    train = [f"GTSRB/Training/{number:05d}/1.ppm" for number in range(43)]
    fill(folder, *train, "GTSRB/Final_Test/Images/0.ppm", content=encoded.tobytes())
    write(folder / "GT-final_test.csv", b"Filename;ClassId\n0.ppm;7\n")
    result = read(tmp_path, "GTSRB", image_size=8)
    assert result.labels.tolist() == [*range(43), 7]
    assert (len(result.classes), result.num_official_test) == (43, 1)


def test_sentences_are_negative_or_positive(tmp_path: Path) -> None:
    kinds = [
        f"{part}/{kind}" for part in ("train", "valid", "test") for kind in ("negative", "positive")
    ]
    photos(tmp_path / "rendered-sst2", *(f"{kind}/1.png" for kind in kinds))
    result = read(tmp_path, "RenderedSST2", image_size=8)
    assert (result.num_official_val, result.num_official_test) == (2, 2)
    assert (result.labels.tolist(), result.classes) == ([0, 1] * 3, ("negative", "positive"))


def test_every_dataset_on_offer_is_one_of_torchvisions() -> None:
    fields = options("dataset")["torchvision"].record.__dataclass_fields__
    assert fields["set"].metadata["check"].one_of == tuple(SETS)
    assert all(hasattr(datasets(), name) for name in SETS)


def test_the_real_mnist_is_that_of_our_own_reader(real_data: Path) -> None:
    ours, theirs = data.load_undivided(MnistConfig()), data.load_undivided(
        TorchvisionSetConfig(set="MNIST")
    )  # fmt: skip
    assert theirs.fingerprint == ours.fingerprint


# ---------------------------------------------------------------- files, sizes, faults


def test_images_of_many_sizes_need_one_to_be_resized_to(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dataset\.image_size=null: .* Food101 differ in size"):
        part_of(config(tmp_path, "Food101")).find()


def test_files_are_found_without_torchvision(
    cifar10: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    source = part_of(config(tmp_path, "CIFAR10")).find()
    assert len(source.files) == 7
    assert source.preparation["torchvision"].startswith(version("torchvision").split("+")[0])
    (tmp_path / "cifar-10-batches-py" / "test_batch").unlink()
    with pytest.raises(DataAbsentError, match="test_batch: not found"):
        part_of(config(tmp_path, "CIFAR10")).find()


def test_a_damaged_file_is_named_with_the_remedy(cifar10: list[Any], tmp_path: Path) -> None:
    write(tmp_path / "cifar-10-batches-py" / "data_batch_3", b"not what it was")
    with pytest.raises(UserError) as error:
        read(tmp_path, "CIFAR10")
    first, remedy = str(error.value).splitlines()
    assert f"{tmp_path}: torchvision cannot read CIFAR10: Dataset not found or corrupted" in first
    assert "remove cifar-10-batches-py/data_batch_1, " in remedy


def test_absent_files_are_downloaded_by_torchvision(
    tmp_path: Path,
    serve: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    parts, pages, listed = two_parts(28, 28), {}, []
    for part, (images, labels) in zip(("train", "t10k"), parts, strict=True):
        for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
            content = gzip.compress(idx(values), mtime=0)
            pages[f"{part}-{kind}-ubyte.gz"] = content
            listed.append((f"{part}-{kind}-ubyte.gz", hashlib.md5(content).hexdigest()))
    monkeypatch.setattr(datasets().FashionMNIST, "mirrors", [serve(pages)])
    monkeypatch.setattr(datasets().FashionMNIST, "resources", listed)
    check(read(tmp_path, "FashionMNIST"), parts)
    said = capfd.readouterr()
    first = said.out.splitlines()[0]
    assert first == f"FashionMNIST is not in {tmp_path}: torchvision downloads it"
    assert said.err == ""


def test_an_archive_that_was_fetched_by_hand_is_unpacked(
    cifar10: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, folder = tmp_path / "cifar-10-python.tar.gz", tmp_path / "cifar-10-batches-py"
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(folder, folder.name)
    shutil.rmtree(folder)
    monkeypatch.setattr(datasets().CIFAR10, "tgz_md5", md5(archive))
    check(read(tmp_path, "CIFAR10"), cifar10)


def test_a_download_that_fails_names_the_files_and_their_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(datasets().FashionMNIST, "mirrors", ["http://127.0.0.1:1/"])
    with pytest.raises(UserError) as error:
        read(tmp_path, "FashionMNIST")
    first, remedy = str(error.value).splitlines()
    assert first.startswith("FashionMNIST cannot be downloaded: ")
    assert "refused" in first
    assert f"t10k-labels-idx1-ubyte into {tmp_path}, or set dataset.root" in remedy
    with pytest.raises(UserError, match=r"dataset\.root=.*no such folder"):
        read(tmp_path / "mistyped", "FashionMNIST")
    assert not (tmp_path / "mistyped").exists()


# ---------------------------------------------------------------- every command


def test_doctor_looks_at_no_dataset_that_must_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINYLAB_DATA", str(tmp_path))
    result = {finding.text.split(",")[0].split(":")[0] for finding in doctor.datasets()}
    assert {"digits", "mnist", "scene15"} <= result
    assert not result & {"arrays", "folder", "torchvision"}
    assert not any(tmp_path.iterdir())


def test_a_run_can_be_trained_evaluated_and_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    usps(tmp_path, classes=10, counts=(100, 20))
    emnist(tmp_path, "digits", 0, classes=10, counts=(30, 10))
    outputs = f"outputs={tmp_path / 'outputs'}"
    chosen = ["dataset=torchvision", "dataset.set=USPS", f"dataset.root={tmp_path}"]
    train = ["model=mlp", "train.epochs=1", "train.batch_size=4", outputs]
    assert cli.run(["train", *chosen, *train]) == 0
    [run] = (tmp_path / "outputs" / "runs").glob("torchvision-mlp-*")
    photos(tmp_path, "scan.png")
    capsys.readouterr()
    assert cli.run(["predict", str(run), str(tmp_path / "scan.png"), "--format", "csv"]) == 0
    assert "scan.png" in capsys.readouterr().out
    assert cli.run(["evaluate", str(run), outputs]) == 0
    assert " 20 " in capsys.readouterr().out
    # Digits of EMNIST are other data, so all 40 are scored, as large as those of the training.
    other = ["dataset=torchvision", "dataset.set=EMNIST", "dataset.split=digits"]
    assert cli.run(["evaluate", str(run), *other, f"dataset.root={tmp_path}", outputs]) == 0
    assert " 40 " in capsys.readouterr().out


def test_validation_is_the_official_part(tmp_path: Path) -> None:
    wnids = sorted(datasets().Imagenette._WNID_TO_CLASS)[:2]
    names = [f"train/{wnid}/{number}.jpeg" for wnid in wnids for number in range(10)]
    photos(tmp_path / "imagenette2-160", *names, *(f"val/{wnid}/1.jpeg" for wnid in wnids))
    splits = data.load(config(tmp_path, "Imagenette", image_size=8), SplitConfig())
    assert splits.split.val.tolist() == [20, 21]
    assert len(splits.split.test) == 2
