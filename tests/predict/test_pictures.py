"""Files as the network wants them: exact where they are in its form already, fitted where not."""

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image

from option_records import FolderConfig, MnistConfig, Scene15Config
from tinylab import data
from tinylab.config.options import options
from tinylab.data import part_of
from tinylab.data.digits import Digits
from tinylab.data.mnist import Mnist
from tinylab.errors import UserError
from tinylab.predict.pictures import Picture, read_digit, reader

pytestmark = pytest.mark.costly

FIELDS = {"mnist": Mnist.ink, "digits": Digits.ink}
MNIST, DIGITS = FIELDS["mnist"], FIELDS["digits"]


def drawn_zero(size: int = 400, ground: int = 250, ink: int = 20) -> NDArray[np.uint8]:
    """A zero, as a person would draw it: gray (size, size)."""
    page = np.full((size, size), ground, np.uint8)
    axes = (size // 5, size // 3)
    cv2.ellipse(page, (size // 2, size // 2), axes, 10, 0, 360, ink, size // 18, cv2.LINE_AA)
    return page


def read_mnist(file: Path, invert: str = "auto") -> Picture:
    return reader(MnistConfig(), invert)(file)


def near(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Mean absolute difference, in gray levels, when the two are laid on each other.

    The center of mass is rounded to pixels, so they may lie one pixel apart.
    """
    shifts = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    moved = [np.roll(one, shift, axis=(-2, -1)).astype(int) for shift in shifts]
    return min(float(np.abs(image - other).mean()) for image in moved)


def test_every_dataset_has_a_rule() -> None:
    needed = {"folder": {"root": "x"}, "arrays": {"file": "x"}, "torchvision": {"set": "USPS"}}
    records = {n: o.record(**needed.get(n, {})) for n, o in options("dataset").items()}
    for record in records.values():
        assert callable(reader(record, "auto"))


@given(st.integers(100, 400), st.integers(0, 180), st.sampled_from([28, 32, 41]))
def test_an_image_in_the_form_of_mnist_passes_unchanged(width: int, turn: int, size: int) -> None:
    page = np.zeros((1000, 1000), np.uint8)
    cv2.ellipse(page, (400, 500), (400, width), turn, 0, 360, 255, 60)
    pixels = read_digit(page, MNIST, 28, "auto").pixels[0]
    before = (size - 28) // 2
    expected = np.zeros((1, size, size), np.uint8)
    expected[0, before : before + 28, before : before + 28] = pixels
    for shown in (pixels, expected[0]):  # also one that was padded before it was written
        picture = read_digit(shown, MNIST, size, "auto")
        assert (picture.pixels == expected).all()
        assert (picture.inverted, picture.fitted) == (False, False)


@given(arrays(np.uint8, (8, 8)))
def test_a_negative_of_the_networks_size_is_inverted_and_no_more(pixels: NDArray[np.uint8]) -> None:
    pixels[[0, -1]] = pixels[:, [0, -1]] = 0
    pixels[4, 4] = 255
    picture = read_digit(255 - pixels, DIGITS, 8, "auto")
    assert (picture.pixels[0] == pixels).all()
    assert (picture.inverted, picture.fitted) == (True, False)


def test_every_digit_of_scikit_learn_passes_unchanged_and_its_negative_is_recognised() -> None:
    for image in data.digits.read(8).pixels[:, 0]:
        assert (read_digit(image, DIGITS, 8, "auto").pixels[0] == image).all()
        assert (read_digit(255 - image, DIGITS, 8, "auto").pixels[0] == image).all()


@given(
    arrays(np.uint8, (5, 4)),
    st.integers(0, 20),
    st.integers(0, 20),
    st.integers(2, 9),
    st.sampled_from(["mnist", "digits"]),
)
def test_where_the_ink_stands_and_which_of_both_is_light_does_not_matter(
    blot: NDArray[np.uint8], down: int, right: int, factor: int, name: str
) -> None:
    field = FIELDS[name]
    blot = np.kron(np.maximum(blot, 150), np.ones((factor, factor), np.uint8))
    pages = np.zeros((2, 120, 110), np.uint8)
    for page, (top, left) in zip(pages, [(3, 3), (3 + down, 3 + right)], strict=True):
        page[top : top + len(blot), left : left + blot.shape[1]] = blot
    first, moved = (read_digit(page, field, field.side, "auto") for page in pages)
    assert (first.pixels == moved.pixels).all()
    negative = read_digit(255 - pages[0], field, field.side, "auto")
    assert (negative.pixels == first.pixels).all()
    assert (first.inverted, negative.inverted) == (False, True)
    rows, columns = (np.flatnonzero(first.pixels[0].any(axis)) for axis in (1, 0))
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == field.box, "the ink fills its box"


def test_the_ink_is_centered_by_its_mass_as_mnist_is() -> None:
    page = np.full((200, 300), 255, np.uint8)
    cv2.putText(page, "7", (40, 150), cv2.FONT_HERSHEY_SIMPLEX, 4, 0, 10)
    pixels = read_digit(page, MNIST, 28, "auto").pixels[0].astype(float)
    for axis in (0, 1):
        center = pixels.sum(axis) @ np.arange(28) / pixels.sum()
        assert abs(center - 14) <= 0.5


@pytest.mark.parametrize("size", [29, 60, 1000, 3000])
def test_the_same_drawing_looks_the_same_at_any_size(size: int) -> None:
    reference = read_digit(drawn_zero(400), MNIST, 28, "auto").pixels
    assert near(read_digit(drawn_zero(size), MNIST, 28, "auto").pixels, reference) < 18
    turned = read_digit(drawn_zero(size).T, MNIST, 28, "auto").pixels
    assert near(turned, reference) > 28, "another drawing is farther away"


def test_uneven_light_noise_and_dust_do_not_matter() -> None:
    reference = read_digit(drawn_zero(), MNIST, 28, "auto").pixels
    generator = np.random.default_rng(0)
    light = np.linspace(0.5, 1, 400)[:, None] * np.linspace(0.8, 1, 400)
    photo = drawn_zero() * light + generator.normal(0, 6, (400, 400))
    photo[5:9, 390:394] = 0
    photo[300:303, 20:23] = 0
    picture = read_digit(photo.clip(0, 255).astype(np.uint8), MNIST, 28, "auto")
    assert picture.inverted
    assert near(picture.pixels, reference) < 12


def test_gray_paper_that_is_darker_than_half_is_still_lighter_than_its_ink() -> None:
    assert read_digit(drawn_zero(ground=100, ink=10), MNIST, 28, "auto").inverted
    assert not read_digit(drawn_zero(ground=150, ink=250), MNIST, 28, "auto").inverted


def test_what_is_said_of_the_ink_is_believed() -> None:
    zero = drawn_zero(8, ground=0, ink=255)
    assert (read_digit(zero, DIGITS, 8, "yes").pixels[0] == 255 - zero).all()
    assert (read_digit(255 - zero, DIGITS, 8, "no").pixels[0] == 255 - zero).all()
    for invert in ("yes", "no"):
        for page in (drawn_zero(), 255 - drawn_zero()):
            assert read_digit(page, MNIST, 28, invert).inverted == (invert == "yes")


@given(st.integers(-4, 4), st.integers(-4, 4), st.booleans())
def test_a_digit_of_28x28_off_center_is_centered(down: int, right: int, is_dark: bool) -> None:
    reference = read_digit(drawn_zero(), MNIST, 28, "auto").pixels
    moved = np.roll(reference[0], (down, right), (0, 1))
    picture = read_digit(255 - moved if is_dark else moved, MNIST, 28, "auto")
    assert near(picture.pixels, reference) < 6
    assert picture.inverted == is_dark
    if max(abs(down), abs(right)) != 1:
        assert picture.fitted == (max(abs(down), abs(right)) > 1)


def on_a_table(page: NDArray[np.uint8], table: int, turn: float, edge: int) -> NDArray[np.uint8]:
    """A page on a larger table, turned by some degrees."""
    side = len(page) + 2 * edge
    corner = cv2.copyMakeBorder(page, edge, edge, edge, edge, cv2.BORDER_CONSTANT, value=table)
    matrix = cv2.getRotationMatrix2D((side / 2, side / 2), turn, 1)
    return cv2.warpAffine(corner, matrix, (side, side), borderValue=table)


@pytest.mark.parametrize("turn", [0, 3, -8])
@pytest.mark.parametrize("edge", [8, 60, 150])
@pytest.mark.parametrize("board", ["paper", "slate"])
def test_a_frame_or_a_table_around_the_sheet_does_not_matter(
    turn: float, edge: int, board: str
) -> None:
    page = drawn_zero()
    photo = (
        on_a_table(page, 50, turn, edge)
        if board == "paper"
        else 255 - on_a_table(page, 60, turn, edge)
    )
    noisy = photo + np.random.default_rng(0).normal(0, 4, photo.shape)
    picture = read_digit(noisy.clip(0, 255).astype(np.uint8), MNIST, 28, "auto")
    reference = read_digit(on_a_table(page, 250, turn, edge), MNIST, 28, "auto")
    assert picture.inverted == (board == "paper")
    assert near(picture.pixels, reference.pixels) < 8
    assert not picture.several


def test_a_table_at_one_side_does_not_matter() -> None:
    photo = drawn_zero()
    photo[:, :50] = 40
    picture = read_digit(photo, MNIST, 28, "auto")
    assert near(picture.pixels, read_digit(drawn_zero(), MNIST, 28, "auto").pixels) < 6


def test_several_digits_in_one_picture_are_noticed() -> None:
    for columns in (drawn_zero(), np.hstack([drawn_zero()] * 2), np.hstack([drawn_zero()] * 3)):
        several = columns.shape[1] > 400
        assert read_digit(columns, MNIST, 28, "auto").several == several
    page = np.full((300, 300), 255, np.uint8)
    cv2.putText(page, "5", (90, 220), cv2.FONT_HERSHEY_SIMPLEX, 6, 0, 12)
    assert not read_digit(page, MNIST, 28, "auto").several


def test_transparency_shows_a_ground_on_which_the_ink_is_seen(tmp_path: Path) -> None:
    zero = drawn_zero()
    reference = read_digit(zero, MNIST, 28, "auto").pixels
    inks = {"black": (0, 0, 0), "white": (255, 255, 255), "blue": (30, 40, 160)}
    for name, ink in inks.items():
        rgba = np.zeros((400, 400, 4), np.uint8)
        rgba[..., :3] = ink
        rgba[..., 3] = 255 - zero
        Image.fromarray(rgba).save(tmp_path / "zero.png")
        picture = read_mnist(tmp_path / "zero.png")
        assert near(picture.pixels, reference) < 3, name
        assert picture.inverted == (name != "white")
    rgba = np.dstack([zero, zero, zero, np.full_like(zero, 255)])
    rgba[190:210, 190:210, 3] = 0  # a hole in the page, through which its color shows
    rgba[190:210, 190:210, :3] = 0
    Image.fromarray(rgba).save(tmp_path / "hole.png")
    assert near(read_mnist(tmp_path / "hole.png").pixels, reference) < 3


def save_as(kind: str, file: Path) -> None:
    zero = Image.fromarray(drawn_zero())
    if kind == "16 bit":
        Image.fromarray(drawn_zero().astype(np.uint16) * 257).save(file, "PNG")
    elif kind == "12 of 16 bit":
        Image.fromarray(drawn_zero().astype(np.uint16) * 16).save(file, "PNG")
    elif kind == "14 of 16 bit":
        Image.fromarray(drawn_zero().astype(np.uint16) * 64).save(file, "PNG")
    elif kind == "cmyk":
        zero.convert("CMYK").save(file, "JPEG", quality=95)
    elif kind == "animated gif":
        zero.save(file, "GIF", save_all=True, append_images=[Image.new("L", (400, 400))] * 3)
    elif kind == "animated webp":
        zero.save(file, "WEBP", save_all=True, append_images=[Image.new("L", (400, 400))] * 3)
    elif kind == "one bit":
        zero.convert("1", dither=Image.Dither.NONE).save(file, "PNG")
    elif kind == "palette":
        zero.convert("P").save(file, "PNG")
    elif kind == "turned by exif":
        exif = Image.Exif()
        exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
        zero.transpose(Image.Transpose.ROTATE_90).save(file, "JPEG", exif=exif, quality=95)


KINDS = [
    "16 bit", "14 of 16 bit", "12 of 16 bit", "cmyk", "animated gif", "animated webp", "one bit",
    "palette", "turned by exif",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_odd_kinds_of_files_are_read_properly(kind: str, tmp_path: Path) -> None:
    save_as(kind, tmp_path / "file")
    reference = read_digit(drawn_zero(), MNIST, 28, "auto").pixels
    assert near(read_mnist(tmp_path / "file").pixels, reference) < 6


def png(width: int, height: int) -> bytes:
    """A PNG file that claims a size for which it holds hardly any data."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(999))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def write(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def encoded(image: NDArray[np.uint8], suffix: str = ".png") -> bytes:
    return cv2.imencode(suffix, image)[1].tobytes()


BAD = {
    "absent": (lambda path: None, "No such file"),
    "empty": (write(b""), "empty"),
    "text": (write(b"no image at all"), "damaged"),
    "cut png": (write(encoded(drawn_zero())[:900]), "damaged"),
    "cut jpeg": (write(encoded(drawn_zero(), ".jpg")[:150]), "damaged"),
    "bomb": (write(png(60_000, 60_000)), "too many pixels"),
    "blank": (write(encoded(np.full((99, 99), 250, np.uint8))), "no ink"),
    "one pixel": (write(encoded(np.zeros((1, 1), np.uint8))), "no ink"),
    "thin": (write(encoded(np.zeros((1, 5000), np.uint8))), "no ink"),
    "folder": (Path.mkdir, "not a file"),
    "pipe": (os.mkfifo, "not a file"),
    "loop": (lambda path: path.symlink_to(path.name), "symbolic links"),
}


@pytest.mark.parametrize(("make", "said"), BAD.values(), ids=BAD.keys())
def test_what_is_no_image_of_a_digit_is_an_error_with_a_reason(
    make: Callable[[Path], object], said: str, tmp_path: Path
) -> None:
    make(tmp_path / "file")
    with pytest.raises(OSError) as caught:  # noqa: PT011 (the words are looked at below)
        read_mnist(tmp_path / "file")
    assert said in str(caught.value)


def test_a_path_too_long_for_the_system_is_an_error_with_a_reason() -> None:
    with pytest.raises(OSError, match="name too long"):
        read_mnist(Path("x" * 300))


@pytest.mark.parametrize("grayscale", [True, False])
def test_class_folders_are_read_as_in_training(grayscale: bool, tmp_path: Path) -> None:
    config = FolderConfig(
        root=str(tmp_path), image_size=20, grayscale=grayscale, interpolation="area"
    )
    generator = np.random.default_rng(0)
    for name in "ab":
        (tmp_path / name).mkdir()
        image = generator.integers(0, 256, (50, 70, 3), dtype=np.uint8)
        (tmp_path / name / "1.png").write_bytes(encoded(image))
    trained_on = part_of(config).find().read().pixels
    read = reader(config, "auto")
    for index, name in enumerate("ab"):
        picture = read(tmp_path / name / "1.png")
        assert (picture.pixels == trained_on[index]).all()
        assert (picture.inverted, picture.fitted) == (False, False)


def test_only_digits_are_inverted() -> None:
    with pytest.raises(UserError, match=r"--invert yes: .* dataset=scene15"):
        reader(Scene15Config(), "yes")
