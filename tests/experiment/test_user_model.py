"""A network of a user's own file, from the command line to its predictions."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tinylab import cli
from tinylab.store.folder import ARCHIVED, RunFolder
from workplace_kit import begun, result

SOURCE = '''import tinylab
from layers_of_mine import dense
from torch import nn


@tinylab.model
class Mine(nn.Sequential):
    """The built-in mlp, by hand."""

    def __init__(self, image_shape, num_classes, hidden: int = 256, dropout: float = 0.2):
        C, H, W = image_shape
        super().__init__(
            nn.Flatten(), *dense(C * H * W, hidden, dropout), *dense(hidden, hidden, dropout),
            nn.Linear(hidden, num_classes),
        )

    def forward(self, x):
        return super().forward(x)
'''
HELPER = """from torch import nn


def dense(before, after, dropout):
    return nn.Linear(before, after), nn.ReLU(), nn.Dropout(dropout)
"""
pytestmark = pytest.mark.costly
TRAIN = ["train", "model.hidden=8", "train.epochs=2", "threads=1"]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files, and a finished run of them."""
    return begun(
        tmp_path_factory,
        {"mine.py": SOURCE, "layers_of_mine.py": HELPER},
        [*TRAIN, "code=mine.py", "model=mine"],
    )


def run_of(student: Path, pattern: str = "digits-mine-*") -> Path:
    paths = student.glob(f"outputs/runs/{pattern}")
    results = [each for each in paths if ARCHIVED.search(each.name) is None]
    assert len(results) == 1
    return results[0]


def edit(file: Path) -> None:
    """Another network with the same weights."""
    file.write_text(file.read_text().replace("nn.ReLU()", "nn.GELU()"))


RESNET = """import tinylab
from torch import nn


def convolution(before, after, size=3):
    made = nn.Conv2d(before, after, size, padding=size // 2, bias=False)
    if size == 3:
        nn.init.kaiming_normal_(made.weight, mode="fan_out", nonlinearity="relu")
    return made


class Block(nn.Module):
    def __init__(self, before, after):
        super().__init__()
        self.conv1 = convolution(before, after)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = convolution(after, after)
        self.bn2 = nn.BatchNorm2d(after)
        self.shortcut = nn.Sequential()
        if before != after:
            self.conv1.stride = (2, 2)
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(1, 2), convolution(before, after, 1), nn.BatchNorm2d(after)
            )

    def forward(self, x):
        out = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (out + self.shortcut(x)).relu()


@tinylab.model
class Residual(nn.Module):
    def __init__(self, image_shape, num_classes, width: int = 4):
        super().__init__()
        stem = convolution(image_shape[0], width)
        self.stem = nn.Sequential(stem, nn.BatchNorm2d(width), nn.ReLU())
        self.blocks = nn.Sequential(Block(width, width), Block(width, 2 * width))
        self.output = nn.Linear(2 * width, num_classes)

    def forward(self, x):
        return self.output(self.blocks(self.stem(x)).mean((2, 3)))
"""


def test_a_built_in_residual_network_written_by_hand_ends_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("residual.py").write_text(RESNET)
    train = ["train", "train.epochs=1", "threads=1", "model.width=4"]
    assert cli.run([*train, "model=resnet", "model.stages=2"]) == 0
    assert cli.run([*train, "model=residual", "code=residual.py"]) == 0
    own, built_in = run_of(tmp_path, "digits-residual-*"), run_of(tmp_path, "digits-resnet-*")
    assert result(own).weights_sha256 == result(built_in).weights_sha256


LAZY = """import tinylab
from torch import nn


@tinylab.model
def lazy(image_shape, num_classes):
    return nn.Sequential(
        nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.Dropout(0.5),
        nn.LazyLinear(num_classes),
    )


@tinylab.model
def plain(image_shape, num_classes):
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Dropout(0.5),
        nn.Linear(144, num_classes),
    )
"""


def test_lazy_layers_end_with_the_bits_of_those_whose_sizes_are_written_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("nets.py").write_text(LAZY)
    train = ["train", "code=nets.py", "train.epochs=1", "train.ema=0.9", "threads=1"]
    assert cli.run([*train, "model=plain"]) == 0
    assert cli.run([*train, "model=lazy"]) == 0
    run, written_out = run_of(tmp_path, "digits-lazy-*"), run_of(tmp_path, "digits-plain-*")
    assert result(run).weights_sha256 == result(written_out).weights_sha256
    assert cli.run(["predict", str(run), picture(tmp_path)]) == 0
    assert cli.run(["evaluate", str(run)]) == 0


# Errors whose traceback has no line of the file: what is wrong, and the layer that is named.
PLAIN = """import tinylab
from torch import nn


@tinylab.model
def wrong(image_shape, num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(63, num_classes))


@tinylab.model(name="inherited")
class Tiny(nn.Sequential):
    def __init__(self, image_shape, num_classes):
        super().__init__(nn.Flatten(), nn.Sequential(nn.Linear(63, num_classes)))


@tinylab.model
def of_two(image_shape, num_classes):
    return nn.Sequential(nn.Flatten(0), nn.Unflatten(0, (2, 64)), nn.Linear(64, num_classes))


@tinylab.model
class Misnamed(nn.Module):
    def __init__(self, image_shape, num_classes):
        super().__init__()
        self.layer = nn.Linear(64, num_classes)


@tinylab.model
class Never(nn.Sequential):
    def __init__(self, image_shape, num_classes):
        super().__init__(nn.Flatten(), nn.Linear(64, num_classes))
        self.auxiliary = nn.LazyLinear(3)

    def forward(self, images):
        return self[1](self[0](images))
"""
IN_LINEAR = "Linear(in_features=63, out_features=10, bias=True) (input: 2x64); see {file}"


@pytest.mark.parametrize(
    ("model", "first", "second"),
    [
        ("wrong", "shapes cannot be multiplied (2x64 and 63x10)", f"in 1: {IN_LINEAR}:6"),
        ("inherited", "shapes cannot be multiplied (2x64 and 63x10)", f"in 1.0: {IN_LINEAR}:11"),
        (
            "of_two",
            "don't multiply up to the size of dim 0 (64)",
            "in 1: Unflatten(dim=0, unflattened_size=(2, 64)) (input: 64); see {file}:17",
        ),
        ("misnamed", 'Module [Misnamed] is missing the required "forward"', "see {file}:22"),
        (
            "never",
            "auxiliary.weight is still uninitialized after a trial pass in eval mode",
            "expected a forward that then uses all lazy layers; see {file}:29",
        ),
    ],
)
def test_a_mistake_in_no_line_of_the_file_names_the_layer_and_where_it_is_defined(
    student: Path, capsys: pytest.CaptureFixture[str], model: str, first: str, second: str
) -> None:
    (student / "plain.py").write_text(PLAIN)
    assert cli.run(["train", "code=plain.py", f"model={model}", "outputs=refused"]) == 1
    one, two = capsys.readouterr().err.splitlines()
    assert one.startswith(f"tinylab: model={model}: ")
    assert first in one
    assert two == f"  {second.format(file=student / 'plain.py')}"


def test_such_a_mistake_in_training_is_told_the_same_way_and_the_log_has_the_traceback(
    student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (student / "plain.py").write_text(PLAIN)
    train = ["train", "code=plain.py", "model=of_two", "outputs=refused", "threads=1"]
    assert cli.run(train) == 1
    one, two = capsys.readouterr().err.splitlines()
    assert "don't multiply up to the size of dim 0 (2048)" in one
    assert "in 1: Unflatten(dim=0, unflattened_size=(2, 64)) (input: 2048); see " in two
    [failure] = student.glob("refused/runs/digits-of_two-*/failure.json")
    assert json.loads(failure.read_text())["error"] == f"{one}\n{two}".removeprefix("tinylab: ")
    assert "Traceback" in failure.with_name("train.log").read_text()


def test_outputs_that_are_probabilities_are_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("twice.py").write_text(
        "import tinylab\nfrom torch import nn\n\n@tinylab.model\n"
        "def twice(image_shape, num_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes), nn.Softmax(1))\n"
    )
    assert cli.run(["train", "train.epochs=1", "model=twice", "code=twice.py"]) == 0
    assert "warning: model=twice: its outputs are probabilities" in capsys.readouterr().out


def test_the_built_in_network_written_by_hand_ends_with_the_same_bits(student: Path) -> None:
    assert cli.run([*TRAIN, "model=mlp"]) == 0
    own, built_in = result(run_of(student)), result(run_of(student, "digits-mlp-*"))
    assert own.weights_sha256 == built_in.weights_sha256
    assert "own_code_sha256" not in built_in.environment.extra
    assert built_in.config["code"] is None


def test_the_folder_keeps_a_copy_of_all_files(student: Path) -> None:
    copied = run_of(student) / "code"
    assert (copied / "mine.py").read_text() == SOURCE
    assert (copied / "layers_of_mine.py").read_text() == HELPER


def test_the_same_command_finds_it_and_an_edit_outdates_it_and_no_other(
    student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run([*TRAIN, "model=mlp"]) == 0
    mine = [*TRAIN, "code=mine.py", "model=mine"]
    capsys.readouterr()
    assert cli.run(mine) == 0
    assert "already finished" in capsys.readouterr().out
    edit(student / "layers_of_mine.py")
    assert cli.run(mine) == 0
    output = capsys.readouterr().out
    assert "mine.py or layers_of_mine.py has changed since; old folder kept" in output
    (student / "layers_of_mine.py").write_text(HELPER)
    assert cli.run(mine) == 0
    output = capsys.readouterr().out
    assert "this code and data were trained before; brought back" in output
    assert "already finished" in output
    RunFolder(run_of(student)).archive("interrupted")
    (student / "outputs/runs" / output.partition(":")[0]).mkdir()  # without a checkpoint
    capsys.readouterr()
    assert cli.run(mine) == 0
    output = capsys.readouterr().out
    assert "unfinished; old folder kept" in output
    assert "brought back" in output
    assert "epoch" not in output
    assert cli.run([*TRAIN, "model=mlp", "code=mine.py"]) == 0
    assert "already finished" in capsys.readouterr().out


def test_an_edit_while_it_trains_is_no_part_of_the_result(
    student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edits = (
        "        from pathlib import Path\n"
        "        text = Path(__file__).read_text()\n"
        "        Path(__file__).write_text(text.replace('Flatten()', 'Flatten(1)'))\n"
    )
    (student / "mine.py").write_text(SOURCE.replace("        C, H, W", f"{edits}        C, H, W"))
    mine = [*TRAIN, "code=mine.py", "model=mine", "train.epochs=1", "outputs=edited"]
    assert cli.run(mine) == 0
    assert "Flatten(1)" in (student / "mine.py").read_text()
    capsys.readouterr()
    assert cli.run(mine) == 0
    assert "mine.py or layers_of_mine.py has changed since" in capsys.readouterr().out


def test_what_needs_the_network_refuses_an_edited_file_before_it_is_executed(
    student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(run_of(student))
    (student / "mine.py").write_text("raise SystemExit('executed')\n" + SOURCE)
    for command in (["predict", run, picture(student)], ["export", run], ["verify", run],
                    ["evaluate", run]):  # fmt: skip
        assert cli.run(command) == 1
        output = capsys.readouterr().err
        assert "mine.py" in output
        assert "has changed since it was trained" in output
        assert len(output.splitlines()) == 2
    for command in (["list"], ["compare", "outputs"], ["report", "outputs"]):
        assert cli.run(command) == 0


def test_a_moved_file_is_asked_for_and_taken_by_either_way(
    student: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, file = str(run_of(student)), picture(student)
    (student / "lib").mkdir()
    for name in ("mine.py", "layers_of_mine.py"):
        (student / name).rename(student / "lib" / name)
    for command in (["predict", run, file], ["train", "--from", run, "seed=1"]):
        assert cli.run(command) == 1
        assert "pass the file: code=mine.py, or TINYLAB_CODE=FILE" in capsys.readouterr().err
    assert cli.run(["predict", run, file, "code=lib/mine.py"]) == 0
    assert cli.run(["evaluate", run, "code=lib/mine.py"]) == 0
    monkeypatch.setenv("TINYLAB_CODE", "lib/mine.py")
    assert cli.run(["predict", run, file]) == 0
    assert cli.run(["export", run, "--to", "state_dict", "--out", "net.pt"]) == 0
    assert "1.weight" in torch.load("net.pt", weights_only=True)["state_dict"]
    assert cli.run(["train", "--from", run, "seed=1"]) == 0
    seeds = [result(each).config["seed"] for each in student.glob("outputs/runs/digits-mine-*")]
    assert sorted(seeds) == [0, 1]


def test_a_config_again_says_where_the_file_differs_from_the_runs(
    student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of(student)
    assert cli.run(["train", "--from", str(run), "seed=1"]) == 0
    assert "differs" not in capsys.readouterr().out
    edit(student / "layers_of_mine.py")
    assert cli.run(["train", "--from", str(run), "seed=2"]) == 0
    output = capsys.readouterr().out
    words = f"has changed since {run.name}: this trains a new run with the current code; the run's"
    assert f"layers_of_mine.py {words} copy is in {run / 'code'}\n" in output
    assert cli.run(["train", "--from", str(run), "model=mlp", "model.hidden=8"]) == 0
    assert "differs" not in capsys.readouterr().out
    (run / "result.json").unlink()  # as if it had been stopped
    assert cli.run(["train", "--from", str(run), "seed=3"]) == 0
    assert words in capsys.readouterr().out


def test_a_class_that_is_named_is_trained_like_one_that_is_declared(
    student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = (student / "mine.py").read_text().replace("@tinylab.model\n", "")
    package = student / "nets_of_a_student"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "mine.py").write_text(plain.replace("layers_of_mine", ".layers_of_mine"))
    shutil.copy(student / "layers_of_mine.py", package)
    name = "nets_of_a_student.mine:Mine"
    named = [*TRAIN, "code=nets_of_a_student.mine", f"model={name}"]
    assert cli.run(named) == 0
    run = run_of(student, "digits-mine.Mine-*")
    declared = run_of(student)
    assert result(run).weights_sha256 == result(declared).weights_sha256
    capsys.readouterr()
    assert cli.run(named) == 0
    assert "already finished" in capsys.readouterr().out
    assert (run / "code" / "layers_of_mine.py").is_file()
    for command in (["predict", str(run), picture(student)], ["evaluate", str(run)], ["list"],
                    ["report", "outputs"], ["compare", "outputs"],
                    ["export", str(run), "--to", "state_dict"]):  # fmt: skip
        assert cli.run(command) == 0
    sweep = ["model.hidden=4,6", "train.epochs=1", "jobs=2", "outputs=swept", f"model=mlp,{name}"]
    assert cli.run(["train", "-m", "code=nets_of_a_student.mine", *sweep]) == 0
    assert f"model.hidden=4 model={name}  finished" in capsys.readouterr().out
    edit(package / "layers_of_mine.py")
    assert cli.run(["predict", str(run), picture(student)]) == 1
    assert "has changed since it was trained" in capsys.readouterr().err


def test_a_class_of_a_library_that_does_not_fit_shows_its_own_lines(
    student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    squeeze = "model=torchvision.models.squeezenet:SqueezeNet"
    gray = ["dataset=digits", "dataset.image_size=32"]
    assert cli.run(["train", squeeze, *gray]) == 1
    output = capsys.readouterr().err
    assert "to have 3 channels, but got 1" in output
    assert "in forward (x: 2x1x32x32)" in output
    assert "torch/nn" not in output


def test_what_a_function_takes_further_is_passed_on(
    student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (student / "further.py").write_text(
        "from torch import nn\n\ndef net(pretrained=False, **kwargs):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, kwargs.pop('num_classes', 1000)))\n"
    )
    named = ["train", "train.epochs=1", "code=further.py", "model=further:net"]
    assert cli.run(named) == 1
    assert "here 2x10, as with +model.num_classes=10; see" in capsys.readouterr().err
    assert cli.run([*named, "+model.num_classes=10"]) == 0
    run = run_of(student, "digits-further.net-*")
    assert result(run).config["model"]["num_classes"] == 10
    assert cli.run(["train", "--from", str(run), "seed=1"]) == 0
    for plus in ("+", ""):
        assert cli.run(["train", "--from", str(run), f"{plus}model.num_classes=12"]) == 1
        assert "gives 2x12" in capsys.readouterr().err
    assert cli.run(["predict", str(run), picture(student)]) == 0
    capsys.readouterr()
    assert cli.run(["list", "model.num_classes=10"]) == 0
    assert "2 finished" in capsys.readouterr().out


def test_a_sweep_trains_it_in_worker_processes(student: Path) -> None:
    sweep = ["model.hidden=4,6", "train.epochs=1", "threads=1", "jobs=2", "outputs=swept"]
    assert cli.run(["train", "-m", "code=mine.py", "model=mine", *sweep]) == 0
    actual = {
        result(each).config["model"]["hidden"] for each in student.glob("swept/runs/digits-*")
    }
    assert actual == {4, 6}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("nn.Linear(hidden, num_classes)", "nn.Linear(hidden, 7)", "gives 2x7 for images of 2x1x8"),
        ("return super().forward(x)", "return (super().forward(x), x)", "gives a tuple"),
        ("nn.Flatten(), ", "", "forward (x: 2x1x8x8)"),
        ("return super().forward(x)", "return x.no_such()", "return x.no_such()"),
    ],
)
def test_a_network_that_does_not_fit_is_refused_before_training(
    student: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, words: str
) -> None:
    (student / "mine.py").write_text(SOURCE.replace(old, new))
    assert cli.run([*TRAIN, "code=mine.py", "model=mine", "outputs=refused"]) == 1
    output = capsys.readouterr()
    assert words in output.err
    assert str(student / "mine.py") in output.err
    assert "torch/nn" not in output.err
    assert "epoch" not in output.out
    assert len(output.err.splitlines()) <= 3


def test_a_mistake_in_training_shows_their_lines_and_the_shape_and_is_recorded(
    student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = "return super().forward(x.no_such() if self.training else x)"
    (student / "mine.py").write_text(SOURCE.replace("return super().forward(x)", wrong))
    assert cli.run([*TRAIN, "code=mine.py", "model=mine", "outputs=refused"]) == 1
    output = capsys.readouterr().err
    assert output.splitlines()[1:] == [
        f"  {student / 'mine.py'}:18, in forward (x: 32x1x8x8)",
        f"    {wrong}",
    ]
    [failure] = student.glob("refused/runs/*/failure.json")
    assert "mine.py:18" in json.loads(failure.read_text())["error"]


def picture(folder: Path) -> str:
    path = folder / "picture.png"
    pixels = np.random.default_rng(0).integers(0, 255, (8, 8), dtype=np.uint8)
    assert cv2.imwrite(str(path), pixels)
    return path.name


ODD = """
import torch
import tinylab

@tinylab.model
class Odd(torch.nn.Linear):
    def __init__(self, image_shape, num_classes):
        super().__init__(image_shape[0] * image_shape[1] * image_shape[2], num_classes)
    def forward(self, images):
        outputs = super().forward(images.flatten(1))
        if len(images) == 179:  # the test part of digits
            outputs = torch.cat([outputs[:2] * torch.nan, outputs[2:]])
        return outputs
"""


def test_a_result_with_outputs_that_are_no_numbers_is_kept_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("odd.py").write_text(ODD)
    assert cli.run(["train", "code=odd.py", "model=odd", "train.epochs=1", "threads=1"]) == 0
    said = "the outputs for 2 of 179 images are not finite; they count as misclassified"
    assert f"test: {said}" in capsys.readouterr().out
    [run] = Path("outputs/runs").glob("digits-odd-*")
    test = json.loads((run / "result.json").read_text())["test"]
    assert test["num_guessed"] == 2
    assert cli.run(["evaluate", str(run), "code=odd.py"]) == 0
    shown = capsys.readouterr().out
    assert said in shown
    assert f"loss {test['loss']:.4f}" in shown
