"""The commands of the README and of each page of docs, typed one after another in a folder."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from server_kit import typed
from tensorboard_kit import can_serve
from tinylab.store.folder import RunFolder

pytestmark = pytest.mark.costly

ROOT = Path(__file__).parents[1]
ELSEWHERE = (
    "python3 -m venv", ".venv/", ".ci/run", "TINYLAB_KILLS", "benchmarks",  # of a checkout
    "pip install",
    "hydra/launcher=",  # a cluster's
    ">> ~/.bashrc", "optuna-dashboard", "srun ",
)  # fmt: skip
SLOW = (
    "dataset=mnist", "train dataset=folder", "inspect dataset=", "cleaned", "-m dataset=folder",
    "train experiment=",
    "split.seed=0,1,2,3,4", "split.train_fraction", "sweeps/size", "--pair optim.lr",
    "sweep.trials", "sweep.zip", "sweep.settings", "sweep.exclude", "model.hidden=64,256",
    "--effect", "--to onnx", "tinylab verify", "tinylab work", "sweeps/cv",
)  # fmt: skip
ASKS = "tinylab remove"  # and nobody is there to answer
OWN_TESTS = ("own-code.md",)
README = ROOT / "README.md"


def commands(page: Path) -> list[str]:
    """What stands in the page's shell blocks, without comments, a command a line."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    typed = [re.sub(r"\s+#\s.*", "", line).strip() for line in lines]
    return [line for line in typed if line and not any(word in line for word in ELSEWHERE)]


def is_slow(command: str) -> bool:
    return any(word in command for word in SLOW)


def python_of(page: Path) -> list[tuple[str, str]]:
    """The page's blocks of Python, each with the file that its first line names, or an empty name.

    Those that belong into tinylab's source, and doctests, are not among them.
    """
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    files = [re.match(r"# (\S+\.py)\n", block) for block in blocks]
    named = [(file[1] if file else "", block) for file, block in zip(files, blocks, strict=True)]
    return [(name, block) for name, block in named if name[:4] != "src/" and block[:3] != ">>>"]


def quick_commands(page: Path) -> list[str]:
    """Those that end soon; the README's own are not typed again for another page."""
    known = [] if page == README else commands(README)
    return [line for line in commands(page) if not is_slow(line) and line not in known]


PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
PAGES = [page for page in PAGES if page.name not in OWN_TESTS]
TYPED = [page for page in PAGES if quick_commands(page)]
SCRIPTS = [page for page in PAGES if any(not name for name, _ in python_of(page))]


@pytest.fixture(scope="module")
def newcomers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the pages speak of, and no run."""
    folder = tmp_path_factory.mktemp("newcomers")
    generator = np.random.default_rng(0)
    for root, names in (("photos", ("kitchen", "forest", "beach")), ("more", "0123456789")):
        for name in names:
            (folder / root / name).mkdir(parents=True)
            for number in range(20 if root == "photos" else 3):
                noise = generator.integers(0, 256, (40, 40, 3), dtype=np.uint8)
                cv2.imwrite(str(folder / root / name / f"IMG_{number}.png"), noise)
    letters = folder / "letters"
    letters.mkdir()
    rows = ["path,label,writer"]
    for number in range(60):  # by ten writers, two letters
        writer, label = number % 10, "ab"[number // 30]
        name = f"writer{writer}_{number}.png"
        cv2.imwrite(str(letters / name), generator.integers(0, 256, (32, 32), dtype=np.uint8))
        rows.append(f"{name},{label},{writer}")
    (letters / "labels.csv").write_text("\n".join(rows))
    page = np.full((120, 100, 3), 235, np.uint8)
    cv2.line(page, (50, 20), (50, 100), (40, 30, 30), 9)
    cv2.imwrite(str(folder / "scan.jpg"), page)
    return folder


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of the commands."""
    with typed(tmp_path_factory.mktemp("bin")) as environment:
        yield environment


@pytest.fixture(scope="module")
def experienced(
    newcomers: Path, shell: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The same with a sweep of two runs, ``a``."""
    folder = tmp_path_factory.mktemp("experienced") / "desk"
    shutil.copytree(newcomers, folder)
    follow("tinylab train -m seed=0,1 train.epochs=2 name=a", folder, shell)
    return folder


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    return tmp_path / "desk"


def filled(command: str, desk: Path) -> str:
    """The command with real runs in place of RUN, A, B, ONE and OTHER, and a real sweep."""
    folders = sorted((desk / "outputs" / "runs").glob("digits-baseline-*"))
    names = [folder.name for folder in folders if RunFolder(folder).result() is not None]
    for pair in (("RUN",), ("A", "B"), ("ONE", "OTHER")):
        for word, name in zip(pair, names, strict=False):
            command = re.sub(rf"runs/{word}\b", f"runs/{name}", command)
    return re.sub(r"sweeps/(SWEEP|NAME|A|B)\b", "sweeps/a", command)


def follow(command: str, desk: Path, environment: dict[str, str]) -> None:
    line = ["bash", "-c", filled(command, desk)]
    if command.startswith("tensorboard"):
        if can_serve():
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


@pytest.mark.parametrize("page", TYPED, ids=lambda page: page.name)
def test_every_quick_command_of_a_page_works(
    page: Path, desk: Path, shell: dict[str, str], request: pytest.FixtureRequest
) -> None:
    start = "newcomers" if page == README else "experienced"
    shutil.copytree(request.getfixturevalue(start), desk)
    for name, block in python_of(page):
        if name:
            (desk / name).write_text(block)
    for command in quick_commands(page):
        follow(command, desk, shell)


@pytest.mark.parametrize("page", SCRIPTS, ids=lambda page: page.name)
def test_the_python_of_a_page_works(
    page: Path, desk: Path, shell: dict[str, str], experienced: Path
) -> None:
    shutil.copytree(experienced, desk)
    blocks = [block for name, block in python_of(page) if not name]
    (desk / "script.py").write_text(filled("\n".join(blocks), desk))
    follow("python script.py", desk, shell)


@pytest.mark.slow
def test_every_slow_command_of_the_pages_works(
    desk: Path, shell: dict[str, str], experienced: Path, real_data: Path
) -> None:
    shutil.copytree(experienced, desk)
    for name, block in (each for page in PAGES for each in python_of(page)):
        if name:
            (desk / name).write_text(block)
    for command in dict.fromkeys(line for page in PAGES for line in commands(page)):
        if is_slow(command):
            follow(command, desk, shell)
