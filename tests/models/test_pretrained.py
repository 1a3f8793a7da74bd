"""Weights from files: what is loaded, what is kept, what is refused; and what a freeze freezes."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from option_records import BaselineConfig, MlpConfig, ResnetConfig, TimmConfig, TorchvisionConfig
from tinylab import models
from tinylab.config.base_records import ModelConfig
from tinylab.errors import UserError
from tinylab.models import pretrained

RGB, GRAY = (3, 8, 8), (1, 8, 8)


def network(num_classes: int = 5, channels: int = 3, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3),
        nn.BatchNorm2d(4),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(4 * 36, num_classes),
    )


def resnet(
    seed: int, shape: tuple[int, int, int] = RGB, classes: int = 5, **keys: Any
) -> nn.Module:
    torch.manual_seed(seed)
    return models.build(ResnetConfig(width=4, stages=2, **keys), shape, classes)


def are_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def said_of(action: Callable[[], Any]) -> str:
    with pytest.raises(UserError) as refusal:
        action()
    return str(refusal.value)


# ---------------------------------------------------------------- loading


WRAPPINGS: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "a plain state_dict": lambda state: state,
    "tinylab's export": lambda state: {"state_dict": state, "metadata": {"classes": ["a"]}},
    "tinylab's checkpoint": lambda state: {"format": "tinylab checkpoint", "model": state},
    "of DataParallel": lambda state: {f"module.{name}": value for name, value in state.items()},
}


@pytest.mark.parametrize("wrap", WRAPPINGS.values(), ids=WRAPPINGS.keys())
def test_all_weights_of_a_file_are_loaded(wrap: Callable[[Any], Any], tmp_path: Path) -> None:
    source = resnet(1)
    torch.save(wrap(source.state_dict()), tmp_path / "net.pt")
    loaded = resnet(2, weights=str(tmp_path / "net.pt"))
    assert are_equal(loaded.state_dict(), source.state_dict())
    assert not are_equal(resnet(2).state_dict(), source.state_dict())


def test_another_number_of_classes_leaves_the_head_at_its_initialization(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, fresh = resnet(1, classes=7), resnet(2)
    torch.save(source.state_dict(), tmp_path / "net.pt")
    loaded = resnet(2, weights=str(tmp_path / "net.pt")).state_dict()
    name, _ = pretrained.head(fresh)
    for key, value in loaded.items():
        origin = fresh if key.startswith(f"{name}.") else source
        assert torch.equal(value, origin.state_dict()[key]), key
    said = capsys.readouterr().out
    assert f"{name} keeps its initialization: {name}.weight is 7x8 in the file, 5x8 here" in said


def test_a_head_of_as_many_classes_is_loaded_too(capsys: pytest.CaptureFixture[str]) -> None:
    loaded = network(seed=2)
    pretrained.load(loaded, network(seed=1).state_dict(), "net.pt")
    assert are_equal(loaded.state_dict(), network(seed=1).state_dict())
    assert capsys.readouterr().out == "weights net.pt: 9 of 9 tensors\n"


@pytest.mark.parametrize(("there", "here"), [(3, 1), (1, 3)])
def test_kernels_are_fitted_so_that_gray_images_get_the_response_of_their_color_copies(
    there: int, here: int
) -> None:
    source, loaded = network(channels=there), network(channels=here, seed=1)
    pretrained.load(loaded, source.state_dict(), "net.pt")
    gray = torch.rand(2, 1, 8, 8)
    answers = [
        net.eval()(gray.expand(-1, C, -1, -1)) for net, C in ((source, there), (loaded, here))
    ]
    torch.testing.assert_close(*answers)


def without(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if key != name}


def test_what_does_not_fit_is_refused_by_its_name() -> None:
    def load(state: dict[str, Tensor]) -> str:
        return said_of(lambda: pretrained.load(network(), state, "net.pt"))

    state = network().state_dict()
    assert "0.bias is missing in the file, 4 here" in load(without(state, "0.bias"))
    assert "1.weight is 6 in the file, 4 here" in load({**state, "1.weight": torch.ones(6)})
    assert "has no 7.weight" in load({**state, "7.weight": torch.ones(6)})
    assert "0.weight is missing" in load({"a": torch.ones(3)})
    for said in (load(without(state, "0.bias")), load({**state, "7.weight": torch.ones(6)})):
        assert said.startswith("model.weights=net.pt: does not fit this network")
        assert len(said.splitlines()) == 2


def test_a_refused_file_changes_nothing() -> None:
    model = network(seed=3)
    said_of(lambda: pretrained.load(model, without(network().state_dict(), "1.bias"), "net.pt"))
    assert are_equal(model.state_dict(), network(seed=3).state_dict())


def test_auxiliary_outputs_and_missing_counters_do_not_matter() -> None:
    state = without(network(seed=1).state_dict(), "1.num_batches_tracked")
    loaded = network()
    pretrained.load(loaded, {**state, "AuxLogits.fc.weight": torch.ones(2)}, "net.pt")
    assert torch.equal(loaded[0].weight, network(seed=1)[0].weight)


class Evil:
    def __reduce__(self) -> Any:
        return print, ("executed",)


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "absent": (lambda path: None, "No such file"),
    "text": (lambda path: path.write_text("weights"), "cannot be read"),
    "empty": (lambda path: path.write_bytes(b""), "cannot be read"),
    "code": (lambda path: torch.save({"a": Evil()}, path), "cannot be read"),
    "a list": (lambda path: torch.save([torch.ones(2)], path), "no state_dict in it"),
    "no tensors": (lambda path: torch.save({"a": 1}, path), "no state_dict in it"),
    "nothing": (lambda path: torch.save({}, path), "no state_dict in it"),
}


@pytest.mark.parametrize(("write", "words"), BROKEN.values(), ids=BROKEN.keys())
def test_a_file_without_weights_is_refused(
    write: Callable[[Path], object], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "net.pt"
    write(path)
    said = said_of(lambda: resnet(0, weights=str(path)))
    assert said.startswith(f"model.weights={path}: ")
    assert words in said
    assert len(said.splitlines()) <= 2
    assert "executed" not in capsys.readouterr().out


# ---------------------------------------------------------------- freezing


CONFIGS: list[ModelConfig] = [
    BaselineConfig(filters=4, hidden=8), MlpConfig(hidden=8), ResnetConfig(width=4, stages=2),
]  # fmt: skip


def frozen(model: nn.Module) -> set[str]:
    return {name for name, each in model.named_parameters() if not each.requires_grad}


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_the_backbone_is_all_but_the_output_layer(config: ModelConfig) -> None:
    config = type(config)(**{**vars(config), "freeze": "backbone"})
    model = models.build(config, GRAY, 5)
    kept = dict(model.named_parameters()).keys() - frozen(model)
    assert {name.rpartition(".")[2] for name in kept} == {"weight", "bias"}
    assert all(model.get_parameter(name).shape[0] == 5 for name in kept)
    assert models.count_trained(model) == sum(model.get_parameter(n).numel() for n in kept)


NAMES = [name for name, _ in network().named_parameters()]


@given(st.lists(st.sampled_from([*NAMES, "0", "1", "4", r"\d+\.bias"]), min_size=1))
def test_a_pattern_freezes_exactly_the_names_that_begin_with_a_match(parts: list[str]) -> None:
    pattern, model = "|".join(parts), network()
    expected = {name for name in NAMES if re.match(pattern, name)}
    if len(expected) == len(NAMES):
        assert "leaves no parameters to train" in said_of(lambda: pretrained.freeze(model, pattern))
        return
    pretrained.freeze(model, pattern)
    assert frozen(model) == expected


def test_nothing_is_frozen_by_default() -> None:
    assert frozen(resnet(0)) == set()


def test_a_pattern_that_matches_nothing_is_refused_with_the_nearest_name() -> None:
    said = said_of(lambda: resnet(0, freeze="blcks"))
    assert "model.freeze=blcks: matches no parameters (did you mean 'blocks'?)" in said
    assert said.splitlines()[1].startswith("  expected the start of parameter names: ")
    one_layer = MlpConfig(layers=0, freeze="backbone")
    assert "matches no parameters" in said_of(lambda: models.build(one_layer, GRAY, 5))


def test_frozen_norms_keep_their_statistics_and_others_do_not() -> None:
    model = nn.Sequential(
        nn.BatchNorm2d(3, affine=False), network(), nn.BatchNorm1d(5, affine=False)
    )
    model.insert(2, nn.BatchNorm1d(5))
    pretrained.freeze(model, r"1\.[01]")
    model.train()
    pretrained.hold_statistics(model)
    modes = {
        name: each.training for name, each in model.named_modules() if "Norm" in str(type(each))
    }
    assert modes == {"0": False, "1.1": False, "2": True, "3": True}
    assert model[1][3].training, "dropout goes on"


# ---------------------------------------------------------------- torchvision


@pytest.mark.costly
@pytest.mark.parametrize(
    ("arch", "C", "side"),
    [
        ("resnet18", 1, 32), ("resnet18", 3, 32), ("squeezenet1_1", 1, 32), ("googlenet", 3, 32),
        ("inception_v3", 1, 75), ("densenet121", 3, 32),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:.*initialization")
def test_a_file_of_torchvision_gives_all_but_the_head(
    arch: str, C: int, side: int, tmp_path: Path
) -> None:
    from torchvision import models as theirs

    state = theirs.get_model(arch, weights=None, num_classes=20).state_dict()
    older = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12]\.)", r"\1.\2", name): value
             for name, value in state.items()}  # fmt: skip
    torch.save(older, tmp_path / "net.pth")
    config = TorchvisionConfig(arch=arch, weights=str(tmp_path / "net.pth"))
    model = models.build(config, (C, side, side), 7)
    head, _ = pretrained.head(model)
    result = model.state_dict()
    equal = [name for name in result if torch.equal(result[name], state[name])]
    others = {name for name in result if name not in equal}
    assert {name for name in others if name.startswith(f"{head}.")} == {
        f"{head}.weight", f"{head}.bias",
    }  # fmt: skip
    assert len(others) == 2 + (C == 1), others
    logits = model(torch.rand(3, C, side, side))
    assert logits.shape == (3, 7)
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.fixture
def hub(costly: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch.hub's folder, with a file under the name of resnet18's published weights."""
    from torchvision import models as theirs

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(theirs.resnet18().state_dict(), folder / "resnet18-f37072fd.pth")
    return folder


def test_published_weights_come_from_the_folder_of_torch_hub(hub: Path) -> None:
    state = torch.load(hub / "resnet18-f37072fd.pth")
    named = [TorchvisionConfig(weights=name) for name in ("DEFAULT", "IMAGENET1K_V1")]
    for config in named:
        model = models.build(config, (3, 32, 32), 7)
        assert torch.equal(
            model.get_parameter("layer1.0.conv1.weight"), state["layer1.0.conv1.weight"]
        )
        assert model.get_parameter("fc.weight").shape == (7, 512)


def test_each_network_has_the_statistics_that_its_weights_expect(costly: None) -> None:
    half, imagenet = ((0.5,) * 3, (0.5,) * 3), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    expected = {"resnet18": imagenet, "efficientnet_v2_l": half, "inception_v3": half}
    for arch, result in expected.items():
        for weights in ("DEFAULT", "net.pth"):
            assert models.statistics(TorchvisionConfig(arch=arch, weights=weights)) == result
    assert models.statistics(TorchvisionConfig(arch="efficientnet_v2_l")) == imagenet
    assert models.statistics(ResnetConfig()) == imagenet


# ---------------------------------------------------------------- timm


@pytest.fixture
def timm(costly: None) -> Any:
    return pytest.importorskip("timm", reason="timm is not installed: pip install 'tinylab[timm]'")


@pytest.mark.parametrize("arch", ["resnet18", "vit_tiny_patch16_224", "mobilenetv3_small_050"])
def test_a_network_of_timm_fits_the_data(timm: Any, arch: str) -> None:
    model = models.build(TimmConfig(arch=arch), (1, 32, 32), 7)
    assert model.training
    assert model(torch.rand(3, 1, 32, 32)).shape == (3, 7)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_local_file_of_timm_gives_all_but_the_head(
    timm: Any, suffix: str, tmp_path: Path
) -> None:
    state = timm.create_model("resnet18", num_classes=20).state_dict()
    path = tmp_path / f"net.{suffix}"
    if suffix == "pth":
        torch.save(state, path)
    else:
        from safetensors.torch import save_file

        save_file(state, path)
    config = TimmConfig(weights=str(path), freeze="backbone")
    model = models.build(config, (3, 32, 32), 7)
    result = model.state_dict()
    assert {name for name in result if not torch.equal(result[name], state[name])} == {
        "fc.weight", "fc.bias",
    }  # fmt: skip
    assert models.count_trained(model) == 512 * 7 + 7


def test_what_timm_does_not_know_is_refused(timm: Any) -> None:
    said = said_of(lambda: models.build(TimmConfig(arch="resnet81"), RGB, 7))
    assert "did you mean 'resnet18'?" in said
    said = said_of(lambda: models.build(TimmConfig(weights="a9_in1k"), RGB, 7))
    assert "model.weights=a9_in1k: not available for resnet18" in said
    assert "a1_in1k" in said


def test_without_timm_its_installation_is_named() -> None:
    try:
        import timm  # noqa: F401
    except ImportError:
        said = said_of(lambda: models.build(TimmConfig(), RGB, 7))
        assert said.startswith("model=timm: timm cannot be imported")
        assert said.endswith("pip install 'tinylab[timm]'")
