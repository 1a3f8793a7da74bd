"""Device, threads, seeds, signals, files."""

import contextlib
import json
import os
import signal
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tinylab.errors import UserError
from tinylab.system import files, machine, runtime, signals

CPU = torch.device("cpu")


def test_auto_is_the_best_device_there_is_and_an_absent_one_is_refused() -> None:
    device = runtime.choose_device("auto")
    assert device.type == ("cuda" if torch.cuda.is_available() else device.type)
    assert runtime.choose_device("cpu") == torch.device("cpu")
    with pytest.raises(UserError, match=r"device=cuda:99: not available \(available: .*cpu"):
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


@pytest.mark.parametrize("deterministic", [True, False])
def test_determinism_is_switched_on_and_off(deterministic: bool) -> None:
    with runtime.settings(CPU, None, deterministic):
        assert torch.are_deterministic_algorithms_enabled() == deterministic
        assert torch.backends.cudnn.benchmark == (not deterministic)
        assert ("CUBLAS_WORKSPACE_CONFIG" in os.environ) == deterministic


def test_threads_are_one_a_core_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with runtime.settings(CPU, 1, True):
        assert torch.get_num_threads() == 1
    with runtime.settings(CPU, None, True):
        assert torch.get_num_threads() == len(os.sched_getaffinity(0))


def state_of_torch() -> list[Any]:
    return [
        torch.get_num_threads(), torch.get_deterministic_debug_mode(),
        torch.backends.cudnn.benchmark, torch.utils.deterministic.fill_uninitialized_memory,
        torch.get_rng_state().tolist(), dict(os.environ),
    ]  # fmt: skip


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("mode", ["default", "warn", "error"])
@pytest.mark.parametrize("flag", [True, False])
def test_torch_is_left_as_it_was_also_by_an_error(
    threads: int, mode: str, flag: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", flag)
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", flag)
    if flag:
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode(mode)
    try:
        expected = state_of_torch()
        with contextlib.suppress(KeyError), runtime.settings(CPU, 2, not flag):
            torch.manual_seed(5)
            assert state_of_torch() != expected
            raise KeyError
        assert state_of_torch() == expected
    finally:
        torch.set_num_threads(before)
        torch.set_deterministic_debug_mode("default")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_current_card_and_its_generators_are_left_as_they_were() -> None:
    card, states = torch.cuda.current_device(), torch.cuda.get_rng_state_all()
    with runtime.settings(torch.device("cuda", torch.cuda.device_count() - 1), 1, True):
        assert torch.cuda.current_device() == torch.cuda.device_count() - 1
        torch.manual_seed(5)
        assert not all(map(torch.equal, torch.cuda.get_rng_state_all(), states))
    assert torch.cuda.current_device() == card
    assert all(map(torch.equal, torch.cuda.get_rng_state_all(), states))


def test_a_variable_of_the_users_is_kept_and_one_of_ours_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TINYLAB_TEST", "theirs")
    with machine.default_variable("TINYLAB_TEST", "ours"):
        assert os.environ["TINYLAB_TEST"] == "theirs"
    assert os.environ["TINYLAB_TEST"] == "theirs"
    monkeypatch.delenv("TINYLAB_TEST")
    with machine.default_variable("TINYLAB_TEST", "ours"):
        assert os.environ["TINYLAB_TEST"] == "ours"
    assert "TINYLAB_TEST" not in os.environ


def test_the_first_signal_is_reported_and_a_second_ctrl_c_leaves_at_once() -> None:
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
    with pytest.raises(UserError, match="name another file") as caught:
        files.write_text(tmp_path / "file" / "below", "x", files.NAMED)
    assert "outputs=" not in str(caught.value), "a key that the command does not have"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@settings(max_examples=20)
@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_json_reads_back_and_has_a_line_for_each_list_of_plain_values(
    value: dict[str, Any],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.json"
        try:
            files.write_json(path, {**value, "rows": [[1, 2], [3, 4]]})
        except ValueError:  # infinite
            return
        text = path.read_text(encoding="utf-8")
    assert json.loads(text) == {**value, "rows": [[1, 2], [3, 4]]}
    assert '\n  "rows": [\n    [1, 2],\n    [3, 4]\n  ]\n' in text
