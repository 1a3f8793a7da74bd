"""A folder of images: found in a fixed order, decoded as OpenCV does, faults named."""

import io
import os
import struct
import subprocess
import sys
import unicodedata
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from image_files import encoded, fill, picture
from option_records import FolderConfig
from tinylab import data
from tinylab.config.schema import SplitConfig
from tinylab.data import cache, folder, part_of
from tinylab.data.arrays import DataAbsentError, Dataset
from tinylab.data.listing import SUFFIXES, SYSTEM_FOLDERS, natural_key
from tinylab.errors import UserError


def read(root: Path, **options: object) -> Dataset:
    """What ``dataset=folder dataset.root=root`` decodes, without the cache."""
    options = {"image_size": 8, **options}
    return part_of(FolderConfig(root=str(root), **options)).find().read()  # type: ignore[arg-type]


def names_in_order(root: Path) -> list[str]:
    files = part_of(FolderConfig(root=str(root))).find().files
    return [str(Path(file).relative_to(root)) for file in files]


def refusal(root: Path, **options: object) -> str:
    """What the user reads where the folder is refused."""
    with pytest.raises(UserError) as error:
        read(root, **options)
    return str(error.value)


# ---------------------------------------------------------------- finding


def test_classes_and_files_come_in_natural_order(tmp_path: Path) -> None:
    fill(tmp_path, "10/a10.png", "10/a9.png", "2/b.png", "2/B.png", "1/x.png")
    assert names_in_order(tmp_path) == ["1/x.png", "2/B.png", "2/b.png", "10/a9.png", "10/a10.png"]
    dataset = read(tmp_path)
    assert dataset.classes == ("1", "2", "10")
    assert dataset.labels.tolist() == [0, 1, 1, 2, 2]


@given(st.permutations(["1", "01", "001", "1a", "a1", "a01", "a", "a10", "a2", "²", ""]))
def test_the_order_of_names_does_not_depend_on_the_file_system(names: list[str]) -> None:
    assert sorted(names, key=natural_key) == [
        "", "001", "01", "1", "1a", "a", "a01", "a1", "a2", "a10", "²",
    ]  # fmt: skip


def test_many_suffixes_are_read_in_either_case(tmp_path: Path) -> None:
    same = {".jfif": ".jpg", ".pjpeg": ".jpg", ".pjp": ".jpg", ".apng": ".png"}
    for suffix in (*SUFFIXES, *map(str.upper, SUFFIXES)):
        image = picture(height=32, width=32)  # JPEG 2000 has a smallest size
        if suffix.lower() in (".pgm", ".pbm"):
            image = image[:, :, 0].copy()
        kind = same.get(suffix.lower(), suffix.lower())
        fill(tmp_path, f"a/x{suffix}", content=encoded(kind, image))
    fill(tmp_path, "b/x.jpg", content=encoded(".jpg"))
    dataset = read(tmp_path)
    assert dataset.labels.tolist() == 2 * len(SUFFIXES) * [0] + [1]
    assert dataset.pixels.any(axis=(1, 2, 3)).all()


def test_hidden_files_and_files_that_are_no_images_are_passed_over(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.png", "b/1.png", ".hidden/1.png", "a/._1.png", "a/notes.txt", "b/.png")
    (tmp_path / "b" / "folder.png").mkdir()
    fill(tmp_path, "stray.png")
    assert names_in_order(tmp_path) == ["a/1.png", "b/1.png"]


def test_train_and_test_folders_are_an_official_split(tmp_path: Path) -> None:
    fill(tmp_path, "train/a/1.png", "train/b/2.png", "train/b/3.png")
    fill(tmp_path, "test/a/4.png", "test/b/5.png")
    dataset = read(tmp_path)
    assert dataset.labels.tolist() == [0, 1, 1, 0, 1]
    assert dataset.num_official_test == 2
    assert dataset.classes == ("a", "b")


def test_a_folder_beside_train_and_test_is_said_to_be_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path, "train/a/1.png", "train/b/1.png", "test/a/1.png", "test/b/1.png", "old/a/1.png")
    assert len(names_in_order(tmp_path)) == 4
    assert capsys.readouterr().out == f"{tmp_path}: only train/ and test/ are read, not old\n"


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "Validation", "TESTING")])
def test_an_own_validation_part_validates(tmp_path: Path, names: tuple[str, ...]) -> None:
    counts = dict(zip(names, (4, 2, 3), strict=True))
    fill(tmp_path, *(f"{p}/{c}/{i}.png" for p, n in counts.items() for c in "ab" for i in range(n)))
    config = FolderConfig(root=str(tmp_path), image_size=4)
    splits = data.load(config, SplitConfig())
    parts = (splits.split.train, splits.split.val, splits.split.test)
    assert [part.tolist() for part in parts] == [
        list(range(8)), list(range(8, 12)), list(range(12, 18)),
    ]  # fmt: skip
    assert splits.official_val() == "validated on the official 4 validation images"
    redrawn = data.load(config, SplitConfig(val=0.5))
    assert [len(redrawn.split.train), len(redrawn.split.val)] == [6, 6]
    assert redrawn.split.test.tolist() == list(range(12, 18))
    assert redrawn.official_val().startswith("split.val=0.5: the official 4 validation images")


def test_a_validation_part_without_a_test_part_leaves_the_test_to_be_drawn(tmp_path: Path) -> None:
    fill(tmp_path, *(f"train/{c}/{i}.png" for c in "ab" for i in range(10)))
    fill(tmp_path, *(f"valid/{c}/{i}.png" for c in "a" for i in range(3)))
    split = data.load(FolderConfig(root=str(tmp_path), image_size=4), SplitConfig()).split
    assert split.val.tolist() == [20, 21, 22]
    assert len(split.test) == 2
    assert sorted([*split.train, *split.test]) == list(range(20))


@pytest.mark.parametrize("test_files", [("test/1.png", "test/2.png"), ("test/unknown/1.png",)])
def test_an_unlabelled_test_folder_is_said_and_not_scored(
    tmp_path: Path, test_files: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path, *(f"train/{c}/{i}.png" for c in "ab" for i in range(5)), *test_files)
    dataset = read(tmp_path)
    assert (len(dataset.labels), dataset.num_official_test) == (10, 0)
    assert f"{tmp_path}/test: has no class folders, so its images" in capsys.readouterr().out


def test_two_folders_for_one_part_are_refused(tmp_path: Path) -> None:
    fill(tmp_path, *(f"{part}/{c}/1.png" for part in ("train", "val", "valid") for c in "ab"))
    assert "val/ and valid/ are the same part of the split; keep only one" in refusal(tmp_path)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    fill(tmp_path, "train/1.png", "bus/1.png", "train/old/2.png")
    dataset = read(tmp_path)
    assert dataset.classes == ("bus", "train")
    assert dataset.labels.tolist() == [0, 1, 1]


@pytest.mark.parametrize("junk", SYSTEM_FOLDERS)
def test_folders_that_systems_add_are_no_classes(tmp_path: Path, junk: str) -> None:
    fill(tmp_path, "a/1.png", f"a/{junk}/2.png", "b/1.png", f"{junk}/a/1.png")
    (tmp_path / "b" / junk).mkdir()
    assert names_in_order(tmp_path) == ["a/1.png", "b/1.png"]


def test_names_in_either_unicode_form_are_one_class_in_one_order(tmp_path: Path) -> None:
    forms = {form: [unicodedata.normalize(form, n) for n in ("é", "f")] for form in ("NFC", "NFD")}
    results = []
    for form, (accented, plain) in forms.items():
        names = [f"{c}/{accented}{i}.png" for c in (accented, plain, "z") for i in (10, 9)]
        dataset = read(fill(tmp_path / form, *names))
        results.append((dataset.classes, [unicodedata.normalize("NFC", n) for n in dataset.names]))
    assert results[0] == results[1]
    both = fill(tmp_path / "both", *(f"{name}/1.png" for form in forms.values() for name in form))
    assert read(both).labels.tolist() == [0, 1, 1]


def test_an_absent_folder_is_data_that_is_absent(tmp_path: Path) -> None:
    with pytest.raises(DataAbsentError, match=f"dataset.root={tmp_path}/no: no such folder"):
        read(tmp_path / "no")


def test_a_home_folder_may_be_written_with_a_tilde(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    fill(tmp_path, "pictures/a/1.png", "pictures/b/1.png")
    assert len(read(Path("~/pictures")).labels) == 2
    assert "~nobody-of-this-name" in refusal(Path("~nobody-of-this-name/x"))


def test_a_folder_needs_two_classes(tmp_path: Path) -> None:
    said = refusal(tmp_path)
    assert "contains no folders; expected at least two class folders" in said
    assert "if this is the folder of a single class, use its parent folder; or list" in said
    (tmp_path / "train.csv").touch()
    assert "; if train.csv lists the labels, rename it to labels.csv" in refusal(tmp_path)
    fill(tmp_path, "only/1.png")
    config = FolderConfig(root=str(tmp_path), image_size=4)
    with pytest.raises(UserError, match="found only only/; expected at least two class folders"):
        data.load(config, SplitConfig())
    assert read(tmp_path).classes == ("only",), "which is enough to evaluate on"


@pytest.mark.parametrize("inside", ["photos", "photos/train"])
def test_the_folder_inside_an_archive_is_named(tmp_path: Path, inside: str) -> None:
    fill(tmp_path, f"{inside}/a/1.png", f"{inside}/b/1.png")
    with pytest.raises(UserError, match=f"did you mean dataset.root={tmp_path}/{inside}\\?"):
        data.load(FolderConfig(root=str(tmp_path), image_size=4), SplitConfig())


def test_a_part_inside_a_folder_of_its_own_name_is_named(tmp_path: Path) -> None:
    fill(tmp_path, *(f"{part}/{name}/1.png" for part in ("train", "test/inner") for name in "ab"))
    assert f"{tmp_path}/test: contains only inner/, whose folders look" in refusal(tmp_path)


@pytest.mark.parametrize("names", [("seg_train", "seg_test"), ("Test", "val"), ("train", "train2")])
def test_parts_of_a_split_are_not_taken_for_classes(tmp_path: Path, names: tuple[str, str]) -> None:
    fill(tmp_path, *(f"{part}/{name}/1.png" for part in names for name in "ab"))
    assert "look like the parts of a split, not like classes" in refusal(tmp_path)


def test_an_empty_class_is_refused_by_name(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.png", "b/readme.txt")
    said = refusal(tmp_path)
    assert said.startswith(f"{tmp_path}/b: a class folder without images (.jpg,")
    assert "it contains 1 .txt" in said


def test_classes_that_differ_between_train_and_test_are_named(tmp_path: Path) -> None:
    fill(tmp_path, *(f"train/{name}/1.png" for name in "abcdefgh"))
    fill(tmp_path, "test/a/1.png", "test/x/1.png")
    assert refusal(tmp_path).endswith(
        "the same classes; only in train/: b, c, d, e, f, ...; only in test/: x"
    )


# ---------------------------------------------------------------- decoding


@pytest.mark.parametrize(
    ("name", "flag"),
    [
        ("nearest", cv2.INTER_NEAREST),
        ("linear", cv2.INTER_LINEAR),
        ("area", cv2.INTER_AREA),
        ("cubic", cv2.INTER_CUBIC),
        ("lanczos", cv2.INTER_LANCZOS4),
    ],
)
def test_pixels_are_those_of_a_plain_opencv_resize(tmp_path: Path, name: str, flag: int) -> None:
    fill(tmp_path, "a/1.png", "b/1.png")
    expected = cv2.resize(cv2.cvtColor(picture(), cv2.COLOR_BGR2RGB), (8, 8), interpolation=flag)
    result = read(tmp_path, interpolation=name).pixels
    assert result.shape == (2, 3, 8, 8)
    assert np.array_equal(result[0], expected.transpose(2, 0, 1))


def test_training_images_are_decoded_at_their_own_size_by_areas(
    tmp_path: Path, own_cache: Path
) -> None:
    root = tmp_path / "photos"
    fill(root, "a/1.png", "b/1.png")
    large = cv2.resize(
        cv2.cvtColor(picture(), cv2.COLOR_BGR2RGB), (16, 16), interpolation=cv2.INTER_AREA
    )
    config = FolderConfig(root=str(root), image_size=8, source_size=16)
    for _ in range(2):  # decoded, and from the cache
        result = data.load_undivided(config).dataset
        assert result.sources is not None
        assert np.array_equal(result.sources[0], large.transpose(2, 0, 1))
        assert np.array_equal(result.pixels, read(root).pixels)
    plain = data.load_undivided(FolderConfig(root=str(root), image_size=8))
    assert plain.dataset.sources is None
    assert plain.fingerprint == result.fingerprint()  # so that runs of both can be compared


def test_bad_files_are_left_out_of_the_larger_images_too(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.png", "a/2.png", "b/1.png")
    (tmp_path / "a" / "1.png").write_bytes(b"")
    result = read(tmp_path, source_size=16, skip_bad=True)
    assert result.sources is not None
    assert len(result.sources) == len(result.pixels) == 2


def test_the_size_of_training_images_is_a_multiple(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.png", "b/1.png")
    assert refusal(tmp_path, source_size=20) == (
        "dataset.source_size=20: expected a multiple of dataset.image_size=8, such as 16"
    )


def test_the_first_channel_is_red(tmp_path: Path) -> None:
    red = np.zeros((4, 4, 3), np.uint8)
    red[:, :, 2] = 200  # OpenCV's own order is blue, green, red
    fill(tmp_path, "a/1.png", "b/1.png", content=encoded(image=red))
    assert read(tmp_path).pixels[0].max(axis=(1, 2)).tolist() == [200, 0, 0]


def test_grayscale_gives_one_channel(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.png", "b/1.png")
    result = read(tmp_path, grayscale=True, image_size=12).pixels
    gray = cv2.imdecode(np.frombuffer(encoded(), np.uint8), cv2.IMREAD_GRAYSCALE)
    assert gray is not None
    assert result.shape == (2, 1, 12, 12)
    assert np.array_equal(result[1, 0], cv2.resize(gray, (12, 12)))


def test_a_gray_file_becomes_three_equal_channels(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.png", "b/1.png", content=encoded(image=picture()[:, :, 0].copy()))
    red, green, blue = read(tmp_path).pixels[0]
    assert np.array_equal(red, green)
    assert np.array_equal(red, blue)


def test_16_bits_a_channel_become_8(tmp_path: Path) -> None:
    deep = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1024
    fill(tmp_path, "a/1.png", "b/1.png", content=encoded(image=deep))  # type: ignore[arg-type]
    assert np.array_equal(read(tmp_path, grayscale=True).pixels[0, 0], deep >> 8)


@pytest.mark.parametrize("opacity", [0, 255])
def test_an_opacity_that_is_the_same_everywhere_changes_nothing(
    tmp_path: Path, opacity: int
) -> None:
    """Some programs leave the fourth channel empty."""
    same = np.full((8, 8, 4), 77, np.uint8)
    same[:, :, 3] = opacity
    fill(tmp_path, "a/1.png", "b/1.png", content=encoded(image=same))
    assert (read(tmp_path).pixels == 77).all()


def half_clear(mode: str) -> Image.Image:
    """The left half black, the right half transparent (and black below)."""
    mask = Image.new("L", (8, 8), 0)
    mask.paste(255, (0, 0, 4, 8))
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    image.putalpha(mask)
    if mode == "P":
        palette = Image.new("P", (8, 8), 1)
        palette.putpalette([0, 0, 0] * 256)
        palette.paste(2, (0, 0, 4, 8))
        return palette
    return image.convert(mode)


@pytest.mark.parametrize("grayscale", [False, True])
@pytest.mark.parametrize(
    ("mode", "kind", "options"),
    [
        ("RGBA", "PNG", {}), ("LA", "PNG", {}), ("RGBA", "WEBP", {"lossless": True}),
        ("RGBA", "TIFF", {}), ("P", "PNG", {"transparency": 1}), ("P", "GIF", {"transparency": 1}),
    ],
)  # fmt: skip
def test_what_is_transparent_is_white(
    tmp_path: Path, mode: str, kind: str, options: dict[str, object], grayscale: bool
) -> None:
    content = made_by_pillow(half_clear(mode), format=kind, **options)
    suffix = {"TIFF": "tif"}.get(kind, kind.lower())
    fill(tmp_path, f"a/1.{suffix}", f"b/1.{suffix}", content=content)
    result = read(tmp_path, grayscale=grayscale).pixels[0]
    assert (result[:, :, :4] == 0).all()
    assert (result[:, :, 4:] == 255).all()


@pytest.mark.parametrize(
    ("top", "bits", "factor"),
    [(200, 8, 256), (1023, 10, 64), (4095, 12, 16), (4096, 14, 4), (16383, 14, 4), (16384, 0, 0)],
)
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_files_of_16_bits_that_use_only_some_are_said_with_the_factor(
    top: int,
    bits: int,
    factor: int,
    suffix: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    deep = np.linspace(0, top, 64).astype(np.uint16).reshape(8, 8)
    fill(tmp_path, f"a/1{suffix}", f"b/1{suffix}", content=encoded(suffix, deep))  # type: ignore[arg-type]
    read(tmp_path)
    said = capsys.readouterr().out
    assert (f"2 16-bit files have no value above {top:,} of" in said) == (bits > 0)
    assert (f"{bits}-bit cameras save such files; multiply the values by {factor}" in said) == (
        bits > 0
    )


@pytest.mark.parametrize(
    ("fill_channel", "said"),
    [
        ({0: 0}, "blue: constant (0)"),
        ({1: 9, 2: 9}, "red, green: constant (9)"),
        ({}, ""),
    ],
)
def test_a_channel_that_shows_nothing_is_said(
    tmp_path: Path, fill_channel: dict[int, int], said: str
) -> None:
    for i in range(30):
        image = picture(seed=i)
        for channel, value in fill_channel.items():
            image[:, :, channel] = value
        fill(tmp_path, f"{'ab'[i % 2]}/{i}.png", content=encoded(image=image))
    assert data.load(FolderConfig(root=str(tmp_path), image_size=8), SplitConfig()).blank() == said


def test_dark_images_are_said_and_flat_ones_too(tmp_path: Path) -> None:
    for name, top, said in (
        ("dark", 25, "red, green, blue: nearly black"),
        ("flat", 3, "red, green, blue: nearly constant (0 to 3)"),
    ):
        for i in range(30):
            image = (picture(seed=i) / 256 * (top + 1)).astype(np.uint8)
            image[0, 0], image[-1, -1] = 0, top
            fill(tmp_path / name, f"{'ab'[i % 2]}/{i}.png", content=encoded(image=image))
        config = FolderConfig(root=str(tmp_path / name), image_size=9, interpolation="nearest")
        assert data.load(config, SplitConfig()).blank() == said


@pytest.mark.parametrize("grayscale", [False, True])
def test_a_photograph_is_turned_upright_by_its_exif_data(tmp_path: Path, grayscale: bool) -> None:
    jpeg = encoded(
        ".jpg", np.repeat(np.repeat(np.array([[[255] * 3, [0] * 3]], np.uint8), 8, 0), 4, 1)
    )
    turned = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    segment = b"\xff\xe1" + struct.pack(">H", len(turned) + 2) + turned
    fill(tmp_path, "a/1.jpg", content=jpeg)
    fill(tmp_path, "b/1.jpg", content=jpeg[:2] + segment + jpeg[2:])
    lying, upright = read(tmp_path, grayscale=grayscale).pixels[:, 0].astype(int)
    assert lying[:, 0].min() > 200 > 50 > lying[:, -1].max()  # bright on the left
    assert upright[0].min() > 200 > 50 > upright[-1].max()  # a quarter turn right: on top


@pytest.mark.parametrize(
    "name", ["with space", 'it\'s "quoted"', "Zürich 東京", "new\nline", "%41"]
)
def test_class_and_file_names_may_hold_any_character(tmp_path: Path, name: str) -> None:
    fill(tmp_path, f"{name}/{name}.png", "zz/1.png")
    dataset = read(tmp_path)
    assert set(dataset.classes) == {name, "zz"}
    assert dataset.pixels.any(axis=(1, 2, 3)).all()


def test_a_name_that_is_no_utf_8_is_read_and_kept_in_the_cache(
    tmp_path: Path, own_cache: Path
) -> None:
    strange = os.fsdecode(b"caf\xe9")
    fill(tmp_path, f"data/{strange}/{strange}.png", "data/zz/1.png", "data/zz/2.png")
    config = FolderConfig(root=str(tmp_path / "data"), image_size=4)
    splits = [data.load(config, SplitConfig(test=0.34, val=0)) for _ in range(2)]
    assert splits[0].data.classes == splits[1].data.classes == ("caf\\xe9", "zz")
    assert len(list(own_cache.iterdir())) == 1


def made_by_pillow(image: Image.Image, **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, **options)  # type: ignore[arg-type]
    return content.getvalue()


SMOOTH = Image.fromarray(picture(seed=1, height=40, width=30))
MORE = {"save_all": True, "append_images": [Image.new("RGB", SMOOTH.size)]}
UNUSUAL = {
    "cmyk.jpg": made_by_pillow(SMOOTH.convert("CMYK"), format="JPEG", quality=95),
    "cmyk.tif": made_by_pillow(SMOOTH.convert("CMYK"), format="TIFF"),
    "progressive.jpg": made_by_pillow(SMOOTH, format="JPEG", progressive=True),
    "animated.gif": made_by_pillow(SMOOTH, format="GIF", **MORE),
    "animated.webp": made_by_pillow(SMOOTH, format="WEBP", lossless=True, **MORE),
    "animated.png": made_by_pillow(SMOOTH, format="PNG", **MORE),
    "pages.tif": made_by_pillow(SMOOTH, format="TIFF", **MORE),
    "palette.png": made_by_pillow(SMOOTH.convert("P"), format="PNG"),
    "bits.png": made_by_pillow(SMOOTH.convert("1"), format="PNG"),
    "fax.tif": made_by_pillow(SMOOTH.convert("1"), format="TIFF", compression="group4"),
    "alpha.png": made_by_pillow(SMOOTH.convert("LA"), format="PNG"),
    "photo.avif": made_by_pillow(SMOOTH, format="AVIF"),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_kinds_are_read_as_pillow_reads_them(name: str, tmp_path: Path) -> None:
    fill(tmp_path, f"a/{name}", f"b/{name}", content=UNUSUAL[name])
    result = read(tmp_path, image_size=20).pixels[0].transpose(1, 2, 0)
    first_frame = Image.open(io.BytesIO(UNUSUAL[name])).convert("RGB")
    reference = cv2.resize(np.asarray(first_frame), (20, 20))
    assert np.abs(result.astype(int) - reference).mean() < 1.5  # CMYK is rounded in another way


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bits_a_color_become_8(suffix: str, tmp_path: Path) -> None:
    deep = picture(seed=1).astype(np.uint16) * 257
    fill(tmp_path, "a/1.png", f"b/1{suffix}", content=encoded(suffix, deep))  # type: ignore[arg-type]
    fill(tmp_path, "a/1.png", content=encoded(image=picture(seed=1)))
    flat, result = read(tmp_path).pixels
    assert np.array_equal(result, flat)


@pytest.mark.parametrize(("mode", "kind"), [("F", "float32"), ("I", "int32")])
def test_32_bits_a_channel_are_said_to_be_unreadable(mode: str, kind: str, tmp_path: Path) -> None:
    fill(tmp_path, "a/1.png", "b/1.png")
    fill(tmp_path, "b/x.tif", content=made_by_pillow(SMOOTH.convert(mode), format="TIFF"))
    said = f"its pixels are {kind}; expected 8 or 16 bits"
    assert f"b/x.tif: cannot be read as an image: {said}" in refusal(tmp_path)


# ---------------------------------------------------------------- faults


def bad_files(root: Path) -> list[Path]:
    """Files that look like images and are none: empty, text, cut short, links to nowhere."""
    fill(root, "a/empty.png", content=b"")
    fill(root, "a/text.jpg", content=b"<html>404</html>")
    for suffix in (".png", ".jpg", ".webp", ".tif", ".bmp"):
        whole = encoded(suffix)
        fill(root, f"b/cut{suffix}", content=whole[: len(whole) // 2])
    (root / "a" / "loop.png").symlink_to("loop.png")
    (root / "b" / "gone.jpg").symlink_to("no such file")
    return [root / "a" / name for name in ("empty.png", "loop.png", "text.jpg")] + [
        root / "b" / name
        for name in ("cut.bmp", "cut.jpg", "cut.png", "cut.tif", "cut.webp", "gone.jpg")
    ]


def test_the_first_unreadable_file_is_named_with_the_remedy(tmp_path: Path) -> None:
    fill(tmp_path, "a/good.png", "b/good.png")
    first, *_ = bad_files(tmp_path)
    assert refusal(tmp_path) == (
        f"{first} (and 8 more): cannot be read as an image: the file is empty\n"
        "  fix or remove it, or skip such files with dataset.skip_bad=true"
    )


@pytest.mark.parametrize("number", range(9))
def test_every_kind_of_unreadable_file_is_refused(tmp_path: Path, number: int) -> None:
    fill(tmp_path, "a/good.png", "b/good.png")
    bad = bad_files(tmp_path)
    for file in bad[:number] + bad[number + 1 :]:
        file.unlink()
    assert refusal(tmp_path).startswith(f"{bad[number]}: cannot be read as an image: ")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC image, whatever its suffix"),
        (b"\n<!DOCTYPE html>", "HTML or XML instead of an image"),
    ],
)
def test_what_a_file_is_instead_of_an_image_is_said(
    tmp_path: Path, content: bytes, said: str
) -> None:
    fill(fill(tmp_path, "a/1.png"), "b/1.png", content=content)
    assert f"b/1.png: cannot be read as an image: {said}" in refusal(tmp_path)


def test_a_link_to_what_has_no_end_is_not_read(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.png", "b/1.png")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "a" / "endless.png").symlink_to("/dev/zero")
    (tmp_path / "b" / "waiting.png").symlink_to(tmp_path / "pipe")
    os.mkfifo(tmp_path / "b" / "pipe.png")
    assert names_in_order(tmp_path) == ["a/1.png", "a/endless.png", "b/1.png", "b/waiting.png"]
    assert "a/endless.png (and 1 more): cannot be read as an image: not a file" in refusal(tmp_path)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.png", "b/1.png", "b/huge.png")
    os.truncate(tmp_path / "b" / "huge.png", folder.MAX_BYTES + 1)  # sparse: it takes no room
    assert "b/huge.png: cannot be read as an image: larger than 2,147,483,648" in refusal(tmp_path)


def test_names_and_paths_of_every_length_are_read_or_named(tmp_path: Path) -> None:
    longest = "n" * 251
    fill(tmp_path, f"a/{longest}.png", f"{'c' * 255}/1.png")
    assert read(tmp_path).classes == ("a", "c" * 255)
    assert "cannot be read: File name too long" in whole_refusal(tmp_path / ("d/" * 2500))


def whole_refusal(root: Path) -> str:
    """What the user reads where ``tinylab train`` is refused the data."""
    with pytest.raises(UserError) as error:
        data.load(FolderConfig(root=str(root)), SplitConfig())
    return str(error.value)


def test_the_names_of_the_images_go_with_them(tmp_path: Path, own_cache: Path) -> None:
    names = ["a/10.png", "a/new\nline.png", f"b/{os.fsdecode(b'caf' + bytes([233]))}.png"]
    fill(tmp_path / "data", *names, "b/bad.png")
    (tmp_path / "data" / "b" / "bad.png").write_bytes(b"")
    config = FolderConfig(root=str(tmp_path / "data"), image_size=4, skip_bad=True)
    for _ in range(2):  # decoded, and from the cache
        assert list(cache.load(part_of(config).find()).dataset.names) == names
    assert len(list(own_cache.iterdir())) == 1


def test_links_that_loop_are_no_class_folders(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.png", "b/1.png")
    (tmp_path / "c").symlink_to("d")
    (tmp_path / "d").symlink_to("c")
    assert read(tmp_path).classes == ("a", "b")


def test_a_linked_image_and_a_linked_class_are_read(tmp_path: Path) -> None:
    fill(tmp_path, "store/1.png", "data/a/1.png")
    (tmp_path / "data" / "a" / "2.png").symlink_to(tmp_path / "store" / "1.png")
    (tmp_path / "data" / "b").symlink_to(tmp_path / "store")
    assert read(tmp_path / "data").labels.tolist() == [0, 0, 1]


def test_skip_bad_leaves_such_files_out_and_says_which(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path, "a/good.png", "b/good.png", "b/zz.png")
    bad = bad_files(tmp_path)
    dataset = read(tmp_path, skip_bad=True)
    assert dataset.labels.tolist() == [0, 1, 1]
    assert dataset.pixels.any(axis=(1, 2, 3)).all()
    said = capsys.readouterr().out.splitlines()
    assert said[-11] == f"{tmp_path}: 9 of 12 files cannot be read as images:"
    assert [line.split(":")[0].strip() for line in said[-10:-1]] == [
        str(file.relative_to(tmp_path)) for file in bad
    ]
    assert said[-10] == "  a/empty.png: the file is empty"
    assert said[-1] == "they are skipped"


def test_a_name_with_a_line_break_stays_on_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path, "a/1.png", "b/1.png")
    (tmp_path / "b" / "two\nlines.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"b/two\\nlines\.png: cannot be read as an image") as error:
        read(tmp_path)
    assert len(str(error.value).splitlines()) == 2
    assert "  b/two\\nlines.png: " in capsys.readouterr().out


def test_skip_bad_shortens_the_official_test_set_by_its_own_bad_files(tmp_path: Path) -> None:
    for part, good in (("train", 3), ("test", 2)):
        fill(tmp_path, *(f"{part}/{name}/{i}.png" for name in "ab" for i in range(good)))
        fill(tmp_path, f"{part}/a/0.png", content=b"bad")
    fill(tmp_path, "test/b/1.png", content=b"bad")
    dataset = read(tmp_path, skip_bad=True)
    assert dataset.labels.tolist() == [0, 0, 1, 1, 1, 0, 1]
    assert dataset.num_official_test == 2


def test_a_class_without_a_readable_training_image_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, "train/a/1.png", "test/a/1.png", "test/b/1.png")
    fill(tmp_path, "train/b/1.png", content=b"bad")
    assert refusal(tmp_path, skip_bad=True).startswith("class b: none of its training images can")


def test_a_file_that_vanishes_between_listing_and_reading_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, "a/1.png", "b/1.png")
    config = FolderConfig(root=str(tmp_path))
    source = part_of(config).find()
    (tmp_path / "b" / "1.png").unlink()
    monkeypatch.setattr(folder.Folder, "find", lambda _: source)
    with pytest.raises(UserError, match=r"b/1.png: cannot be read as an image: No such file"):
        data.load(config, SplitConfig())


def test_a_class_folder_that_may_not_be_listed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    fill(tmp_path, "a/1.png", "b/1.png")
    monkeypatch.setattr(os, "scandir", forbidden)
    with pytest.raises(UserError, match=f"{tmp_path}/a: cannot be read: Permission denied"):
        data.load(FolderConfig(root=str(tmp_path)), SplitConfig())


def black_png(side: int) -> bytes:
    """A square PNG of one bit a pixel, without ever holding its pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        crc = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)

    row = bytes(1 + (side + 7) // 8)
    packer = zlib.compressobj(1)
    pixels = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


@pytest.mark.costly
def test_a_decompression_bomb_is_not_unpacked(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.png", "b/1.png")
    fill(tmp_path, "b/bomb.png", content=black_png(side=20_000))
    code = f"""
from tinylab.config import options
from tinylab.data import part_of
part_of(options.record("dataset", "folder", root={str(tmp_path)!r})).find().read()
"""
    # A process of its own: OpenCV reads its limit once, when it is imported.
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert "b/bomb.png: cannot be read as an image: too many pixels" in ended.stderr


def test_more_images_than_memory_is_said_before_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: object) -> None:
        raise MemoryError

    fill(tmp_path, "a/1.png", "b/1.png")
    monkeypatch.setattr(np, "empty", no_memory)
    assert refusal(tmp_path).startswith(
        "dataset.image_size=8: 2 images of this size take 0 GB, more than"
    )


def test_without_a_terminal_progress_is_one_line_and_opencv_is_quiet(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path, "a/1.png", "b/1.png")
    bad_files(tmp_path)
    (tmp_path / "b" / "cut.jpg").unlink()  # libjpeg has a word of its own
    read(tmp_path, skip_bad=True)
    said = capfd.readouterr()
    assert said.out.startswith("decoding images: 10 ...\n")
    assert said.out.endswith("they are skipped\n")
    assert said.err == ""
