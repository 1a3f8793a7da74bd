"""A student with an installed tinylab, an empty folder and no checkout, by commands alone."""

import json
import os
import subprocess
import sys
import venv
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from tinylab.data.folder import png_bytes

pytestmark = pytest.mark.costly
CHECKOUT = Path(__file__).parents[1]
FILES = {
    "tiny.py": '''
import tinylab
from torch import nn

from blocks import block


@tinylab.model
class Tiny(nn.Module):
    """Two convolutions."""

    def __init__(self, image_shape, num_classes, width: int = 4, dropout: float = 0.1):
        super().__init__()
        channels, height, _ = image_shape
        self.features = nn.Sequential(block(channels, width), block(width, 2 * width))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * width * (height // 4) ** 2, num_classes)

    def forward(self, x):
        return self.head(self.dropout(self.features(x).flatten(1)))
''',
    "blocks.py": """
from torch import nn


def block(inputs, outputs):
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2))
""",
    "parts.py": '''
import numpy as np
import tinylab
import torch
import torch.nn.functional as F


@tinylab.dataset
def stripes(count: int = 400, noise: float = 0.9):
    """A bright stripe at one of three heights."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 3
    images = rng.random((count, 12, 12)) * noise
    for image, label in zip(images, labels):
        image[4 * label : 4 * label + 4] += 0.1
    half = count // 2
    return {
        "train": (images[:half], labels[:half]),
        "test": (images[half:], labels[half:]),
        "classes": ["top", "middle", "bottom"],
    }


@tinylab.loss
def focal(logits, targets, gamma: float = 2.0):
    """Focal loss (Lin et al., 2017)."""
    nll = F.cross_entropy(logits, targets, reduction="none")
    return ((1 - torch.exp(-nll)) ** gamma * nll).mean()


@tinylab.metric(better="higher")
def top2(labels, probabilities):
    """Fraction of images whose class is among the two most probable."""
    best = np.argsort(-probabilities, axis=1)[:, :2]
    return (best == labels[:, None]).any(axis=1).mean()


@tinylab.augmentation
def speckle(images, generator, amount: float = 0.1):
    """Noise."""
    return images + amount * torch.randn(images.shape, generator=generator, device=images.device)
''',
}
SCRIPT = """from tinylab.cli import main

if __name__ == "__main__":
    main()
"""
TRAIN = [
    "train", "code=[tiny.py,parts.py]", "model=tiny", "dataset=stripes", "loss=focal",
    "augment=speckle", "threads=1",
]  # fmt: skip


class Student:
    """A folder, and the command ``tinylab`` of an environment that knows no checkout."""

    def __init__(self, program: Path, folder: Path) -> None:
        self.program, self.folder = program, folder
        theirs = ("PYTHONPATH", "TINYLAB_CODE", "TINYLAB_CACHE", "TINYLAB_DATA")
        self.environment = {name: os.environ[name] for name in os.environ if name not in theirs}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(self.program), *arguments], cwd=self.folder, env=self.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def types(self, *arguments: str) -> str:
        """What a command shows; it must succeed."""
        with self.start(*arguments) as process:
            shown, _ = process.communicate()
        assert process.returncode == 0, shown
        return shown

    def results(self, outputs: str = "outputs") -> dict[str, dict]:
        """What is in result.json, by the name of the run."""
        files = (self.folder / outputs / "runs").glob("*/result.json")
        return {file.parent.name: json.loads(file.read_text()) for file in files}


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory, costly: None) -> Student:
    """With four finished runs of a sweep of two widths and two seeds."""
    home = tmp_path_factory.mktemp("student")
    there = Student(installed(home), home / "work")
    there.folder.mkdir()
    for name, text in FILES.items():
        (there.folder / name).write_text(text)
    sweep = [*TRAIN, "train.epochs=3", "jobs=2"]
    shown = there.types("train", "-m", *sweep[1:], "model.width=2,4", "seed=0,1")
    assert "sweep of 4 jobs over model.width, seed" in shown
    return there


def installed(home: Path) -> Path:
    """The command of an environment with the wheel, and with the libraries of this one."""
    wheels, environment = home / "wheels", home / "environment"
    by_uv = ["uv", "build", "--offline", "--wheel", "-o", str(wheels)]
    by_hatchling = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(wheels)]
    build = by_hatchling if find_spec("hatchling") else by_uv
    # The tests' own cache folder has nothing of uv's in it.
    outside = {name: value for name, value in os.environ.items() if name != "XDG_CACHE_HOME"}
    try:
        subprocess.run(build, cwd=CHECKOUT, check=True, capture_output=True, env=outside)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no wheel can be built here: hatchling is not installed")
    venv.create(environment)
    [site] = environment.glob("lib/python*/site-packages")
    [wheel] = wheels.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(site)  # which is all that an installer does, and takes 0.1 s
    libraries = Path(torch.__file__).parents[1]
    (site / "libraries_of_the_tests.pth").write_text(f"{libraries}\n")
    program = environment / "bin" / "tinylab"
    python = program.with_name("python")
    program.write_text(f"#!{python}\n{SCRIPT}")
    program.chmod(0o755)
    return program


def test_what_is_installed_is_the_wheel(student: Student) -> None:
    where = "import tinylab; print(tinylab.__file__)"
    python = student.program.with_name("python")
    completed = subprocess.run(
        [python, "-P", "-c", where], env=student.environment, capture_output=True, text=True
    )
    assert Path(completed.stdout.strip()).is_relative_to(student.program.parents[1])


def test_own_keys_are_in_the_help_and_a_typo_is_refused(student: Student) -> None:
    shown = student.types(*TRAIN, "--help")
    for key in ("model.dropout=0.1", "loss.gamma=2.0", "augment.amount=0.1", "dataset.noise=0.9"):
        assert key in shown
    with student.start(*TRAIN, "model.widht=3") as process:
        output, _ = process.communicate()
    assert process.returncode == 1
    assert "did you mean 'model.width'?" in output


def test_runs_are_listed_compared_and_reported_without_the_code(student: Student) -> None:
    away = student.folder / "away"
    away.mkdir()
    files = [student.folder / name for name in FILES]
    for file in files:
        file.rename(away / file.name)
    try:
        listed = student.types("list", "test_top2>0", "--sort", "-test_top2")
        compared = student.types("compare", "outputs", "--metric", "test_top2")
        student.types("report", "outputs")
    finally:
        for file in files:
            (away / file.name).rename(file)
    assert listed.count("stripes-tiny-") >= 4
    assert "model." in compared
    assert "ranked by validation top2" in compared
    assert "top2" in (student.folder / "report.html").read_text()


@pytest.fixture(scope="module")
def run(student: Student) -> str:
    """The folder of a finished run."""
    configs = {name: result["config"] for name, result in student.results().items()}
    [name] = [name for name, config in configs.items()
              if config["model"]["width"] == 4 and config["seed"] == 0]  # fmt: skip
    return f"outputs/runs/{name}"


def test_images_are_classified_and_a_run_is_evaluated(student: Student, run: str) -> None:
    pixels = np.zeros((1, 12, 12), np.uint8)
    pixels[:, 8:] = 255
    (student.folder / "low.png").write_bytes(png_bytes(pixels))
    shown = student.types("predict", run, "low.png")
    assert "low.png" in shown
    assert any(name in shown for name in ("top", "middle", "bottom"))
    accuracy = student.results()[Path(run).name]["test"]["accuracy"]
    evaluated = student.types("evaluate", run)
    assert f"accuracy {accuracy:.2%}" in evaluated
    assert "top2 " in evaluated


def test_a_network_is_exported_as_onnx(student: Student, run: str) -> None:
    student.types("export", run, "--to", "onnx", "--out", "net.onnx")
    session = onnxruntime.InferenceSession(student.folder / "net.onnx")
    [logits] = session.run(None, {"images": np.zeros((2, 1, 12, 12), np.uint8)})
    assert logits.shape == (2, 3)


def test_a_run_trained_again_from_its_folder_and_killed_is_verified(
    student: Student, run: str
) -> None:
    shown = student.types("verify", run, "--kills", "1", "--epochs", "20", "--seed", "3")
    assert "s of training\n" in shown, "killed before its end"
    assert "kills: weights, predictions and all metrics" in shown


def test_an_edit_outdates_the_runs_of_the_file(student: Student) -> None:
    file = student.folder / "blocks.py"
    mine = [*TRAIN, "train.epochs=3", "model.width=4", "seed=0"]
    assert "already finished" in student.types(*mine)
    file.write_text(FILES["blocks.py"].replace("nn.ReLU", "nn.GELU"))
    try:
        assert "blocks.py has changed since" in student.types(*mine).replace("tiny.py or ", "")
    finally:
        file.write_text(FILES["blocks.py"])
