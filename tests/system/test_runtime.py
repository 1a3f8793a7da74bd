"""Device, threads, seeds, signals, files."""

import contextlib
import json
import os
import signal
from pathlib import Path

import pytest
import torch

from tinylab.errors import UserError
from tinylab.system import files, runtime, signals


def test_auto_is_the_best_device_there_is_and_an_absent_one_is_refused() -> None:
    device = runtime.choose_device("auto")
    assert device.type == ("cuda" if torch.cuda.is_available() else device.type)
    assert runtime.choose_device("cpu") == torch.device("cpu")
    with pytest.raises(UserError, match=r"device=cuda:99: absent; this machine has .*cpu"):
        runtime.choose_device("cuda:99")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_cuda_means_the_first_card() -> None:
    assert runtime.choose_device("cuda") == torch.device("cuda:0")


def test_seeds_of_streams_are_golden_and_unrelated() -> None:
    assert runtime.derive_seed(0, "order", 0) == 3991725939186754870
    seeds = {
        runtime.derive_seed(seed, stream, number)
        for seed in range(5)
        for stream in ("order", "augment", "dropout", "weights")
        for number in range(50)
    }
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_determinism_is_switched_on_and_off() -> None:
    runtime.set_determinism(True)
    assert torch.are_deterministic_algorithms_enabled()
    runtime.set_determinism(False)
    assert not torch.are_deterministic_algorithms_enabled()


def test_threads_are_one_a_core_unless_asked_for() -> None:
    assert runtime.set_threads(1) == torch.get_num_threads() == 1
    assert runtime.set_threads(None) == len(os.sched_getaffinity(0))


def test_the_first_signal_is_told_and_a_second_ctrl_c_leaves_at_once() -> None:
    before = signal.getsignal(signal.SIGINT)
    with signals.watch() as stop_signal:
        assert stop_signal() is None
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop_signal() == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == before


def test_a_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "file.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(path, {"a": float("nan")})
    with contextlib.suppress(RuntimeError), files.atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in path.parent.iterdir()] == ["file.json"]


def test_what_cannot_be_written_is_said_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written(.|\n)*outputs=FOLDER"):
        files.write_text(tmp_path / "file" / "below", "x")
