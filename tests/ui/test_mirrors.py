"""Runs in MLflow and Weights & Biases: what TensorBoard gets, live and afterwards, at no risk."""

import contextlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
import types
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from run_folders import config
from tinylab import cli
from tinylab.config.identity import run_id
from tinylab.config.metrics import METRICS
from tinylab.ui import mirrors
from tinylab.ui.tensorboard import TAGS

Capture = pytest.CaptureFixture[str]
TINY = ["train.epochs=2", "train.batch_size=256", "model=mlp", "threads=1"]


class Kept:
    """A service that keeps what it is sent, and fails on request."""

    def __init__(self, fails_at: str = "") -> None:
        self.fails_at = fails_at
        self.keys: dict[str, Any] = {}
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.finals: dict[str, float] = {}
        self.figures: list[str] = []
        self.ended = ""

    def open(self, project: str, name: str, keys: dict[str, Any]) -> "Kept":
        self.fail("open")
        self.keys = {"run": name, **keys}
        return self

    def fail(self, place: str) -> None:
        if place == self.fails_at:
            raise ConnectionError("nobody answers\nfor long")

    def log(self, values: Mapping[str, float], step: int, time: float) -> None:
        self.fail("log")
        self.rows.append((step, dict(values)))

    def finish(self, values: Mapping[str, float], step: int, figures: Sequence[Path]) -> None:
        self.fail("finish")
        self.finals, self.figures = dict(values), [each.name for each in figures]
        self.ended = "finished"

    def close(self) -> None:
        self.ended = "closed"


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Kept:
    """MLflow, replaced by one that keeps what it is sent."""
    kept = Kept()
    result = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: True if name == "mlflow" else result(name)
    )
    module = types.SimpleNamespace(Backend=kept.open)
    monkeypatch.setitem(sys.modules, "tinylab.ui.mirrors.to_mlflow", module)
    return kept


def train(outputs: Path, *words: str) -> Path:
    assert cli.run(["train", *TINY, f"outputs={outputs}", *words]) == 0
    [folder] = (outputs / "runs").glob("digits-*")
    return folder


def test_a_tracker_changes_no_run_id() -> None:
    assert run_id(config()) == run_id(config(tracker="mlflow"))


def test_a_missing_extra_is_refused_in_two_lines(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirrors.importlib.util, "find_spec", lambda name: None)
    assert cli.run(["train", *TINY, f"outputs={tmp_path}", "tracker=wandb"]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines == ["tinylab: tracker=wandb: the package wandb is not installed",
                     "  pip install 'tinylab[wandb]'"]  # fmt: skip
    assert not (tmp_path / "runs").exists()


@pytest.mark.costly
def test_the_service_gets_what_tensorboard_gets_live_and_afterwards(
    service: Kept, tmp_path: Path, capsys: Capture
) -> None:
    folder = train(tmp_path, "tracker=mlflow")
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    expected = [
        (row["step"], {tag: row[name] for name, tag in TAGS.items() if row[name] is not None})
        for row in rows
    ]
    result = json.loads((folder / "result.json").read_text())
    finals = {each.tag: result[each.path[0]][each.path[1]] for each in METRICS.values()
              if each.tag}  # fmt: skip
    first = service
    assert first.rows == expected
    assert first.finals == finals
    assert first.figures == ["curves.png", "confusion.png"]
    assert first.ended == "finished"
    assert first.keys["run"] == folder.name
    assert first.keys["model"] == "mlp"
    service.rows, service.finals, service.ended = [], {}, ""
    assert cli.run(["sync", str(tmp_path), "--to", "mlflow"]) == 0
    assert "1 of 1 runs sent to MLflow" in capsys.readouterr().out
    assert (service.rows, service.finals, service.ended) == (expected, finals, "finished")


@pytest.mark.costly
@pytest.mark.parametrize("place", ["open", "log", "finish"])
def test_a_service_that_fails_costs_no_training(
    place: str, service: Kept, digits_run: Path, tmp_path: Path, capsys: Capture
) -> None:
    plain = json.loads((train(tmp_path / "plain") / "result.json").read_text())
    service.fails_at = place
    capsys.readouterr()
    folder = train(tmp_path / "mirrored", "tracker=mlflow")
    said = capsys.readouterr().out
    assert said.count("no longer sending to MLflow (ConnectionError: nobody answers)") == 1
    mirrored = json.loads((folder / "result.json").read_text())
    assert mirrored["weights_sha256"] == plain["weights_sha256"]
    assert folder.name == plain["run_id"]
    assert cli.run(["sync", str(folder), "--to", "mlflow"]) == 1
    assert "1 of 1 runs could not be sent" in capsys.readouterr().err


@pytest.fixture
def mlflow_server(tmp_path: Path) -> Iterator[str]:
    """The address of MLflow's own server, with its store and its files in a folder."""
    pytest.importorskip("mlflow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1",
               "--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db",
               "--artifacts-destination", str(tmp_path / "artifacts")]  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    with (tmp_path / "server.log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        for _ in range(240):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/health"):
                break
            assert server.poll() is None, (tmp_path / "server.log").read_text()
            time.sleep(0.5)
        yield address
    finally:
        os.killpg(server.pid, signal.SIGTERM)  # with the processes that it has started
        server.wait(60)


@pytest.mark.costly
def test_mlflows_own_server_has_the_run(
    mlflow_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    folder = train(tmp_path, "tracker=mlflow")
    assert cli.run(["sync", str(folder), "--to", "mlflow"]) == 0
    client = MlflowClient()
    experiment = client.get_experiment_by_name("tinylab")
    [run] = client.search_runs([experiment.experiment_id])
    result = json.loads((folder / "result.json").read_text())
    assert run.info.run_name == folder.name
    assert run.info.status == "FINISHED"
    assert run.data.params["model"] == "mlp"
    assert run.data.metrics[METRICS["test_accuracy"].tag] == pytest.approx(
        result["test"]["accuracy"]
    )
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    curve = client.get_metric_history(run.info.run_id, "loss/train")
    assert [(point.step, point.value) for point in curve] == [
        (row["step"], pytest.approx(row["train_loss"])) for row in rows
    ]
    names = {each.path for each in client.list_artifacts(run.info.run_id)}
    assert names == {"curves.png", "confusion.png"}
    kept = Path(client.download_artifacts(run.info.run_id, "curves.png", str(tmp_path)))
    assert kept.read_bytes() == (folder / "curves.png").read_bytes()


@pytest.mark.costly
def test_wandb_writes_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    folder = train(tmp_path, "tracker=wandb")
    [written] = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert folder.name in written.name
    assert b"accuracy/val" in written.read_bytes()
