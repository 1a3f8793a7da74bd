"""torchvision that does not fit torch is named, with the remedy."""

import importlib.metadata
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tinylab.errors import UserError
from tinylab.system.torchvision import import_torchvision


@pytest.fixture(autouse=True)
def _torchvision_not_yet_imported(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Takes the real one out of the loaded modules, and the made-up one after the test."""

    def loaded() -> list[str]:
        return [name for name in sys.modules if name.split(".")[0] == "torchvision"]

    for name in loaded():
        monkeypatch.delitem(sys.modules, name)
    yield
    for name in loaded():
        del sys.modules[name]


def complaint(folder: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> str:
    """What the user reads where ``source`` is the installed torchvision."""
    (folder / "torchvision").mkdir()
    (folder / "torchvision" / "__init__.py").write_text(source)
    monkeypatch.syspath_prepend(folder)
    with pytest.raises(UserError) as error:
        import_torchvision("torchvision.datasets.mnist")
    return str(error.value)


@pytest.mark.parametrize(
    "fault",
    [
        "RuntimeError('operator torchvision::nms does not exist')",
        "OSError('undefined symbol: _ZN3c105Error')",
        "AttributeError('module torch has no attribute library')",
        "ImportError('libcudart.so.13: cannot open shared object file')",
    ],
)
def test_a_torchvision_built_for_another_torch_is_explained_in_two_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    first, remedy = complaint(tmp_path, monkeypatch, f"raise {fault}").splitlines()
    assert first.startswith("torch 2.")
    assert "torchvision 0." in first
    assert fault.split("'")[1] in first
    assert remedy == ("  install both together: pip install --force-reinstall torch torchvision")


def test_pages_of_error_text_are_cut_to_their_first_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = complaint(tmp_path, monkeypatch, "raise ImportError('no symbol\\nTraceback\\nmore')")
    assert "(no symbol)" in said
    assert len(said.splitlines()) == 2


def test_an_absent_torchvision_is_called_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(package: str) -> str:
        if package == "torchvision":
            raise importlib.metadata.PackageNotFoundError
        return "2.15.0"

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(UserError, match=r"torch 2\.15\.0 and torchvision \(absent\)"):
        import_torchvision("torchvision")


def test_a_good_module_is_returned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text("answer = 42")
    monkeypatch.syspath_prepend(tmp_path)
    assert import_torchvision("torchvision").answer == 42
