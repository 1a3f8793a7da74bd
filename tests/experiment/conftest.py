"""What tests of a user's own parts share; each module has a ``workplace`` of its own."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def student(workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The workplace itself, which is as it was when the test ends."""
    kept = shutil.copytree(workplace, tmp_path / "kept")
    monkeypatch.chdir(workplace)
    yield workplace
    shutil.rmtree(workplace)
    shutil.copytree(kept, workplace)
