"""Batches against plain indexing, and normalization against NumPy."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor

from tinylab.data import stream
from tinylab.data.arrays import Dataset
from tinylab.data.batches import (
    Batches,
    Normalization,
    batch_bounds,
    fit_class_weights,
    fit_normalization,
    to_device,
)
from tinylab.training.capture import no_waiting

CPU = torch.device("cpu")
channels = pytest.mark.parametrize("C", [1, 3])


def some_images(N: int, C: int, H: int, W: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (N, C, H, W), dtype=np.uint8)


def some_batches(N: int, C: int, channels_last: bool) -> Batches:
    data = Dataset(some_images(N, C, 5, 7), np.arange(N) % 3, ("a", "b", "c"))
    return to_device(data, CPU, channels_last)


def fit(images: Tensor, kind: str) -> Normalization:
    return fit_normalization(Batches(images, torch.zeros(len(images))), kind)


# ---------------------------------------------------------------- normalization


@channels
def test_unit_brings_pixels_to_0_and_1(C: int) -> None:
    images = some_images(6, C, 5, 7)
    images[0, 0, 0, :2] = 0, 255
    result = fit(torch.from_numpy(images), "unit")(torch.from_numpy(images))
    np.testing.assert_allclose(result.numpy(), images / 255, rtol=1e-6)
    assert [result.min(), result.max()] == [0.0, 1.0]


@given(st.integers(2, 9), st.sampled_from([1, 3]), st.integers(1, 9), st.integers(0, 99))
def test_standard_is_the_z_score_of_each_channel(N: int, C: int, side: int, seed: int) -> None:
    images = some_images(N, C, side, side + 1, seed)
    mean = images.mean(axis=(0, 2, 3), keepdims=True)
    deviation = images.std(axis=(0, 2, 3), keepdims=True)
    expected = (images - mean) / np.where(deviation > 0, deviation, 1)
    result = fit(torch.from_numpy(images), "standard")(torch.from_numpy(images))
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-5)


def test_standard_only_centers_a_channel_that_never_changes() -> None:
    images = torch.full((4, 1, 3, 3), 200, dtype=torch.uint8)
    normalization = fit(images, "standard")
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
    forwards = fit(images, "standard")
    backwards = fit(images.flip(0), "standard")
    assert torch.equal(forwards.scale, backwards.scale)
    assert torch.equal(forwards.offset, backwards.offset)


@channels
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_normalization_keeps_the_memory_format(
    C: int, memory_format: torch.memory_format, dtype: torch.dtype
) -> None:
    images = torch.from_numpy(some_images(4, C, 5, 7)).contiguous(memory_format=memory_format)
    result = fit(images, "standard")(images.to(dtype))
    assert result.dtype == torch.float32
    assert result.is_contiguous(memory_format=memory_format)


# ---------------------------------------------------------------- on the device


@channels
@pytest.mark.parametrize("channels_last", [True, False])
def test_a_part_is_its_images_in_order(C: int, channels_last: bool) -> None:
    data = Dataset(some_images(8, C, 5, 7), np.arange(8), tuple("abcdefgh"))
    chosen = np.array([6, 0, 3])
    part = to_device(data, CPU, channels_last).part(chosen)
    assert len(part) == 3
    assert (part.images.dtype, part.labels.dtype) == (torch.uint8, torch.int64)
    images = torch.cat([images for images, _ in part.in_order(2)])
    np.testing.assert_array_equal(images.numpy(), data.pixels[chosen])
    assert part.labels.tolist() == [6, 0, 3]


def test_parts_share_the_memory_of_the_decoded_array() -> None:
    data = Dataset(some_images(8, 1, 5, 7), np.arange(8), tuple("abcdefgh"))
    data.pixels.setflags(write=False)  # as from the cache
    whole = to_device(data, CPU, channels_last=True)
    one, other = (whole.part(np.array(rows)) for rows in ([0, 5], [7, 1]))
    for batches in (whole, one, other):
        assert batches.images.data_ptr() == data.pixels.ctypes.data


def test_statistics_are_those_of_the_part_alone() -> None:
    whole = some_batches(20, 3, channels_last=True)
    rows = np.array([3, 1, 17, 8])
    part = fit_normalization(whole.part(rows), "standard")
    assert torch.equal(part.scale, fit(whole.images[rows], "standard").scale)
    assert not torch.equal(part.scale, fit_normalization(whole, "standard").scale)


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
@pytest.mark.parametrize("rows", [None, [7, 6, 5, 4, 3, 2, 1, 0]])
def test_in_order_gives_every_image_once(batch_size: int, rows: list[int] | None) -> None:
    batches = some_batches(8, 3, channels_last=True)
    images, labels = batches.images, batches.labels
    if rows is not None:
        batches, images, labels = batches.part(np.array(rows)), images.flip(0), labels.flip(0)
    parts: list[tuple[Tensor, Tensor]] = list(batches.in_order(batch_size))
    assert torch.equal(torch.cat([part for part, _ in parts]), images)
    assert torch.equal(torch.cat([part for _, part in parts]), labels)
    assert max(len(labels) for _, labels in parts) == min(batch_size, 8)


# ---------------------------------------------------------------- streamed


@channels
@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("first", [0, 2])  # of the epoch's batches: later ones after a resume
@pytest.mark.parametrize("chunk", [1, 5 * 7 * 6, 5 * 7 * 12, 1 << 20])  # bytes
def test_streamed_batches_are_those_of_the_device(
    C: int, channels_last: bool, first: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "CHUNK_BYTES", chunk)
    data = Dataset(some_images(30, C, 5, 7), np.arange(30), tuple("abc"))
    rows = np.random.default_rng(1).permutation(30)[:23]
    order = torch.from_numpy(np.random.default_rng(2).permutation(23))
    resident, streamed = (
        to_device(data, CPU, channels_last, kind).part(rows) for kind in (False, True)
    )
    bounds = batch_bounds(23, 4)[first:]
    expected = list(resident.in_turn(order, bounds))
    result = 0
    for (images, labels), (other, other_labels) in zip(
        streamed.in_turn(order, bounds), expected, strict=True
    ):
        assert torch.equal(images, other)
        assert torch.equal(labels, other_labels)
        assert images.stride() == other.stride()
        result += len(images)
    assert result == 23 - 4 * first
    whole = [torch.cat([x.clone() for x, _ in b.in_order(10)]) for b in (resident, streamed)]
    assert torch.equal(*whole)
    assert torch.equal(streamed.take(order[:3])[0], resident.take(order[:3])[0])


@given(st.integers(1, 200), st.integers(1, 32), st.integers(0, 100))
def test_chunks_are_the_batches_in_few_groups(num_images: int, size: int, most: int) -> None:
    bounds = batch_bounds(num_images, size)
    chunks = stream._chunks(bounds, most)
    assert [bound for chunk in chunks for bound in chunk] == bounds
    assert all(len(chunk) == 1 or chunk[-1][1] - chunk[0][0] <= most for chunk in chunks)
    for one, following in itertools.pairwise(chunks):  # no chunk could have taken one more batch
        assert following[0][1] - one[0][0] > most


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@channels
def test_cuda_streams_the_same_bits_and_waits_for_nothing(
    C: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "CHUNK_BYTES", 64 * C * 32 * 32)
    data = Dataset(some_images(3000, C, 32, 32), np.arange(3000) % 3, tuple("abc"))
    device = torch.device("cuda:0")
    streamed = to_device(data, device, channels_last=True, streamed=True)
    order, bounds = torch.randperm(3000), batch_bounds(3000, 16)
    result = torch.empty(3000, C, 32, 32, dtype=torch.uint8, device=device)
    busy = torch.rand(2000, 2000, device=device)
    busy @ busy  # what waits at its first use does so here
    torch.cuda.synchronize()
    with no_waiting():
        for (start, end), (images, _) in zip(bounds, streamed.in_turn(order, bounds), strict=True):
            busy @ busy  # the copies must not overtake what still needs their slot
            result[start:end].copy_(images)
    assert torch.equal(result.cpu(), torch.from_numpy(data.pixels)[order])


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
