"""Folders that two people share: rights, locks and leftovers of another user."""

import os
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tinylab.data import cache
from tinylab.data.arrays import Dataset, Source
from tinylab.errors import UserError
from tinylab.store.folder import RunFolder
from tinylab.store.lock import is_being_written, sole_writer
from tinylab.system.files import write_bytes, write_text

NOBODY = 65534


@pytest.fixture
def umask() -> Iterator[Callable[[int], None]]:
    before = os.umask(0o022)
    os.umask(before)
    yield lambda value: os.umask(value) and None
    os.umask(before)


def rights(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_a_folder_that_its_group_may_write_gives_that_right_on(
    mask: int, tmp_path: Path, umask: Callable[[int], None]
) -> None:
    tmp_path.chmod(0o770)
    umask(mask)
    run = RunFolder(tmp_path / "runs" / "digits-mlp-0123456789")
    with run.sole_writer():
        run.path.mkdir()
        run.log_file.write_text("said")
        write_text(run.result_file, "{}")
    paths = [run.path.parent, run.path, run.path.parent / ".locks"]
    files = [run.log_file, run.result_file, *(run.path.parent / ".locks").iterdir()]
    assert {rights(place) & 0o070 for place in paths} == {0o070}
    assert {rights(file) & 0o070 for file in files} == {0o060}
    (tmp_path / "later").touch()
    assert rights(tmp_path / "later") == 0o666 & ~mask, "the umask is as it was"


@pytest.mark.parametrize("mode", [0o755, 0o1777])
def test_elsewhere_the_umask_decides(
    mode: int, tmp_path: Path, umask: Callable[[int], None]
) -> None:
    tmp_path.chmod(mode)
    umask(0o022)
    write_bytes(tmp_path / "kept" / "file", b"")
    assert rights(tmp_path / "kept") == 0o755
    assert rights(tmp_path / "kept" / "file") == 0o644


# ---------------------------------------------------------------- with another user


@pytest.fixture
def shared(umask: Callable[[int], None]) -> Iterator[Path]:
    """A folder that everyone may write; what is done in a test is done as another user."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("needs root, who alone can act as another user")
    umask(0o022)
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are root's alone
        for place in (Path(name), Path(name) / "runs", Path(name) / "runs" / ".locks"):
            place.mkdir(exist_ok=True)
            place.chmod(0o777)
        os.seteuid(NOBODY)
        try:
            yield Path(name)
        finally:
            os.seteuid(0)


def by_root(path: Path, mode: int) -> Path:
    """An empty file of another user."""
    os.seteuid(0)
    path.parent.mkdir(exist_ok=True)
    path.touch()
    path.chmod(mode)
    os.seteuid(NOBODY)
    return path


@pytest.mark.parametrize("mode", [0o644, 0o444])
def test_a_lock_file_that_only_its_owner_may_write_is_replaced(mode: int, shared: Path) -> None:
    run = shared / "runs" / "a"
    lock = by_root(run.parent / ".locks" / "a.lock", mode)
    assert not is_being_written(run)
    with sole_writer(run) as waited:
        assert not waited
        assert lock.stat().st_uid == NOBODY
        assert is_being_written(run), "a newcomer sees the lock"
    with sole_writer(run):
        pass


@pytest.mark.costly
def test_a_lock_file_of_another_user_who_holds_it_is_waited_for(shared: Path) -> None:
    run = shared / "runs" / "a"
    lock = by_root(run.parent / ".locks" / "a.lock", 0o644)
    hold = f"import fcntl, time; file = open({str(lock)!r}); fcntl.flock(file, fcntl.LOCK_EX); "
    hold += "print('held', flush=True); time.sleep(60)"
    os.seteuid(0)
    holder = subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE, text=True)
    os.seteuid(NOBODY)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    assert is_being_written(run)
    with (
        pytest.raises(UserError, match="a is being trained by another process"),
        sole_writer(run, wait=False),
    ):
        pass
    waited: list[bool] = []

    def train() -> None:
        with sole_writer(run) as had_to_wait:
            waited.append(had_to_wait)

    trainer = threading.Thread(target=train)
    trainer.start()
    time.sleep(0.3)
    assert not waited
    holder.kill()
    trainer.join()
    holder.communicate()
    assert waited == [True]


def test_leftovers_of_another_user_break_no_run(shared: Path) -> None:
    run = shared / "runs" / "a"
    rest = by_root(run / ".last.ckpt.01234567.tmp", 0o644)
    os.seteuid(0)
    run.chmod(0o755)
    os.seteuid(NOBODY)
    with sole_writer(run):
        assert rest.exists()


@pytest.mark.parametrize("mode", [0o755, 0o700, 0o777])
def test_a_cache_that_another_user_owns_costs_time_and_no_run(
    mode: int, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINYLAB_CACHE", str(shared / "cache"))
    images = Dataset(np.zeros((2, 1, 2, 2), np.uint8), np.array([0, 1]), ("a", "b"))
    source = Source("mine", (), {}, lambda: images)
    os.seteuid(0)
    expected = cache.load(source).fingerprint
    [kept] = cache.kept()
    kept.write_bytes(kept.read_bytes()[:100])  # damaged, so that it must be made again
    kept.parent.chmod(mode)
    os.seteuid(NOBODY)
    assert cache.load(source).fingerprint == expected
    assert cache.load(source).fingerprint == expected
    os.seteuid(0)
    assert (kept.stat().st_uid == NOBODY) == (mode == 0o777), "replaced where that is allowed"
