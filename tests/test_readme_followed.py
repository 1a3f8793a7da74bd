"""The README's commands, typed one after another by a newcomer in an empty folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tinylab.store.folder import RunFolder

pytestmark = pytest.mark.costly

README = Path(__file__).parents[1] / "README.md"
ELSEWHERE = ("python3 -m venv", "hydra/launcher=", "benchmarks")  # CI's first step; a cluster
SLOW = (
    "dataset=mnist", "dataset=folder dataset.root=photos", "experiment=", "split.seed=0,1,2,3,4",
    "--pair optim.lr", "sweep.trials", "--to onnx",
)  # fmt: skip
ASKS = "tinylab remove"  # and nobody is there to answer


def commands() -> list[str]:
    """What stands in the README's shell blocks, without comments, a command a line."""
    blocks = re.findall(r"^```sh\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    typed = [re.sub(r"\s+#\s.*", "", line).strip() for line in lines]
    return [line for line in typed if line and not any(word in line for word in ELSEWHERE)]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the README speaks of."""
    folder = tmp_path_factory.mktemp("desk")
    generator = np.random.default_rng(0)
    for root, names in (("photos", ("kitchen", "forest", "beach")), ("more", "0123456789")):
        for name in names:
            (folder / root / name).mkdir(parents=True)
            for number in range(20 if root == "photos" else 3):
                noise = generator.integers(0, 256, (40, 40, 3), dtype=np.uint8)
                cv2.imwrite(str(folder / root / name / f"IMG_{number}.png"), noise)
    page = np.full((120, 100, 3), 235, np.uint8)
    cv2.line(page, (50, 20), (50, 100), (40, 30, 30), 9)
    cv2.imwrite(str(folder / "scan.jpg"), page)
    return folder


def filled(command: str, desk: Path) -> str:
    """The command with real runs in place of RUN, A, B, ONE and OTHER, and a real sweep."""
    folders = sorted((desk / "outputs" / "runs").glob("digits-baseline-*"))
    names = [folder.name for folder in folders if RunFolder(folder).result() is not None]
    for word, name in zip(("RUN", "A", "ONE", "B", "OTHER"), (*names, *names), strict=False):
        command = re.sub(rf"runs/{word}\b", f"runs/{name}", command)
    return command.replace("sweeps/SWEEP", "sweeps/a")


def follow(command: str, desk: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    line = ["bash", "-c", filled(command, desk)]
    environment = {**os.environ, "PATH": path}
    if command.startswith("tensorboard"):
        serve(line, desk, environment)
        return
    done = subprocess.run(
        line, cwd=desk, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    said = f"{command}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in said, said
    assert done.returncode == (1 if command.startswith(ASKS) else 0), said


def serve(line: list[str], desk: Path, environment: dict[str, str]) -> None:
    """Start TensorBoard, which goes on until it is stopped, and see that it serves."""
    line[-1] = f"exec {line[-1]} --port 0"
    with subprocess.Popen(
        line,
        cwd=desk,
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as server:
        assert server.stderr is not None
        assert any("http://" in said for said in server.stderr)
        server.kill()  # SIGTERM in its first moments is caught, and now and then forgotten


def test_every_quick_command_of_the_readme_works(desk: Path) -> None:
    for command in commands():
        if not any(word in command for word in SLOW):
            follow(command, desk)


@pytest.mark.slow
def test_every_slow_command_of_the_readme_works(desk: Path, real_data: Path) -> None:
    follow("tinylab train", desk)
    follow("tinylab train seed=1", desk)
    for command in commands():
        if any(word in command for word in SLOW):
            follow(command, desk)
