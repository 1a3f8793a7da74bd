"""Which images look like others: copies with little changed, and no others."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tinylab.evaluate.alike import ALIKE, alike


def photos(count: int, seed: int, channels: int = 3, size: int = 32) -> NDArray[np.uint8]:
    """Smooth random images."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 6, 6, channels), np.uint8)
    large = [cv2.resize(image, (size, size), interpolation=cv2.INTER_CUBIC) for image in coarse]
    return np.stack(large).reshape(count, size, size, channels).transpose(0, 3, 1, 2)


@given(
    st.integers(1, 300), st.sampled_from((1, 3)), st.sampled_from((1, 5, 8, 19, 28)),
    st.integers(0, 9),
)  # fmt: skip
def test_an_image_is_like_itself_and_unlike_random_ones(
    count: int, channels: int, size: int, seed: int
) -> None:
    images = photos(count, seed, channels, size)
    apart = images.reshape(count, -1).std(axis=1) > 20
    order = np.random.default_rng(seed).permutation(count)
    assert alike(images, images[order])[apart].all()
    if size > 8:
        assert not alike(images, photos(20, seed + 10, channels, size)).any()
    assert not alike(images, images[:0]).any()


@pytest.mark.parametrize("quality", [95, 75])
def test_photographs_in_jpeg_are_like_the_originals(quality: int) -> None:
    def small(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return cv2.resize(image, (32, 32)).transpose(2, 0, 1)

    originals = photos(100, 0, size=128).transpose(0, 2, 3, 1)
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    files = [cv2.imencode(".jpg", original.copy(), options)[1] for original in originals]
    copies = np.stack([small(cv2.imdecode(file, cv2.IMREAD_COLOR)) for file in files])
    assert alike(copies, np.stack([small(original.copy()) for original in originals])).all()


def test_the_bound_is_a_fraction_of_the_contrast() -> None:
    image = photos(1, 0).astype(float)
    noise = np.where(np.indices(image.shape).sum(axis=0) % 2, 1.0, -1.0)
    for factor, is_alike in ((0.8, True), (1.3, False)):
        noisy = np.rint(image * 0.8 + 25 + factor * ALIKE * 0.8 * image.std() * noise)
        clean = np.rint(image * 0.8 + 25).astype(np.uint8)
        assert alike(noisy.astype(np.uint8), clean)[0] == is_alike


def test_images_that_show_nothing_are_not_distinguished() -> None:
    assert not alike(np.zeros((3, 1, 8, 8), np.uint8), np.zeros((5, 1, 8, 8), np.uint8)).any()
