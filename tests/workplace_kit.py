"""A student's folder with files of their own, and a finished run of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tinylab import cli
from tinylab.store.folder import RunFolder
from tinylab.store.result import Result


def begun(
    factory: pytest.TempPathFactory, files: Mapping[str, str], command: Sequence[str]
) -> Path:
    """A folder with these files, in which this command was run."""
    folder = factory.mktemp("student")
    for name, text in files.items():
        (folder / name).write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert cli.run([*command]) == 0
    return folder


def result(folder: Path) -> Result:
    """That of a run's folder."""
    actual = RunFolder(folder).result()
    assert actual is not None
    return actual
