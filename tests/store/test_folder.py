"""The names of a run's files, which the store alone knows, and what is read of them."""

import ast
import dataclasses
import json
from pathlib import Path

import pytest

from run_folders import config, finished, stopped
from tinylab import data
from tinylab.config import code
from tinylab.config.identity import run_id
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
    names = (*NAMES, "tfevents")
    for path in PACKAGE.rglob("*.py"):
        source = path.read_text()
        is_suspect = any(name in source for name in names)  # parsing all takes a second
        if is_suspect and path.relative_to(PACKAGE).parts[0] != "store":
            for text in literals(source):
                named = [name for name in names if name in text]
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


def version(outputs: Path, test: float, is_valid: bool) -> RunFolder:
    """A finished run of one config, by the code and data of today or not."""
    files = RunFolder(finished(outputs, test=test))
    made = config()
    values = json.loads(files.result_file.read_text()) | {"run_id": run_id(made)}
    values["dataset"]["fingerprint"] = data.fingerprint(made.dataset)
    values["environment"]["code_sha256"] = code.of_result(made) if is_valid else "other"
    files.result_file.write_text(json.dumps(values))
    return files


def accuracies(files: RunFolder) -> dict[str, float]:
    """The test accuracy of the run in its place, and of its archived versions."""
    found = {"in place" if path == files.path else "archived": path
             for path in files.path.parent.glob(f"{files.name}*")}  # fmt: skip
    results = {where: RunFolder(path).result() for where, path in found.items()}
    return {where: each.test.accuracy for where, each in results.items() if each is not None}


def test_an_archived_version_that_is_valid_again_takes_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    version(tmp_path, 0.7, is_valid=True).archive("edited")
    files = version(tmp_path, 0.6, is_valid=False)
    fresh = dataclasses.replace(config(), fresh=True)
    assert files.bring_back(fresh) is None
    assert accuracies(files) == {"in place": 0.6, "archived": 0.7}
    capsys.readouterr()
    outcome = files.bring_back(config())
    assert outcome is not None
    assert outcome.test.accuracy == 0.7
    assert accuracies(files) == {"in place": 0.7, "archived": 0.6}
    assert "tinylab's code has changed since; old folder kept" in (said := capsys.readouterr().out)
    assert "this code and data were trained before; brought back" in said


def test_a_version_is_brought_back_after_a_kill_between_the_renames(tmp_path: Path) -> None:
    files = version(tmp_path, 0.7, is_valid=True)
    files.archive("edited")
    assert files.bring_back(config()) is not None
    assert accuracies(files) == {"in place": 0.7}


def test_only_a_version_of_the_same_run_code_and_data_is_brought_back(tmp_path: Path) -> None:
    version(tmp_path, 0.6, is_valid=False).archive("edited")
    foreign = version(tmp_path, 0.7, is_valid=True)
    values = json.loads(foreign.result_file.read_text())
    foreign.result_file.write_text(json.dumps(values | {"run_id": "digits-mlp-0123456789"}))
    foreign.archive("edited")
    changed = version(tmp_path, 0.8, is_valid=True)
    values = json.loads(changed.result_file.read_text())
    values["dataset"]["fingerprint"] = "of other data"
    changed.result_file.write_text(json.dumps(values))
    changed.archive("edited")
    assert changed.bring_back(config()) is None
    assert not changed.path.exists()


def test_an_unfinished_run_gives_way_only_once_it_cannot_be_resumed(tmp_path: Path) -> None:
    version(tmp_path, 0.7, is_valid=True).archive("edited")
    files = RunFolder(stopped(tmp_path))
    assert files.bring_back(config()) is None
    assert files.brought_back(config()) is not None
    assert accuracies(files) == {"in place": 0.7}
    assert len(list(files.path.parent.glob(f"{files.name}.*"))) == 1


def test_the_log_of_a_failure_has_a_traceback_only_of_what_is_no_message(tmp_path: Path) -> None:
    files = RunFolder(tmp_path)
    files.record_failure(UserError("model=tiny: gives 2x11\n  expected 2x10"))
    assert "failed: model=tiny: gives 2x11\n  expected 2x10" in files.log_file.read_text()
    assert "Traceback" not in files.log_file.read_text()
    files.log_file.unlink()
    error = UserError("AttributeError in mine.py:18")
    error.__cause__ = AttributeError("no_such")
    files.record_failure(error)
    assert "AttributeError: no_such" in files.log_file.read_text()
    assert "failed: AttributeError in mine.py:18" in files.log_file.read_text()
    files.record_failure(ValueError("too hot"))
    assert files.error() == "ValueError: too hot"
