"""Convolution and pooling in one pass beside torch's two layers."""

import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from option_records import BaselineConfig
from tinylab import models
from tinylab.models import conv_pool
from tinylab.models.conv_pool import PooledConv2d

pytestmark = pytest.mark.costly  # compiling takes seconds
MNIST = (1, 28, 28)


@pytest.fixture(scope="module", autouse=True)
def _own_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def one_pass(filters: int = 5) -> PooledConv2d:
    layer = PooledConv2d(1, filters, 3)
    layer.in_one_pass, layer.parts = True, 2
    return layer


def both(layer: PooledConv2d, images: Tensor, threads: int = 1) -> list[list[Tensor]]:
    """Output and gradients in one pass, and by torch's layers."""
    torch.set_num_threads(threads)
    results = []
    for layer.in_one_pass in (True, False):
        layer.zero_grad()
        output = layer.pooled(images)
        output.backward(torch.linspace(-1, 1, output.numel()).reshape(output.shape))
        gradients = [parameter.grad for parameter in layer.parameters()]
        results.append([output.detach(), *(each for each in gradients if each is not None)])
    assert len(results[0]) == 3
    return results


@settings(max_examples=20)
@given(
    st.integers(1, 9), st.integers(4, 12), st.integers(4, 12), st.integers(1, 40),
    st.integers(1, 3), st.integers(0, 99), st.booleans(),
)  # fmt: skip
def test_it_is_torchs_convolution_and_pooling(
    N: int, height: int, width: int, filters: int, threads: int, seed: int, channels_last: bool
) -> None:
    torch.manual_seed(seed)
    images = torch.randn(N, 1, height, width)
    layer = one_pass(filters)
    if channels_last:
        images = images.to(memory_format=torch.channels_last)
        layer.to(memory_format=torch.channels_last)
    for ours, torchs in zip(*both(layer, images, threads), strict=True):
        assert ours.shape == torchs.shape
        torch.testing.assert_close(ours, torchs, rtol=1e-4, atol=1e-4)


def test_of_equal_positions_the_first_gets_the_gradient() -> None:
    layer = one_pass()
    layer.weight.data.zero_()
    images = torch.randn(3, 1, 8, 8)
    for ours, torchs in zip(*both(layer, images), strict=True):
        torch.testing.assert_close(ours, torchs)


def test_a_weight_that_is_no_number_is_seen_in_the_output() -> None:
    layer = one_pass()
    layer.weight.data[2] = torch.nan
    output = layer.pooled(torch.randn(3, 1, 8, 8))
    assert output[:, 2].isnan().all()
    assert output[:, [0, 1, 3, 4]].isfinite().all()


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_the_bits_depend_on_the_parts_of_a_batch_and_not_on_the_threads(parts: int) -> None:
    layer, images = one_pass(), torch.randn(7, 1, 10, 10)
    layer.parts = parts
    first, *others = (both(layer, images, threads)[0] for threads in (1, 2, 3, 2, 1))
    for other in others:
        assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_without_torchs_openmp_the_parts_follow_one_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layer, images = one_pass(), torch.randn(7, 1, 10, 10)
    shared = both(layer, images, threads=2)[0]
    monkeypatch.setattr("tinylab.models.one_pass._openmp", lambda: None)
    alone = both(layer, images, threads=2)[0]
    assert all(torch.equal(a, b) for a, b in zip(shared, alone, strict=True))


@pytest.mark.skipif(sys.platform != "linux", reason="torch's OpenMP is called on Linux alone")
def test_torchs_own_threads_share_the_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    shared: list[bool] = []
    share = conv_pool.compiled()._share

    def noted(*arguments: Any) -> bool:
        shared.append(share(*arguments))
        return shared[-1]

    monkeypatch.setattr("tinylab.models.one_pass._share", noted)
    both(one_pass(), torch.randn(7, 1, 10, 10), threads=2)
    assert shared == [True, True]


def test_the_parts_of_a_batch_are_as_many_as_threads_when_the_kernel_is_chosen() -> None:
    torch.set_num_threads(3)
    network = baseline()
    models.choose_kernels(network, MNIST, 10**9)
    assert [each.parts for each in network.modules() if isinstance(each, PooledConv2d)] == [3]


def by_torch(layer: PooledConv2d, images: Tensor) -> bool:
    """Whether torch's own layers ran: theirs is the graph's last node."""
    output = layer.pooled(images)
    return output.grad_fn is None or "OnePass" not in type(output.grad_fn).__name__


def test_it_is_for_training_on_a_cpu_in_float32_alone() -> None:
    layer, images = one_pass(), torch.randn(2, 1, 8, 8)
    assert not by_torch(layer, images)
    assert by_torch(layer, images.clone().requires_grad_())
    with torch.autocast("cpu", torch.bfloat16):
        assert by_torch(layer, images)
    assert by_torch(layer.double(), images.double())
    layer.float().eval()
    assert by_torch(layer, images)
    assert torch.equal(layer.pooled(images), F.max_pool2d(layer(images), 2))


def baseline(**keys: int) -> nn.Module:
    return models.build(BaselineConfig(**keys), MNIST, 10)


def test_it_is_chosen_where_training_repays_compiling() -> None:
    work = 26 * 26 * 28 * 9
    enough = models.WORTH_COMPILING // work + 1
    assert models.choose_kernels(baseline(), MNIST, enough - 1) == {}
    network = baseline()
    assert "numba" in models.choose_kernels(network, MNIST, enough)
    assert [layer.in_one_pass for layer in network.modules() if hasattr(layer, "in_one_pass")]
    assert models.choose_kernels(baseline(kernel_size=5), MNIST, 10**9) == {}
    colored = models.build(BaselineConfig(), (3, 28, 28), 10)
    assert models.choose_kernels(colored, (3, 28, 28), 10**9) == {}


def test_without_numba_torchs_layers_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert models.choose_kernels(baseline(), MNIST, 10**9) == {}


def test_the_state_is_that_of_an_ordinary_convolution() -> None:
    torch.manual_seed(0)
    ordinary = nn.Conv2d(1, 5, 3)
    torch.manual_seed(0)
    layer = PooledConv2d(1, 5, 3)
    assert torch.equal(layer.weight, ordinary.weight)
    assert layer.state_dict().keys() == ordinary.state_dict().keys()
