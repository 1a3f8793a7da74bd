"""Fine-tuning from the command line: from an export, from torchvision's files, and what is said."""

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tinylab import cli
from tinylab.config import weights
from tinylab.config.compose import compose_plain
from tinylab.config.identity import run_id
from tinylab.config.schema import Config
from tinylab.inference import load, the_run
from tinylab.store.folder import RunFolder
from tinylab.store.result import Result

pytestmark = pytest.mark.costly

TRAIN = ["train", "train.epochs=1", "train.batch_size=128", "threads=1", "device=cpu"]
SMALL = ["model=resnet", "model.width=4", "model.stages=2"]


def runs_in(outputs: Path) -> list[Path]:
    return [path.parent for path in outputs.glob("runs/*/config.yaml")]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small trained network in a file, and torchvision's mobilenet, untrained."""
    from torchvision import models

    folder = tmp_path_factory.mktemp("fine")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert cli.run([*TRAIN, *SMALL, "outputs=first"]) == 0
        [run] = runs_in(folder / "first")
        assert cli.run(["export", str(run), "--to", "state_dict", "--out", "net.pt"]) == 0
    torch.manual_seed(0)
    torch.save(models.mobilenet_v3_small().state_dict(), folder / "mobilenet.pth")
    return folder


@pytest.fixture(autouse=True)
def _there(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)


def trained(outputs: str, *overrides: str) -> tuple[RunFolder, Result]:
    """A run in its own outputs."""
    assert cli.run([*TRAIN, f"outputs={outputs}", *overrides]) == 0
    [path] = runs_in(Path(outputs))
    result = RunFolder(path).result()
    assert result is not None
    return RunFolder(path), result


def weights_of(files: RunFolder) -> dict[str, torch.Tensor]:
    loaded: dict[str, torch.Tensor] = torch.load(files.best_checkpoint, weights_only=True)["model"]
    return loaded


def test_an_export_is_fine_tuned_and_its_frozen_part_stays_to_the_bit(
    capsys: pytest.CaptureFixture[str],
) -> None:
    files, result = trained("own", *SMALL, "model.weights=net.pt", "model.freeze=backbone")
    said = capsys.readouterr().out
    exported = torch.load("net.pt", weights_only=True)["state_dict"]
    differing = {n for n, value in weights_of(files).items() if not torch.equal(value, exported[n])}
    assert {name.rpartition(".")[2] for name in differing} == {"weight", "bias"}
    assert len({name.rpartition(".")[0] for name in differing}) == 1
    assert f"weights net.pt: {len(exported)} of {len(exported)} tensors" in said
    trained_values = sum(exported[name].numel() for name in differing)
    assert result.num_trained_parameters == trained_values < result.num_parameters
    assert f"{result.num_parameters:,} parameters, {trained_values:,} of them trainable" in said
    assert result.config["dataset"]["normalize"] == "weights"


def test_a_run_without_it_says_and_records_nothing_of_it(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [path] = runs_in(workplace / "first")
    values = json.loads((path / "result.json").read_text())
    assert "num_trained_parameters" not in values
    log = (path / "train.log").read_text()
    assert "of them trainable" not in log
    assert "normalize" not in log


def test_gray_images_reach_pretrained_weights_as_their_color_copies(
    capsys: pytest.CaptureFixture[str],
) -> None:
    keys = [
        "model=torchvision", "model.arch=mobilenet_v3_small", "model.weights=mobilenet.pth",
        "model.freeze=backbone", "dataset.image_size=32",
    ]  # fmt: skip
    files, result = trained("gray", *keys)
    said = capsys.readouterr().out
    assert "dataset.normalize=imagenet: as the pretrained weights expect it; gray images as" in said
    assert "classifier.3 keeps its initialization: classifier.3.weight is 1000x1024" in " ".join(
        said.split()
    )
    assert "in the file, 10x1024 here" in said
    assert result.config["dataset"]["normalize"] == "imagenet"
    state = torch.load("mobilenet.pth")
    for name, value in weights_of(files).items():
        assert torch.equal(value, state[name]) == (not name.startswith("classifier.3.")), name
    network = load(the_run(files.path), torch.device("cpu"))
    images = np.random.default_rng(0).integers(0, 256, (3, 1, 32, 32), dtype=np.uint8)
    mean, std = (np.array(each).reshape(1, 3, 1, 1) for each in (
        (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))  # fmt: skip
    inputs = torch.from_numpy((images.repeat(3, axis=1) / 255 - mean) / std).float()
    with torch.inference_mode():
        torch.testing.assert_close(network.logits(images), network.model(inputs))
    assert cli.run(["export", str(files.path), "--to", "state_dict", "--out", "gray.pt"]) == 0


def test_a_typed_normalization_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    pretrained = ["model=torchvision", "model.weights=mobilenet.pth"]
    typed = compose_plain([*pretrained, "dataset.normalize=unit"])
    assert typed.dataset.normalize == "unit"
    assert compose_plain(pretrained).dataset.normalize == "imagenet"
    assert compose_plain(["model=torchvision"]).dataset.normalize == "unit"
    assert compose_plain([*SMALL, "model.weights=net.pt"]).dataset.normalize == "weights"


def commands_of_the_docs() -> list[list[str]]:
    text = (Path(__file__).parents[2] / "docs" / "fine-tuning.md").read_text()
    lines = re.findall(r"^ {4}tinylab train (.*)$", text.replace("\\\n", " "), re.MULTILINE)
    return [shlex.split(line) for line in lines]


@pytest.mark.parametrize("overrides", commands_of_the_docs(), ids=" ".join)
def test_the_commands_of_the_docs_compose(overrides: list[str]) -> None:
    assert compose_plain(overrides).dataset.normalize in ("imagenet", "weights")


# ---------------------------------------------------------------- identity


def identified(*overrides: str) -> Config:
    return weights.identified(compose_plain([*SMALL, *overrides]))


def test_a_file_counts_by_its_content_and_not_by_its_place(tmp_path: Path) -> None:
    shutil.copy("net.pt", tmp_path / "renamed.pth")
    here = identified("model.weights=net.pt")
    assert run_id(here) == run_id(identified(f"model.weights={tmp_path}/renamed.pth"))
    assert run_id(here) != run_id(identified())
    torch.save({"a": torch.ones(2)}, tmp_path / "renamed.pth")
    assert run_id(here) != run_id(identified(f"model.weights={tmp_path}/renamed.pth"))
    assert run_id(here) == run_id(weights.identified(here)), "what is identified stays what it is"


def test_published_weights_count_by_full_name_and_pinned_hash() -> None:
    def full(*overrides: str) -> str | None:
        config = compose_plain(["model=torchvision", *overrides])
        return weights.identified(config).model.weights_content

    expected = "ResNet18_Weights.IMAGENET1K_V1 resnet18-f37072fd.pth"
    assert full("model.weights=DEFAULT") == full("model.weights=IMAGENET1K_V1") == expected
    assert full("model.weights=DEFAULT", "model.arch=resnet34") != expected
    assert full() is None


REFUSED: dict[str, tuple[list[str], str]] = {
    "no file": ([*SMALL, "model.weights=absent.pt"], "model.weights=absent.pt: No such file"),
    "a name for a model without names": (
        [*SMALL, "model.weights=DEFAULT"], "expected a file of weights for model=resnet"
    ),
    "an unknown name": (
        ["model=torchvision", "model.weights=NONSENSE"],
        "model.weights=NONSENSE: not available for resnet18; expected null, a file",
    ),
    "another network": ([*SMALL, "model.weights=mobilenet.pth"], "does not fit this network"),
    "a pattern without a match": ([*SMALL, "model.freeze=layer"], "matches no parameters"),
    "no pattern": ([*SMALL, "model.freeze='('"], "model.freeze=(: expected none, backbone, or"),
    "other weights than they were": (
        [*SMALL, "model.weights=net.pt", "model.weights_content=00"], "now holds other weights"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("overrides", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_fine_tuned_is_refused_in_two_lines(
    overrides: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run([*TRAIN, "outputs=refused", *overrides]) != 0
    said = capsys.readouterr().err
    assert words in said
    assert len(said.strip().splitlines()) <= 2
    assert runs_in(Path("refused")) == []


def test_a_sweep_over_the_freeze_and_the_backbones_rate_has_a_run_for_each(
    capsys: pytest.CaptureFixture[str],
) -> None:
    sweep = ["-m", "jobs=1", "outputs=swept", *SMALL, "model.weights=net.pt"]
    assert cli.run([*TRAIN, *sweep, "model.freeze=none,backbone", "optim.backbone_lr=0.1,1"]) == 0
    results = [RunFolder(path).result() for path in runs_in(Path("swept"))]
    assert len(results) == 4
    assert len({result.weights_sha256 for result in results if result is not None}) == 3


# ---------------------------------------------------------------- a model of the user's own

OWN = '''import tinylab
from torch import nn


@tinylab.model
class Own(nn.Sequential):
    """It has a key of the name of one that all models have."""

    def __init__(self, image_shape, num_classes, freeze: bool = True):
        super().__init__(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(),
                         nn.Linear(8, num_classes))
        self[1].requires_grad_(not freeze)
        self[2].requires_grad_(not freeze)
'''


def test_a_key_of_ones_own_model_is_its_own(workplace: Path) -> None:
    (workplace / "own.py").write_text(OWN)
    files, result = trained("mine", "code=own.py", "model=own")
    assert result.config["model"]["freeze"] is True
    assert result.num_trained_parameters == 8 * 10 + 10
    assert weights_of(files)["2.num_batches_tracked"] > 0, "who freezes by hand holds no statistics"


def test_ones_own_model_is_loaded_from_a_file_and_frozen_by_tinylab(workplace: Path) -> None:
    text = OWN.replace("freeze: bool = True", "").replace("not freeze", "True")
    (workplace / "own2.py").write_text(text.replace("Own", "Own2"))
    keys = ["code=own2.py", "model=own2"]
    files, _ = trained("mine2", *keys)
    state = weights_of(files)
    torch.save(state, "own2.pt")
    tuned, _ = trained("mine3", *keys, "model.weights=own2.pt", "model.freeze=1|2", "seed=1")
    for name, value in weights_of(tuned).items():
        assert torch.equal(value, state[name]) == (name[0] in "12"), name


# ---------------------------------------------------------------- the normalization in a file


def test_an_export_is_fine_tuned_with_the_normalization_that_it_was_trained_with(
    capsys: pytest.CaptureFixture[str],
) -> None:
    files, before = trained("standard", *SMALL, "dataset.normalize=standard")
    assert cli.run(["export", str(files.path), "--to", "state_dict", "--out", "std.pt"]) == 0
    capsys.readouterr()
    _, tuned = trained("tuned", *SMALL, "model.weights=std.pt", "split.seed=1")
    assert tuned.dataset.normalization == before.dataset.normalization
    assert tuned.config["dataset"]["normalize"] == "weights"
    assert "dataset.normalize=weights: as the pretrained weights" in capsys.readouterr().out
    _, other = trained("other", *SMALL, "model.weights=std.pt", "dataset.normalize=unit")
    assert other.dataset.normalization != before.dataset.normalization
    said = " ".join(capsys.readouterr().out.split())
    assert "std.pt was trained with another normalization; use it with" in said


def test_a_file_without_its_normalization_is_reported(
    capsys: pytest.CaptureFixture[str],
) -> None:
    torch.save(torch.load("net.pt", weights_only=True)["state_dict"], "plain.pt")
    _, result = trained("plain", *SMALL, "model.weights=plain.pt")
    assert result.dataset.normalization == {
        "scale": [torch.tensor(1 / 255).item()],
        "offset": [0.0],
    }
    assert "plain.pt does not say how its images were normalized" in capsys.readouterr().out
