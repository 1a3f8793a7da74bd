"""The names of a run's files, which the store alone knows, and what is read of them."""

import ast
from pathlib import Path

import pytest

from run_folders import finished
from tinylab.errors import UserError
from tinylab.store.folder import RunFolder
from tinylab.store.sweep import SweepFolder

PACKAGE = Path(__file__).parents[2] / "src" / "tinylab"
NAMES = sorted(
    path.name
    for owner in (RunFolder(Path("run")), SweepFolder(Path("sweep")))
    for path in vars(owner).values()
    if path.suffix
)


def literals(source: str) -> list[str]:
    """The texts in a module that may be paths or parts of them: those without spaces."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
    texts = [node.value for node in nodes if isinstance(node.value, str)]
    return [text for text in texts if len(text.split()) == 1]


def test_a_literal_is_found_wherever_it_stands() -> None:
    source = 'def f(x):\n    """Reads ``result.json`` of it."""\n    return x / "a/result.json"'
    assert literals(source) == ["a/result.json"]


def test_the_store_alone_names_the_files_of_a_run_and_of_a_sweep() -> None:
    assert {"result.json", "best.ckpt", "metrics.jsonl", "sweep.json"} <= set(NAMES)
    for path in PACKAGE.rglob("*.py"):
        if path.relative_to(PACKAGE).parts[0] != "store":
            for text in literals(path.read_text()):
                named = [name for name in (*NAMES, "tfevents") if name in text]
                assert not named, f"{path.relative_to(PACKAGE)} names {text}"


def test_a_history_is_read_as_far_as_it_is_whole(tmp_path: Path) -> None:
    files = RunFolder(tmp_path)
    assert files.history() == []
    files.metrics_file.write_text('{"epoch": 1}\n{"epoch": 2}\n{"epo')
    assert files.history() == [{"epoch": 1}, {"epoch": 2}]


@pytest.mark.parametrize("text", [None, "", "- 1", "a: [", "\0", "\xff"])
def test_a_config_is_read_or_refused_in_words(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        RunFolder(tmp_path).config_file.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match="expected the folder of a run"):
        RunFolder(tmp_path).config()


def test_an_archived_run_keeps_its_files_under_another_name(tmp_path: Path) -> None:
    for _ in range(3):
        RunFolder(finished(tmp_path)).archive("fresh=true")
    kept = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert len(kept) == 3
    assert all((tmp_path / "runs" / name / "result.json").exists() for name in kept)
