"""A dataset and a model, added by docs/contributing.md to the letter, and edited afterwards."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from server_kit import LIBRARIES, Server
from tinylab.config.folders import conf_folder
from tinylab.config.option import PACKAGE

CONTRIBUTING = Path(__file__).parents[2] / "docs" / "contributing.md"


class Fork:
    """A copy of the package with the page's two modules in it, and a shell in an empty folder."""

    def __init__(self, folder: Path) -> None:
        self.source, self.desk = folder / "src", folder / "desk"
        shutil.copytree(PACKAGE, self.source / "tinylab")
        shutil.copytree(PACKAGE.parent / "hydra_plugins", self.source / "hydra_plugins")
        shutil.copytree(conf_folder(), folder / "conf")
        self.desk.mkdir()
        for block in re.findall(
            r"```python\n# (src/.*?)\n(.*?)```", CONTRIBUTING.read_text(), re.DOTALL
        ):
            (folder / block[0]).write_text(block[1])
        self.write_shapes()
        environment = {
            **os.environ, "PYTHONPATH": str(self.source), "TINYLAB_DATA": str(self.desk),
            "TINYLAB_CACHE": str(self.desk / "cache"),
        }  # fmt: skip
        self.server = Server(LIBRARIES, environment)

    def write_shapes(self) -> None:
        generator = np.random.default_rng(0)
        labels = np.arange(60) % 2
        images = generator.integers(0, 60, (60, 1, 16, 16), dtype=np.uint8)
        images[labels == 1, :, 4:12, 4:12] = 220
        np.savez(self.desk / "shapes.npz", images=images, labels=labels)

    def run(self, *words: object, code: int = 0) -> str:
        screen = self.desk / "screen.log"
        screen.unlink(missing_ok=True)
        ended = self.server.run(self.desk, [str(word) for word in words])
        said = screen.read_text()
        assert ended == code, said
        return said

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.source / "tinylab" / file
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    def train(self, *words: str) -> dict[str, str]:
        """The result of a training, and what was said."""
        said = self.run("train", "train.epochs=2", "threads=1", *words)
        [name] = set(re.findall(r"outputs/runs/([\w.-]+?)(?=[;\s])", said))
        result = json.loads((self.desk / "outputs" / "runs" / name / "result.json").read_text())
        return {
            "said": said, "name": name, "weights": result["weights_sha256"],
            "fingerprint": result["dataset"]["fingerprint"],
        }  # fmt: skip


@pytest.fixture(scope="module")
def fork(costly: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fork]:
    made = Fork(tmp_path_factory.mktemp("fork"))
    yield made
    made.server.close()


def test_both_recipes_are_complete_and_every_command_knows_them(fork: Fork) -> None:
    said = fork.run("train", "--help")
    assert "dataset=arrays|digits|folder|mnist|scene15|shapes|torchvision" in said
    assert "model=baseline|linear|mlp" in said
    assert "model.scale=" in fork.run("completion", "answer", "tinylab train model=linear model.")
    assert "shapes, fingerprint" in fork.run("doctor")
    said = fork.run("train", "model=linear", "model.scale=0", code=1)
    assert "model.scale=0.0: expected a number above 0" in said
    said = fork.run("train", "dataset=shapes", "dataset.outlinde=true", code=1)
    assert "did you mean 'dataset.outlined'" in said


def test_an_edited_reader_never_gives_stale_pixels(fork: Fork) -> None:
    fork.write_shapes()
    first = fork.train("dataset=shapes", "model=linear")
    assert "already finished" in fork.train("dataset=shapes", "model=linear")["said"]
    digits = fork.train("model=linear")
    fork.edit("data/shapes.py", 'arrays["images"], ', '255 - arrays["images"], ')
    second = fork.train("dataset=shapes", "model=linear")
    assert second["name"] == first["name"]
    assert "changed since" in second["said"]
    assert second["fingerprint"] != first["fingerprint"]
    assert second["weights"] != first["weights"]
    assert "already finished" in fork.train("model=linear")["said"], "other data, other code"
    assert digits["fingerprint"] != second["fingerprint"]


def test_an_edited_model_outdates_its_own_runs_and_no_others(fork: Fork) -> None:
    fork.train("model=linear", "seed=1")
    fork.train("model=mlp", "seed=1")
    fork.edit("models/linear.py", "std=0.01 * scale", "std=0.02 * scale")
    assert "already finished" in fork.train("model=mlp", "seed=1")["said"]
    assert "changed since" in fork.train("model=linear", "seed=1")["said"]
    fork.edit("models/linear.py", "layer = nn", "# the only layer\n    layer = nn")
    assert "already finished" in fork.train("model=linear", "seed=1")["said"]


def test_a_network_of_the_new_dataset_classifies_files(fork: Fork) -> None:
    run = fork.train("dataset=shapes", "model=linear", "seed=2")
    with np.load(fork.desk / "shapes.npz") as arrays:
        square = arrays["images"][1, 0]
    cv2.imwrite(str(fork.desk / "square.png"), square)
    said = fork.run("predict", f"outputs/runs/{run['name']}", "square.png", "--top", 1)
    assert re.search(r"(circle|square) +\d+\.\d\d%", said)
