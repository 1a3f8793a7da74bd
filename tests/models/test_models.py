"""Networks: shapes, sizes, initial weights, memory formats, and images that do not fit."""

import io
import math
import shutil
from typing import Any
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from option_records import BaselineConfig, MlpConfig, ResnetConfig, TorchvisionConfig
from tinylab import models
from tinylab.config.base_records import ModelConfig
from tinylab.errors import UserError
from tinylab.models import kernels, layers
from tinylab.models.layers import DenseOverMap

MNIST = (1, 28, 28)
FORMATS = [torch.contiguous_format, torch.channels_last]


def build(
    config: ModelConfig, shape: tuple[int, int, int], num_classes: int = 10, seed: int = 0
) -> Any:
    torch.manual_seed(seed)
    return models.build(config, shape, num_classes)


def images_of(shape: tuple[int, int, int], N: int = 3) -> Tensor:
    return torch.randn(N, *shape, generator=torch.Generator().manual_seed(1))


def in_format(module: Any, memory_format: torch.memory_format) -> Any:
    return module.to(memory_format=memory_format)


# ---------------------------------------------------------------- every model

SMALL: list[ModelConfig] = [
    BaselineConfig(filters=4, hidden=8),
    BaselineConfig(filters=4, hidden=8, kernel_size=2, init="glorot"),
    MlpConfig(hidden=8),
    MlpConfig(layers=0),
    ResnetConfig(width=4),
    ResnetConfig(width=4, depth=2, stages=1, dropout=0.5),
    ResnetConfig(width=4, stages=2, stem_stride=2, squeeze=3),
]
small_models = pytest.mark.parametrize("config", SMALL)


@small_models
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 28, 28), (3, 9, 14)])
@pytest.mark.parametrize("num_classes", [2, 10])
def test_logits_have_a_row_an_image_and_a_column_a_class(
    config: ModelConfig, shape: tuple[int, int, int], num_classes: int
) -> None:
    logits = build(config, shape, num_classes)(images_of(shape, N=5))
    assert (logits.shape, logits.dtype) == ((5, num_classes), torch.float32)


@small_models
def test_every_parameter_is_trained(config: ModelConfig) -> None:
    model = build(config, (3, 8, 8))
    model(images_of((3, 8, 8))).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


@small_models
def test_the_same_seed_gives_the_same_weights(config: ModelConfig) -> None:
    state, same, other = (build(config, MNIST, seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(state[name], same[name]) for name in state)
    assert not all(torch.equal(state[name], other[name]) for name in state)


@small_models
def test_both_memory_formats_are_the_same_function(config: ModelConfig) -> None:
    images = images_of((3, 8, 8))
    logits, gradients = [], []
    for memory_format in FORMATS:
        model = in_format(build(config, (3, 8, 8)).eval(), memory_format)
        logits.append(model(images.contiguous(memory_format=memory_format)))
        logits[-1].square().sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    torch.testing.assert_close(*logits)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


@small_models
def test_saved_weights_do_not_depend_on_the_memory_format(config: ModelConfig) -> None:
    saved = []
    for memory_format in FORMATS:
        file = io.BytesIO()
        torch.save(in_format(build(config, (3, 8, 8)), memory_format).state_dict(), file)
        file.seek(0)
        saved.append(torch.load(file, weights_only=True))
    assert saved[0].keys() == saved[1].keys()
    assert all(torch.equal(saved[0][name], saved[1][name]) for name in saved[0])


@pytest.mark.parametrize(
    "config", [BaselineConfig(dropout=0.5), MlpConfig(dropout=0.5), ResnetConfig(dropout=0.5)]
)
def test_dropout_acts_in_training_only(config: ModelConfig) -> None:
    model, images = build(config, (1, 8, 8)), images_of((1, 8, 8))
    assert not torch.equal(model(images), model(images))
    model.eval()
    assert torch.equal(model(images), model(images))


def test_frozen_parameters_count_but_not_as_trained() -> None:
    model = build(MlpConfig(layers=0), (1, 2, 2), 3)
    assert models.count_parameters(model) == 4 * 3 + 3
    next(model.parameters()).requires_grad_(False)
    assert (models.count_parameters(model), models.count_trained(model)) == (4 * 3 + 3, 3)


# ---------------------------------------------------------------- baseline


def test_the_baseline_on_mnist_has_607_thousand_parameters() -> None:
    convolution = 28 * 1 * 3 * 3 + 28
    hidden = (28 * 13 * 13) * 128 + 128  # 28 - 3 + 1 = 26, pooled to 13
    output = 128 * 10 + 10
    count = models.count_parameters(build(BaselineConfig(), MNIST))
    assert count == convolution + hidden + output == 607_394


def test_the_baseline_is_the_network_of_the_source_text() -> None:
    model = build(BaselineConfig(), MNIST).eval()
    reference = nn.Sequential(
        nn.Conv2d(1, 28, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(28 * 13 * 13, 128),
        nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, 10),
    ).eval()  # fmt: skip
    weights = dict(zip(reference.state_dict(), model.state_dict().values(), strict=True))
    weights["3.weight"] = weights["3.weight"].flatten(1)
    reference.load_state_dict(weights)
    torch.testing.assert_close(model(images_of(MNIST)), reference(images_of(MNIST)))


def test_its_dropout_drops_and_scales_the_hidden_layer() -> None:
    model, one = build(BaselineConfig(dropout=0.2), (1, 8, 8)), images_of((1, 8, 8), N=1)
    torch.manual_seed(0)
    mean = model(one.expand(5000, -1, -1, -1)).mean(0, keepdim=True)
    expected = model.eval()(one)
    torch.testing.assert_close(mean, expected, atol=0.01, rtol=0.0)


def glorot_bound(fan_in: int, fan_out: int) -> float:
    return math.sqrt(6 / (fan_in + fan_out))


def test_glorot_weights_fill_the_bounds_of_keras_and_biases_are_0() -> None:
    state = build(BaselineConfig(init="glorot"), MNIST).state_dict()
    bounds = {
        "conv": glorot_bound(3 * 3 * 1, 3 * 3 * 28),
        "hidden": glorot_bound(13 * 13 * 28, 128),
        "output": glorot_bound(128, 10),
    }
    for name, bound in bounds.items():
        assert 0.95 * bound < state[f"{name}.weight"].abs().max() <= bound
        assert not state[f"{name}.bias"].any()


def test_torch_weights_of_the_dense_layer_fill_the_bounds_of_linear() -> None:
    state = build(BaselineConfig(), MNIST).state_dict()
    bound = 1 / math.sqrt(28 * 13 * 13)
    for name in ("hidden.weight", "hidden.bias"):
        assert 0.95 * bound < state[name].abs().max() <= bound
    assert state["hidden.weight"].std() == pytest.approx(bound / math.sqrt(3), rel=0.01)


@pytest.mark.parametrize(("kernel_size", "most"), [(8, 7), (28, 7)])
def test_a_kernel_as_large_as_the_image_is_refused(kernel_size: int, most: int) -> None:
    with pytest.raises(UserError) as refusal:
        build(BaselineConfig(kernel_size=kernel_size), (1, 8, 9))
    assert str(refusal.value) == (
        f"model.kernel_size={kernel_size}: too large for images of 8x9 pixels; "
        f"expected at most {most}"
    )
    build(BaselineConfig(kernel_size=most), (1, 8, 9))(images_of((1, 8, 9)))


# ---------------------------------------------------------------- DenseOverMap

needs_onednn = pytest.mark.skipif(
    not kernels.has_onednn_linear(), reason="torch was built without oneDNN"
)
# Whatever processor runs the tests.
on_amd = mock.patch.object(layers, "PREFERS_ONEDNN", True)


@pytest.mark.parametrize("onednn", [False, pytest.param(True, marks=needs_onednn)])
@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))
def test_dense_over_map_is_flatten_and_linear(onednn: bool, N: int, C: int, H: int, W: int) -> None:
    layer, maps = DenseOverMap((C, H, W), 6), images_of((C, H, W), N)
    for memory_format in FORMATS:
        in_format(layer, memory_format)
        results = []
        for function in (
            layer,
            lambda m: F.linear(m.flatten(1), layer.weight.flatten(1), layer.bias),
        ):
            layer.zero_grad()
            inputs = maps.clone(memory_format=memory_format).requires_grad_()
            with mock.patch.object(layers, "PREFERS_ONEDNN", onednn):
                output = function(inputs)
            output.sin().sum().backward()
            assert layer.weight.grad is not None
            results.append([output, inputs.grad, layer.weight.grad, layer.bias.grad])
        torch.testing.assert_close(*results)


@needs_onednn
@on_amd
def test_a_dense_layer_by_onednn_has_equal_bits_for_any_number_of_threads() -> None:
    features, layer, before = torch.randn(32, 128), nn.Linear(128, 10), torch.get_num_threads()
    results = []
    for threads, by_onednn in ((1, False), (1, True), (2, True), (3, True)):
        torch.set_num_threads(threads)
        layer.zero_grad()
        output = layers.dense(features, layer, by_onednn)
        output.sin().sum().backward()
        results.append([output, *(each.grad.clone() for each in layer.parameters())])
    torch.set_num_threads(before)
    torchs, one, *others = results
    torch.testing.assert_close(torchs, one)
    for other in others:
        assert all(map(torch.equal, one, other))


@needs_onednn
@on_amd
def test_dense_over_map_takes_a_gradient_that_is_one_value_expanded() -> None:
    layer, maps = DenseOverMap((3, 4, 5), 6), images_of((3, 4, 5))
    layer(maps).sum().backward()
    torch.testing.assert_close(layer.weight.grad, maps.sum(0).expand(6, -1, -1, -1))


@needs_onednn
@on_amd
def test_dense_over_map_keeps_to_the_types_of_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert DenseOverMap((3, 4, 5), 6)(images_of((3, 4, 5))).dtype == torch.bfloat16


@pytest.mark.costly
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")  # of torch.compile's own parts
@needs_onednn
@on_amd
def test_dense_over_map_can_be_compiled() -> None:
    layer, maps = DenseOverMap((3, 4, 5), 6), images_of((3, 4, 5))
    gradients = []
    for function in (layer, torch.compile(layer)):
        layer.zero_grad()
        function(maps).square().sum().backward()
        gradients.append(layer.weight.grad.clone())
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(
    ("training", "owner", "name"),
    [
        pytest.param(True, layers.Products, "apply", marks=needs_onednn),
        (False, F, "linear"),
    ],
)
@on_amd
def test_dense_over_map_copies_no_map_in_channels_last(
    monkeypatch: pytest.MonkeyPatch, training: bool, owner: Any, name: str
) -> None:
    seen: list[int] = []
    product = getattr(owner, name)

    def spy(*tensors: Tensor) -> Tensor:
        seen.extend(tensor.data_ptr() for tensor in tensors)
        return product(*tensors)

    monkeypatch.setattr(owner, name, spy)
    layer = in_format(DenseOverMap((3, 4, 5), 6), torch.channels_last).train(training)
    maps = images_of((3, 4, 5)).contiguous(memory_format=torch.channels_last)
    layer(maps)
    assert seen == [tensor.data_ptr() for tensor in (maps, layer.weight, layer.bias)]


# ---------------------------------------------------------------- resnet


def test_stages_grow_as_asked() -> None:
    model = build(ResnetConfig(width=5, stages=3, growth=1.5), (1, 16, 16))
    assert [block.bn2.num_features for block in model.blocks] == [5, 8, 11]


@pytest.mark.parametrize("stages", [1, 2, 3, 4])
def test_each_stage_doubles_the_channels_and_halves_the_image(stages: int) -> None:
    model = build(ResnetConfig(width=4, depth=2, stages=stages), (3, 32, 32))
    maps = model.blocks(model.stem(images_of((3, 32, 32))))
    assert maps.shape == (
        3,
        4 * 2 ** (stages - 1),
        32 // 2 ** (stages - 1),
        32 // 2 ** (stages - 1),
    )
    assert len(model.blocks) == 2 * stages


@pytest.mark.parametrize(("side", "most"), [(8, 4), (7, 3), (1, 1)])
@pytest.mark.parametrize("stem_stride", [1, 2])
def test_more_stages_than_the_image_can_be_halved_are_refused(
    side: int, most: int, stem_stride: int
) -> None:
    most -= stem_stride - 1
    with pytest.raises(UserError) as refusal:
        build(ResnetConfig(stages=most + 1, stem_stride=stem_stride), (1, side, 20))
    assert str(refusal.value).startswith(f"model.stages={most + 1}: ")
    assert f"{side}x20 pixels with model.stem_stride={stem_stride} allow {most} st" in str(
        refusal.value
    )
    if most > 0:
        fitting = ResnetConfig(width=2, stages=most, stem_stride=stem_stride)
        build(fitting, (1, side, 20))(images_of((1, side, 20)))


def test_a_stem_with_a_stride_halves_the_image_at_once() -> None:
    model = build(ResnetConfig(width=4, stages=2, stem_stride=2), (3, 32, 32))
    maps = model.stem(images_of((3, 32, 32)))
    assert maps.shape == (3, 4, 16, 16)
    assert model.blocks(maps).shape == (3, 8, 8, 8)


def test_squeeze_and_excitation_scales_each_channel_by_a_factor_from_the_means() -> None:
    model = build(ResnetConfig(width=12, stages=1, squeeze=4), (1, 8, 8))
    squeeze = model.blocks[0].squeeze
    assert squeeze.down.weight.shape == (3, 12)
    maps = images_of((12, 8, 8))
    hidden = (maps.mean((2, 3)) @ squeeze.down.weight.T + squeeze.down.bias).clamp(min=0)
    fraction = 1 / (1 + (-(hidden @ squeeze.up.weight.T + squeeze.up.bias)).exp())
    torch.testing.assert_close(squeeze(maps), torch.einsum("nchw,nc->nchw", maps, fraction))
    out = model.blocks[0](maps)
    nn.init.constant_(squeeze.up.bias, -1e9)  # a factor of 0 leaves the shortcut
    torch.testing.assert_close(model.blocks[0](maps), maps.clamp(min=0))
    assert not torch.equal(out, maps.clamp(min=0))


def test_squeezing_more_than_there_are_channels_keeps_one_hidden_unit() -> None:
    model = build(ResnetConfig(width=4, stages=1, squeeze=100), (1, 8, 8))
    assert model.blocks[0].squeeze.down.weight.shape == (1, 4)


def test_a_block_without_its_convolutions_is_its_shortcut() -> None:
    model = build(ResnetConfig(width=4, stages=1), (1, 8, 8)).eval()
    nn.init.zeros_(model.blocks[0].conv2.weight)
    maps = model.stem(images_of((1, 8, 8)))
    torch.testing.assert_close(model.blocks[0](maps), maps)


def test_convolutions_start_as_he_proposed() -> None:
    model = build(ResnetConfig(width=64, stages=2), (1, 8, 8))
    weight = model.blocks[1].conv2.weight.detach()  # fan-out: 9 positions of 128 channels
    assert weight.std() == pytest.approx(math.sqrt(2 / (9 * 128)), rel=0.02)


# ---------------------------------------------------------------- torchvision


@pytest.mark.costly
@pytest.mark.parametrize(
    ("arch", "shape"),
    [("resnet18", (1, 32, 32)), ("googlenet", (1, 32, 32)), ("squeezenet1_1", (3, 32, 32))],
)
def test_a_network_of_torchvision_fits_the_data(arch: str, shape: tuple[int, int, int]) -> None:
    model = build(TorchvisionConfig(arch=arch), shape, 7)
    assert model.training
    logits = model(images_of(shape))
    assert logits.shape == (3, 7)
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.costly
def test_kernels_for_one_channel_answer_as_those_for_its_color_copy() -> None:
    gray = images_of((1, 32, 32))
    networks = [build(TorchvisionConfig(), (C, 32, 32)) for C in (1, 3)]
    answers = [
        net.conv1(gray.expand(-1, C, -1, -1)) for net, C in zip(networks, (1, 3), strict=True)
    ]
    torch.testing.assert_close(*answers, rtol=1e-3, atol=1e-5)


@pytest.mark.costly
@pytest.mark.parametrize(
    ("arch", "shape"),
    [("alexnet", (3, 8, 8)), ("densenet121", (1, 8, 8)), ("vit_b_16", (3, 32, 32))],
)
def test_a_network_that_does_not_take_the_images_is_refused(
    arch: str, shape: tuple[int, int, int]
) -> None:
    with pytest.raises(UserError) as refusal:
        build(TorchvisionConfig(arch=arch), shape)
    size = "x".join(map(str, shape))
    assert str(refusal.value).startswith(f"model.arch={arch}: does not take images of {size}: ")
    assert "dataset.image_size" in str(refusal.value)


@pytest.mark.costly
def test_an_unknown_network_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UserError) as refusal:
        build(TorchvisionConfig(arch="resnet81"), MNIST)
    assert str(refusal.value).startswith("model.arch=resnet81: expected a classifier")
    assert "did you mean 'resnet18'?" in str(refusal.value)


@pytest.mark.costly
def test_a_detector_is_no_classifier() -> None:
    with pytest.raises(UserError, match=r"model\.arch=fasterrcnn_resnet50_fpn: expected"):
        build(TorchvisionConfig(arch="fasterrcnn_resnet50_fpn"), MNIST)


@pytest.mark.costly
def test_weights_that_are_not_there_are_refused() -> None:
    with pytest.raises(UserError, match=r"model\.weights=NONSENSE: not available for resnet18"):
        build(TorchvisionConfig(weights="NONSENSE"), MNIST)


def test_multiply_adds_are_those_counted_by_hand() -> None:
    baseline = models.build(BaselineConfig(filters=4, hidden=8), (1, 8, 8), 10)
    by_hand = 4 * 9 * 6 * 6 + 8 * 4 * 3 * 3 + 10 * 8
    before = torch.get_rng_state()
    assert models.multiply_adds(baseline, (1, 8, 8)) == by_hand
    assert baseline.training
    assert torch.equal(torch.get_rng_state(), before)
    mlp = models.build(MlpConfig(hidden=16, layers=1), (3, 8, 8), 10)
    assert models.multiply_adds(mlp, (3, 8, 8)) == 3 * 64 * 16 + 16 * 10
    resnet = models.build(ResnetConfig(), (1, 16, 16), 10)
    state = {name: value.clone() for name, value in resnet.state_dict().items()}
    assert models.multiply_adds(resnet, (1, 16, 16)) > 10**6
    assert all(torch.equal(value, state[name]) for name, value in resnet.state_dict().items())
