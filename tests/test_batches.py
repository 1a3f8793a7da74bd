"""Batches against plain indexing, and normalisation against NumPy."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor

from tinylab.data.arrays import Images
from tinylab.data.batches import (
    Batches,
    batch_bounds,
    fit_class_weights,
    fit_normalization,
    to_device,
)

CPU = torch.device("cpu")
channels = pytest.mark.parametrize("C", [1, 3])


def some_images(N: int, C: int, H: int, W: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (N, C, H, W), dtype=np.uint8)


def some_batches(N: int, C: int, channels_last: bool) -> Batches:
    data = Images(some_images(N, C, 5, 7), np.arange(N) % 3, ("a", "b", "c"))
    return to_device(data, np.arange(N), CPU, channels_last)


# ---------------------------------------------------------------- normalisation


@channels
def test_unit_brings_pixels_to_0_and_1(C: int) -> None:
    images = some_images(6, C, 5, 7)
    images[0, 0, 0, :2] = 0, 255
    result = fit_normalization(torch.from_numpy(images), "unit")(torch.from_numpy(images))
    np.testing.assert_allclose(result.numpy(), images / 255, rtol=1e-6)
    assert [result.min(), result.max()] == [0.0, 1.0]


@given(st.integers(2, 9), st.sampled_from([1, 3]), st.integers(1, 9), st.integers(0, 99))
def test_standard_is_the_z_score_of_each_channel(N: int, C: int, side: int, seed: int) -> None:
    images = some_images(N, C, side, side + 1, seed)
    mean = images.mean(axis=(0, 2, 3), keepdims=True)
    deviation = images.std(axis=(0, 2, 3), keepdims=True)
    expected = (images - mean) / np.where(deviation > 0, deviation, 1)
    result = fit_normalization(torch.from_numpy(images), "standard")(torch.from_numpy(images))
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-5)


def test_standard_only_centres_a_channel_that_never_changes() -> None:
    images = torch.full((4, 1, 3, 3), 200, dtype=torch.uint8)
    normalization = fit_normalization(images, "standard")
    torch.testing.assert_close(normalization(images), torch.zeros(4, 1, 3, 3))
    torch.testing.assert_close(normalization(images + 1), torch.ones(4, 1, 3, 3))


@given(st.lists(st.integers(0, 4), max_size=60))
def test_balanced_weights_are_those_of_scikit_learn(drawn: list[int]) -> None:
    labels = np.array([*range(5), *drawn])
    weights = fit_class_weights(torch.from_numpy(labels), 5, "balanced")
    assert weights is not None
    expected = compute_class_weight("balanced", classes=np.arange(5), y=labels)
    np.testing.assert_allclose(weights.numpy(), expected, rtol=1e-6)
    assert weights[labels].double().mean() == pytest.approx(1, rel=1e-6)
    assert fit_class_weights(torch.from_numpy(labels), 5, "none") is None


def test_statistics_do_not_depend_on_the_order_of_the_images() -> None:
    images = torch.from_numpy(some_images(50, 3, 8, 8))
    forwards = fit_normalization(images, "standard")
    backwards = fit_normalization(images.flip(0), "standard")
    assert torch.equal(forwards.scale, backwards.scale)
    assert torch.equal(forwards.offset, backwards.offset)


@channels
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_normalisation_keeps_the_memory_format(
    C: int, memory_format: torch.memory_format, dtype: torch.dtype
) -> None:
    images = torch.from_numpy(some_images(4, C, 5, 7)).contiguous(memory_format=memory_format)
    result = fit_normalization(images, "standard")(images.to(dtype))
    assert result.dtype == torch.float32
    assert result.is_contiguous(memory_format=memory_format)


# ---------------------------------------------------------------- on the device


@channels
@pytest.mark.parametrize("channels_last", [True, False])
def test_chosen_images_come_onto_the_device_in_order(C: int, channels_last: bool) -> None:
    data = Images(some_images(8, C, 5, 7), np.arange(8), tuple("abcdefgh"))
    chosen = np.array([6, 0, 3])
    batches = to_device(data, chosen, CPU, channels_last)
    assert len(batches) == 3
    assert (batches.images.dtype, batches.labels.dtype) == (torch.uint8, torch.int64)
    np.testing.assert_array_equal(batches.images.numpy(), data.images[chosen])
    assert batches.labels.tolist() == [6, 0, 3]


def test_three_channels_are_innermost_in_memory_if_asked_for() -> None:
    assert some_batches(4, 3, channels_last=True).images.stride() == (105, 1, 21, 3)
    assert some_batches(4, 3, channels_last=False).images.stride() == (105, 35, 7, 1)


def test_one_channel_is_the_same_memory_in_both_formats() -> None:
    images = some_batches(4, 1, channels_last=True).images
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert images.is_contiguous()


@channels
@pytest.mark.parametrize("channels_last", [True, False])
def test_taking_is_plain_indexing(C: int, channels_last: bool) -> None:
    batches = some_batches(9, C, channels_last)
    indices = torch.tensor([8, 0, 3, 3])
    images, labels = batches.take(indices)
    assert torch.equal(images, batches.images[indices])
    assert torch.equal(labels, batches.labels[indices])
    wanted = torch.channels_last if channels_last else torch.contiguous_format
    assert images.is_contiguous(memory_format=wanted)


@pytest.mark.parametrize("batch_size", [1, 2, 4, 7, 8, 100])
def test_in_order_gives_every_image_once(batch_size: int) -> None:
    batches = some_batches(8, 3, channels_last=True)
    parts: list[tuple[Tensor, Tensor]] = list(batches.in_order(batch_size))
    assert torch.equal(torch.cat([images for images, _ in parts]), batches.images)
    assert torch.equal(torch.cat([labels for _, labels in parts]), batches.labels)
    assert max(len(labels) for _, labels in parts) == min(batch_size, 8)


# ---------------------------------------------------------------- where batches begin and end


@given(st.integers(1, 300), st.integers(1, 64))
def test_batches_hold_every_image_once(num_images: int, batch_size: int) -> None:
    bounds = batch_bounds(num_images, batch_size)
    assert [i for start, end in bounds for i in range(start, end)] == list(range(num_images))
    sizes = [end - start for start, end in bounds]
    assert all(size == batch_size for size in sizes[:-1])
    assert sizes[-1] <= batch_size + 1


@given(st.integers(2, 300), st.integers(2, 64))
def test_no_batch_is_a_single_image(num_images: int, batch_size: int) -> None:
    assert all(end - start > 1 for start, end in batch_bounds(num_images, batch_size))


def test_a_last_single_image_joins_the_batch_before() -> None:
    assert batch_bounds(7, 3) == [(0, 3), (3, 7)]
    assert batch_bounds(8, 3) == [(0, 3), (3, 6), (6, 8)]
    assert batch_bounds(1, 3) == [(0, 1)]


def test_batches_of_one_image_are_left_alone() -> None:
    assert batch_bounds(3, 1) == [(0, 1), (1, 2), (2, 3)]
