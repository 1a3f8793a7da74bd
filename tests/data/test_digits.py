"""scikit-learn's digits: always there, always the same."""

import subprocess
import sys

import numpy as np
import pytest

from option_records import DigitsConfig
from tinylab import data
from tinylab.config.schema import SplitConfig
from tinylab.data import part_of
from tinylab.data.arrays import Dataset


def load(image_size: int = 8) -> Dataset:
    return data.load(DigitsConfig(image_size=image_size), SplitConfig()).data


def test_there_are_1797_gray_images_of_8x8_with_ten_classes() -> None:
    dataset = load()
    assert dataset.pixels.shape == (1797, 1, 8, 8)
    assert dataset.pixels.dtype == np.uint8
    assert dataset.labels.dtype == np.int64
    counts = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert np.bincount(dataset.labels).tolist() == counts
    assert dataset.classes == tuple("0123456789")
    assert dataset.num_official_test == 0


def test_ink_from_0_to_16_becomes_0_to_255() -> None:
    levels = np.unique(load().pixels)
    assert levels.tolist() == [round(ink * 255 / 16) for ink in range(17)]


def test_the_images_are_the_same_on_every_machine() -> None:
    golden = "06b6ae20fb1789b8"
    assert load().fingerprint().startswith(golden)


def test_a_larger_size_puts_zeros_round_the_pixels() -> None:
    padded = load(image_size=11).pixels
    assert padded.shape == (1797, 1, 11, 11)
    assert np.array_equal(padded[:, :, 1:9, 1:9], load().pixels)
    assert padded.sum() == load().pixels.sum()


@pytest.mark.costly
def test_finding_the_file_does_not_import_scikit_learn() -> None:
    code = """
import os
import sys
from tinylab.config import options
from tinylab.data import part_of
assert os.path.isfile(part_of(options.record("dataset", "digits")).find().files[0])
sys.exit("sklearn" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_size_has_a_key_of_its_own() -> None:
    small, large = part_of(DigitsConfig()).find(), part_of(DigitsConfig(image_size=32)).find()
    assert small.files == large.files
    assert small.preparation != large.preparation
