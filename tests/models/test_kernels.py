"""torch's private kernels: each is there, and where it is not, training goes on without it."""

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch
import torch.nn.functional as F

import tinylab
from option_records import AdamConfig, AdamwConfig, MlpConfig, MuonConfig, SgdConfig
from tinylab.models import kernels, layers
from tinylab.models.layers import DenseOverMap
from training_kit import Lab

FOREACH = ["add_", "copy_", "lerp", "lerp_", "mul_", "sub"]
PRIVATE = ["_fused_adam_", "_fused_adamw_", "_fused_sgd_", *(f"_foreach_{n}" for n in FOREACH)]


@pytest.mark.parametrize("name", PRIVATE)
def test_this_torch_has_the_kernel(name: str) -> None:
    assert hasattr(torch, name)


def test_this_torch_has_the_product_of_onednn() -> None:
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        pytest.skip("torch was built without oneDNN")
    assert hasattr(torch.ops.mkldnn, "_linear_pointwise")


def test_no_other_module_calls_a_private_kernel_and_the_list_above_has_all_of_them() -> None:
    sources = {path: path.read_text() for path in Path(tinylab.__file__).parent.rglob("*.py")}
    private = re.compile(r"\btorch\.(?:ops\.\w+\.)?_[a-z]\w+")
    assert [path.name for path, text in sources.items() if private.search(text)] == ["kernels.py"]
    whole = "\n".join(sources.values())
    assert set(re.findall(r'foreach\(\s*"(\w+)"', whole)) == set(FOREACH)
    assert set(re.findall(r'"(_fused_\w+)"', whole)) == {n for n in PRIVATE if "fused" in n}


class OtherTorch:
    """A torch that has none of them (but inside itself, where its own functions need them)."""

    ops = SimpleNamespace(mkldnn=SimpleNamespace())

    def __getattr__(self, name: str) -> Any:
        if name in PRIVATE:
            raise AttributeError(name)
        return getattr(torch, name)


@pytest.fixture
def without_kernels(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it, and the kernels are gone."""

    def remove() -> None:
        monkeypatch.setattr(kernels, "torch", OtherTorch())
        assert not kernels.has_onednn_linear()

    return remove


OPTIMIZERS = {
    "adam": AdamConfig(lr=0.01, weight_decay=0.1, beta1=0.5, eps=1e-4, schedule="cosine"),
    "adamw": AdamwConfig(lr=0.01, weight_decay=0.1),
    "sgd": SgdConfig(lr=0.05, weight_decay=0.01, schedule="onecycle"),
    "sgd without nesterov": SgdConfig(lr=0.05, nesterov=False),
    "sgd without momentum": SgdConfig(lr=0.1, momentum=0.0, nesterov=False, weight_decay=0.01),
    "muon": MuonConfig(lr=0.01, weight_decay=0.1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_without_the_kernels_training_is_the_same_but_for_rounding(
    name: str, tmp_path: Path, without_kernels: Callable[[], None]
) -> None:
    lab = Lab(
        optim=OPTIMIZERS[name],
        train={"ema": 0.9, "weights": "last", "epochs": 2},
        model=MlpConfig(hidden=8),
    )
    expected = lab.run(tmp_path / "with").state_dict()
    without_kernels()
    result = lab.run(tmp_path / "without").state_dict()
    for part in ("model", "averaged"):
        for key, value in result[part].items():
            torch.testing.assert_close(value, expected[part][key], rtol=1e-4, atol=2e-5)
    _assert_close(result["optimizer"], expected["optimizer"])
    assert not torch.equal(result["model"]["1.weight"], lab.build().state_dict()["1.weight"])


def _assert_close(result: Any, expected: Any) -> None:
    if isinstance(result, dict):
        for key in result:
            _assert_close(result[key], expected[key])
    else:
        torch.testing.assert_close(result, expected, rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("name", ["copy_", "lerp", "lerp_", "mul_", "sub", "add_"])
def test_a_method_of_many_tensors_is_that_of_each(
    name: str, without_kernels: Callable[[], None]
) -> None:
    def results() -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(0)
        tensors, others = ([torch.rand(n, generator=generator) for n in (2, 3)] for _ in range(2))
        operands = {"lerp": (others, 0.3), "lerp_": (others, 0.3), "mul_": (torch.tensor(3.0),)}
        made = kernels.foreach(name, tensors, *operands.get(name, (others,)))
        return [*tensors, *(made if not name.endswith("_") else [])]

    expected = results()
    without_kernels()
    torch.testing.assert_close(results(), expected)


def test_without_the_product_of_onednn_a_dense_layer_is_the_same_but_for_rounding(
    without_kernels: Callable[[], None],
) -> None:
    layer, maps = DenseOverMap((3, 4, 5), 6), torch.rand(2, 3, 4, 5)
    without_kernels()
    with mock.patch.object(layers, "PREFERS_ONEDNN", True):
        output = layer(maps)
    output.sin().sum().backward()
    result, layer.weight.grad = layer.weight.grad, None
    expected = F.linear(maps.flatten(1), layer.weight.flatten(1), layer.bias)
    expected.sin().sum().backward()
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(result, layer.weight.grad)
