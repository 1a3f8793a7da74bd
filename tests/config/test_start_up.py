"""What help, completion and refusals import: nothing heavy, and of the user's code nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

MODEL = """raise SystemExit("executed")
import tinylab

@tinylab.model
class Tiny:
    def __init__(self, image_shape, num_classes, width: int = 16): ...
"""
HEAVY = {"torch", "numpy", "importlib.metadata"}
PROGRAM = "import sys; from tinylab import cli; cli.run(sys.argv[1:]); print(*sys.modules)"


@pytest.mark.costly
@pytest.mark.parametrize(
    "own", [["code=tiny.py", "model=tiny"], ["model=torchvision.models:vgg11"]]
)
@pytest.mark.parametrize(
    ("command", "also"),
    [
        (["train", "--help"], {"hydra", "yaml", "tomllib"}),
        (["completion", "answer", "tinylab", "train"], {"hydra", "yaml", "tomllib"}),
        (["train", "optim.lrr=1"], set()),
    ],
)
def test_a_quick_answer_imports_nothing_heavy(
    tmp_path: Path, command: list[str], also: set[str], own: list[str]
) -> None:
    (tmp_path / "tiny.py").write_text(MODEL)
    rest = [*own, "model.w"] if command[0] == "completion" else own
    asked = [sys.executable, "-c", PROGRAM, *command, *rest]
    completed = subprocess.run(asked, capture_output=True, text=True, check=True, cwd=tmp_path)
    *lines, loaded = completed.stdout.splitlines()
    assert not (HEAVY | also) & {*loaded.split()}
    assert "executed" not in completed.stdout + completed.stderr
    assert "model.w" in "\n".join(lines) or "did you mean" in completed.stderr


@pytest.mark.costly
def test_predict_without_a_file_imports_nothing_heavy(tmp_path: Path) -> None:
    asked = [sys.executable, "-c", PROGRAM, "predict", "outputs/runs/RUN"]
    completed = subprocess.run(asked, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "no image files given" in completed.stderr
    assert not HEAVY & {*completed.stdout.split()}
