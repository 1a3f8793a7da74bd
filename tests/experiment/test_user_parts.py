"""Loss, augmentation, schedule and optimizer of a user's own file, from the command line on."""

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from tinylab import cli
from tinylab.store.folder import RunFolder
from tinylab.store.result import Result
from workplace_kit import begun, result

LOSSES = '''import tinylab
import torch
import torch.nn.functional as F


@tinylab.loss
def mine(logits, targets):
    """The built-in loss, by hand."""
    return F.cross_entropy(logits, targets)


@tinylab.loss
def focal(logits, targets, gamma: float = 2.0):
    """Focal loss (Lin et al., 2017)."""
    nll = F.cross_entropy(logits, targets, reduction="none")
    return ((1 - torch.exp(-nll)) ** gamma * nll).mean()


@tinylab.loss
def hard(logits, targets):
    """Takes classes only."""
    return -logits.log_softmax(1).gather(1, targets[:, None]).mean()
'''
PARTS = '''import math

import tinylab
import torch


@tinylab.augmentation
def noise(images, generator, amount: float = 0.05):
    """Gaussian noise."""
    return images + amount * torch.randn(images.shape, generator=generator, device=images.device)


@tinylab.optimizer
class Heavy(torch.optim.SGD):
    """torch's SGD."""

    def __init__(self, params, lr: float = 0.05, momentum: float = 0.9):
        super().__init__(params, lr=lr, momentum=momentum)


@tinylab.schedule
def half_cosine(step, steps, final: float = 0.0):
    """The built-in cosine, by hand."""
    return 1 - (1 - final) * (1 - math.cos(math.pi * (step / steps))) / 2
'''
REST = '''import numpy as np
import tinylab
from torch import nn


@tinylab.model
def net(image_shape, num_classes, dropout: float = 0.5):
    """Draws from torch's own stream, and has averages of its own."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(dropout),
        nn.Linear(8, num_classes),
    )


@tinylab.dataset
def noisy(count: int = 800):
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 3
    images = (rng.random((count, 8, 8)) * 100 + 50 * labels[:, None, None]).astype(np.uint8)
    half = count // 2
    return {
        "train": (images[:half], labels[:half]),
        "val": (images[half : half + 20], labels[half : half + 20]),
        "test": (images[half + 20 :], labels[half + 20 :]),
        "classes": ["top", "middle", "bottom"],
    }


@tinylab.metric(better="lower")
def again(labels, probabilities):
    return -np.log(probabilities[np.arange(len(labels)), labels]).mean()
'''
pytestmark = pytest.mark.costly
TRAIN = ["train", "model=mlp", "model.hidden=8", "train.epochs=2", "threads=1"]
ALL = ["code=[losses.py,parts.py]", "loss=focal", "augment=noise", "optim=heavy",
       "schedule=half_cosine", "loss.gamma=1"]  # fmt: skip


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files, and a finished run of them."""
    return begun(tmp_path_factory, {"losses.py": LOSSES, "parts.py": PARTS}, [*TRAIN, *ALL])


@pytest.fixture
def student(workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the workplace."""
    folder = shutil.copytree(workplace, tmp_path / "student")
    monkeypatch.chdir(folder)
    return folder


def trained(folder: Path, *words: str) -> Result:
    """The result of a run in a folder of its own."""
    outputs = f"of_{len(list(folder.iterdir()))}"
    assert cli.run([*TRAIN, *words, f"outputs={outputs}"]) == 0
    [run] = folder.glob(f"{outputs}/runs/digits-*")
    return result(run)


def the_run(folder: Path) -> Path:
    [run] = folder.glob("outputs/runs/digits-mlp-*")
    return run


@pytest.mark.parametrize("mixed", [[], ["augment.mixup=0.4"]])
def test_the_built_in_loss_written_by_hand_ends_with_the_same_bits(
    student: Path, mixed: list[str]
) -> None:
    own, built_in = (
        trained(student, *code, *mixed) for code in (["code=losses.py", "loss=mine"], [])
    )
    assert own.weights_sha256 == built_in.weights_sha256
    assert own.val is not None
    assert built_in.val is not None
    assert own.val.extra["nll"] == built_in.val.extra["nll"]
    assert own.val.loss == pytest.approx(built_in.val.loss, rel=1e-6)
    assert own.run_id != built_in.run_id


def test_the_losses_of_a_run_are_those_of_its_own_loss(student: Path) -> None:
    history = RunFolder(the_run(student)).history()
    actual = RunFolder(the_run(student)).result()
    assert actual is not None
    assert actual.val is not None
    assert actual.val.loss < actual.val.extra["nll"]  # as focal loss is
    best = history[actual.best_epoch - 1]
    assert best["val_loss"] == actual.val.loss


def test_the_built_in_schedule_written_by_hand_ends_with_the_same_bits(student: Path) -> None:
    cosine = trained(student, "optim.schedule=cosine", "optim.final=0.1")
    own = trained(student, "code=parts.py", "schedule=half_cosine", "schedule.final=0.1")
    assert own.weights_sha256 == cosine.weights_sha256


def test_an_own_optimizer_has_the_bits_of_the_one_it_is_made_from(student: Path) -> None:
    own = trained(student, "code=parts.py", "optim=heavy")
    torchs = ["optim=torch", "optim.algorithm=SGD", "optim.args={momentum:0.9}", "optim.lr=0.05"]
    assert own.weights_sha256 == trained(student, *torchs).weights_sha256


def test_a_killed_and_resumed_training_by_own_parts_of_every_kind_ends_with_the_same_bits(
    student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (student / "rest.py").write_text(REST)
    every_kind = ["code=[losses.py,parts.py,rest.py]", *ALL[1:], "model=net", "dataset=noisy",
                  "train.monitor=again"]  # fmt: skip
    assert cli.run(["train", *every_kind, "train.epochs=1", "threads=1", "outputs=chosen"]) == 0
    [run] = student.glob("chosen/runs/noisy-net-*")
    assert cli.run(["verify", str(run), "--kills", "1", "--epochs", "20", "--seed", "3"]) == 0
    assert "identical" in capsys.readouterr().out


def test_the_folder_keeps_a_copy_and_an_edit_outdates_its_own_runs_alone(
    student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (the_run(student) / "code" / "losses.py").read_text() == LOSSES
    assert (the_run(student) / "code" / "parts.py").read_text() == PARTS
    other = [*TRAIN, "code=[losses.py,parts.py]", "augment=noise"]
    assert cli.run(other) == 0
    (student / "losses.py").write_text(LOSSES.replace("(1 - torch", "(1.5 - torch"))
    capsys.readouterr()
    assert cli.run(other) == 0
    assert "already finished" in capsys.readouterr().out
    assert cli.run([*TRAIN, *ALL]) == 0
    assert "has changed since; old folder kept" in capsys.readouterr().out


def test_a_sweep_over_losses_is_compared_and_listed(
    student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = ["loss=mine,focal,cross_entropy", "train.epochs=1", "jobs=2", "outputs=swept"]
    assert cli.run(["train", "-m", *TRAIN[1:], "code=losses.py", *sweep]) == 0
    capsys.readouterr()
    assert cli.run(["compare", "swept"]) == 0
    said = capsys.readouterr().out
    rows = {line.split()[1] for line in said.splitlines() if re.match(r"[ABC]  \w", line)}
    assert rows == {"mine", "focal", "cross_entropy"}
    assert cli.run(["list", "loss=focal", "--outputs", "swept"]) == 0
    assert capsys.readouterr().out.count("digits-mlp-") == 1
    assert cli.run(["report", "swept"]) == 0


def test_a_finished_run_is_used_as_any_other(student: Path) -> None:
    run = str(the_run(student))
    pixels = np.random.default_rng(0).integers(0, 255, (8, 8), dtype=np.uint8)
    assert cv2.imwrite("picture.png", pixels)
    assert cli.run(["predict", run, "picture.png"]) == 0
    assert cli.run(["evaluate", run]) == 0
    assert cli.run(["export", run, "--to", "state_dict"]) == 0
    assert cli.run(["train", "--from", run, "seed=1"]) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["loss=hard", "augment.mixup=0.2"], "does not accept their targets"),
        (["loss=mine", "train.label_smoothing=0.1"], "only loss=cross_entropy supports it"),
        (["loss=focal", "loss.gama=1"], "did you mean 'loss.gamma'?"),
        (["loss=focal", "loss.gamma=much"], "loss.gamma=much: expected a number"),
        (["loss=focl"], "did you mean 'focal'?"),
    ],
)
def test_what_does_not_fit_is_refused_before_training(
    student: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert cli.run([*TRAIN, "code=losses.py", *words, "outputs=refused"]) == 1
    actual = capsys.readouterr()
    assert said in actual.err
    assert len(actual.err.splitlines()) <= 2
    assert "epoch" not in actual.out
    assert not (student / "refused").exists()


def test_a_mistake_in_training_shows_their_lines_alone(
    student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = "return F.cross_entropy(logits, targets) + (len(logits) > 8 and logits.no_such())"
    (student / "losses.py").write_text(
        LOSSES.replace("return F.cross_entropy(logits, targets)", wrong)
    )
    assert cli.run([*TRAIN, "code=losses.py", "loss=mine", "outputs=refused"]) == 1
    output = capsys.readouterr().err.splitlines()
    assert output[0].startswith("tinylab: loss=mine: AttributeError: ")
    assert output[1:] == [
        f"  {student / 'losses.py'}:9, in mine (logits: 32x10, targets: 32)",
        f"    {wrong}",
    ]


@pytest.mark.costly
def test_parts_that_are_not_decorated_are_named(tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text(
        "import numpy as np\nimport torch\n"
        "def shaken(x, generator, sd=0.05):\n"
        "    return x + sd * torch.randn(x.shape, generator=generator, device=x.device)\n"
        "def falling(step, steps, floor: float = 0.1):\n    return max(floor, 1 - step / steps)\n"
        "def blobs(n=60):\n"
        "    y = np.arange(n) % 2\n"
        "    x = np.random.random((n, 8, 8)) * 60 + y[:, None, None] * 150\n"
        "    return x.astype(np.uint8), y\n"
    )
    words = ["dataset=plain:blobs", "dataset.n=80", "augment=plain:shaken", "augment.sd=0.1",
             "schedule=plain:falling", "loss=torch.nn:CrossEntropyLoss", "loss.label_smoothing=0.1",
             "optim=torch.optim:RMSprop", "model=mlp", "train.epochs=1", f"outputs={tmp_path}",
             f"code={tmp_path / 'plain.py'}"]  # fmt: skip
    assert cli.run(["train", *words]) == 0
    [folder] = tmp_path.glob("runs/plain.blobs-mlp-*")
    config = RunFolder(folder).config()
    assert (config["dataset"]["n"], config["loss"]["label_smoothing"]) == (80, 0.1)
    assert cli.run(["evaluate", str(folder), f"outputs={tmp_path}"]) == 0
    [evaluation] = tmp_path.glob("evaluations/plain.blobs-*/evaluation.json")
    parsed = json.loads(evaluation.read_text())
    assert parsed["loss"] is None, "what it would call loss is none of the user's"
    assert parsed["nll"] > 0
