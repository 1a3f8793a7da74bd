"""Checkpoints that are damaged, foreign, half written, or without room on the disk."""

import errno
import functools
import itertools
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tinylab.errors import Stopped, UserError
from tinylab.training import checkpoint
from tinylab.training.checkpoint import CheckpointError, Checkpoints, State
from training_kit import (
    RUN_ID,
    Lab,
    Watch,
    checkpoints_in,
    differences,
)

OTHER_RUN = "tiny-other-9876543210"


def numbered(number: int) -> State:
    """A state that differs from all others."""
    return {"number": number, "weights": torch.full((300,), float(number)), "rows": [{"a": None}]}


def save(folder: Path, *numbers: int) -> Checkpoints:
    checkpoints = checkpoints_in(folder)
    for number in numbers:
        checkpoints.save_last(numbered(number))
    return checkpoints


def loaded(folder: Path, run_id: str = RUN_ID) -> int | None:
    """The number of the state that is gone on from."""
    state = checkpoints_in(folder, run_id).load_last()
    return None if state is None else state["number"]


# ---------------------------------------------------------------- what is saved


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    save(tmp_path, 1)
    state = checkpoint.load(tmp_path / "last.ckpt")
    about = {"format": "tinylab checkpoint", "version": 1, "run_id": RUN_ID}
    assert differences(state, {**about, **numbered(1)}) == []


def test_a_whole_training_loads_without_trusting_the_file(tmp_path: Path) -> None:
    lab = Lab(train={"ema": 0.9, "precision": "float16"})
    with pytest.raises(Stopped):
        lab.run(tmp_path, Watch(steps=6))
    training = lab.run(tmp_path)
    for name in ("last.ckpt", "previous.ckpt", "best.ckpt"):
        state = torch.load(tmp_path / name, weights_only=True)
        assert state["run_id"] == RUN_ID
    assert differences(dict(state["model"]), dict(training.tested().state_dict())) == []


def test_weights_are_saved_in_the_ordinary_order(tmp_path: Path) -> None:
    saved = []
    for channels_last in (True, False):
        lab = Lab(train={"channels_last": channels_last}, channels=3)
        checkpoints_in(tmp_path).save_best(dict(lab.build().state_dict()))
        saved.append(checkpoint.load(tmp_path / "best.ckpt")["model"])
    assert saved[0]["conv.weight"].shape == (4, 3, 3, 3)
    assert differences(*saved) == []


def test_the_stamp_goes_into_every_resume_point(tmp_path: Path) -> None:
    checkpoints = checkpoints_in(tmp_path)
    checkpoints.stamp = {"fingerprint": "abc"}
    checkpoints.save_last(numbered(1))
    assert checkpoint.load(tmp_path / "last.ckpt")["fingerprint"] == "abc"


def test_the_last_and_the_one_before_are_kept(tmp_path: Path) -> None:
    save(tmp_path, 1, 2, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.ckpt", "previous.ckpt"]
    assert checkpoint.load(tmp_path / "last.ckpt")["number"] == 3
    assert checkpoint.load(tmp_path / "previous.ckpt")["number"] == 2


def test_an_empty_folder_has_no_checkpoint(tmp_path: Path) -> None:
    assert loaded(tmp_path) is None
    assert loaded(tmp_path / "absent") is None


# ---------------------------------------------------------------- damage


def truncated(data: bytes) -> bytes:
    return data[: len(data) * 2 // 3]


def with_other_contents(data: bytes, **changes: Any) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.ckpt"
        path.write_bytes(data)
        state = checkpoint.load(path)
        torch.save({key: v for key, v in {**state, **changes}.items() if v is not None}, path)
        return path.read_bytes()


def a_zip(data: bytes) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("readme.txt", "not torch's")
        return path.read_bytes()


DAMAGE = {
    "truncated": truncated,
    "one byte short": lambda data: data[:-1],
    "empty": lambda data: b"",
    "text": lambda data: b"hello",
    "zeros": lambda data: bytes(len(data)),
    "a zip archive": a_zip,
    "of another run": functools.partial(with_other_contents, run_id=OTHER_RUN),
    "of no run": functools.partial(with_other_contents, run_id=None),
    "of another program": functools.partial(with_other_contents, format="lightning"),
    "of no program": functools.partial(with_other_contents, format=None),
    "of a future version": functools.partial(with_other_contents, version=2),
    "of no version": functools.partial(with_other_contents, version=None),
}
every_damage = pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())


@every_damage
def test_the_previous_checkpoint_is_used_and_a_line_says_so(
    damage: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = save(tmp_path, 1, 2).last
    last.write_bytes(damage(last.read_bytes()))
    assert loaded(tmp_path) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("last.ckpt is not usable (")


@every_damage
def test_without_a_whole_one_training_starts_over(damage: Any, tmp_path: Path) -> None:
    checkpoints = save(tmp_path, 1, 2)
    for path in (checkpoints.last, checkpoints.previous):
        path.write_bytes(damage(path.read_bytes()))
    assert loaded(tmp_path) is None


def test_a_pickle_that_would_run_code_is_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "trapped",)

    torch.save({"format": checkpoint.FORMAT, "version": 1, "x": Trap()}, tmp_path / "last.ckpt")
    assert loaded(tmp_path) is None
    assert not (tmp_path / "trapped").exists()


def test_a_folder_in_its_place_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").mkdir()
    assert loaded(tmp_path) is None


@functools.cache
def whole_file() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return save(Path(folder), 1).last.read_bytes()


@given(st.data())
def test_a_flipped_bit_is_noticed_or_harmless(data: st.DataObject) -> None:
    damaged = bytearray(whole_file())
    position = data.draw(st.integers(0, len(damaged) - 1))
    damaged[position] ^= 1 << data.draw(st.integers(0, 7))
    with tempfile.TemporaryDirectory() as folder:
        whole, path = Path(folder) / "whole.ckpt", Path(folder) / "last.ckpt"
        whole.write_bytes(whole_file())
        path.write_bytes(damaged)
        try:
            state = checkpoint.load(path)
        except CheckpointError:
            return
        assert differences(state, checkpoint.load(whole)) == []


@given(st.data())
def test_a_file_cut_anywhere_is_noticed(data: st.DataObject) -> None:
    length = data.draw(st.integers(0, len(whole_file()) - 1))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "last.ckpt"
        path.write_bytes(whole_file()[:length])
        with pytest.raises(CheckpointError):
            checkpoint.load(path)


# ---------------------------------------------------------------- killed while saving


@pytest.mark.parametrize("saved_before", [0, 1, 2, 3])
@pytest.mark.parametrize("renames", range(4))
def test_killed_while_saving_leaves_this_state_or_the_one_before(
    saved_before: int, renames: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = save(tmp_path, *range(saved_before))
    done, rename = itertools.count(), Path.replace

    def dying(self: Path, target: Path) -> Path:
        if next(done) == renames:
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", dying)
        try:
            checkpoints.save_last(numbered(saved_before))
        except KeyboardInterrupt:
            expected = saved_before if renames > 0 else saved_before - 1
        else:
            expected = saved_before
    assert loaded(tmp_path) == (expected if expected >= 0 else None)
    save(tmp_path, 99)
    assert loaded(tmp_path) == 99
    save(tmp_path, 100)
    (tmp_path / "last.ckpt").write_bytes(b"")
    assert loaded(tmp_path) == 99


# ---------------------------------------------------------------- no room


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_full_disk_leaves_the_old_checkpoint_whole(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = save(tmp_path, 1, 2)

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(number, "no room")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(UserError, match=r"cannot be written: no room\n  free some space"):
            checkpoints.save_last(numbered(3))
    assert loaded(tmp_path) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.ckpt", "previous.ckpt"]


def test_a_rename_that_fails_is_reported_as_a_disk_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints, rename = save(tmp_path, 1), Path.replace

    def failing(self: Path, target: Path) -> Path:
        if self.name == "last.ckpt":
            raise OSError(errno.EIO, "input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(UserError, match=r"last\.ckpt: cannot be written"):
        checkpoints.save_last(numbered(2))
    assert loaded(tmp_path) == 2  # it is there already, under another name
