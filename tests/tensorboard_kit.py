"""What TensorBoard shows: its event files, and a running server."""

import contextlib
import importlib.util
import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.version import Version

ADDRESS = re.compile(r"http://[\d.:]+")


def read_scalars(folder: Path) -> dict[str, list[tuple[int, float, float]]]:
    """Curve -> its points (step, value, time), from the one event file of each stream of a run.

    The tag ``loss`` of the stream ``train`` is the curve ``loss/train``.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    by_key: dict[str, list[tuple[int, float, float]]] = {}
    for stream in ("", "train", "val"):
        files = list((folder / stream).glob("events.out.tfevents.*"))
        assert len(files) <= 1, "one event file for each stream"
        for file in files:
            events = EventAccumulator(str(file), size_guidance={"scalars": 0})
            events.Reload()
            for tag in events.Tags()["scalars"]:
                plain = not stream or tag.startswith(("optim/", "speed/"))
                by_key[tag if plain else f"{tag}/{stream}"] = [
                    (point.step, point.value, point.wall_time) for point in events.Scalars(tag)
                ]
    return by_key


def can_serve() -> bool:
    """Return whether the installed TensorBoard starts beside the installed setuptools."""
    is_old = Version(version("tensorboard")) < Version("2.21")
    return not is_old or importlib.util.find_spec("pkg_resources") is not None


@contextlib.contextmanager
def serve_tensorboard(folder: Path, num_runs: int) -> Iterator[str]:
    """The address of a TensorBoard that shows ``folder``, once it has found all runs in it."""
    if not can_serve():
        pytest.skip("TensorBoard before 2.21 needs pkg_resources, of setuptools before 82")
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder)]
    process = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", "0", "--load_fast", "false"],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        [address] = next(result for line in process.stderr if (result := ADDRESS.findall(line)))
        for _ in range(200):  # it reads the folder in the background
            if len(fetch(f"{address}/data/runs")) == num_runs:  # type: ignore[arg-type]
                break
            time.sleep(0.2)
        yield address
    finally:
        process.kill()  # SIGTERM is caught, and now and then forgotten
        process.wait()
        process.stderr.close()


def fetch(url: str, body: object = None) -> object:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)
