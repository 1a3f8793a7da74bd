"""A project's table: its config folder joins ours, its code and outputs are the defaults."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tinylab import cli
from tinylab.commands.completion import answers
from tinylab.commands.train_help import help_text
from tinylab.config import options, user_code
from tinylab.config.compose import compose_plain
from tinylab.config.groups import choices
from tinylab.errors import UserError

MODEL = """import tinylab

@tinylab.model
class {name}:
    def __init__(self, image_shape, num_classes, width: int = 16): ...
"""
EXPERIMENT = """# @package _global_
defaults:
  - override /model: wide
train:
  epochs: 3
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.delenv("TINYLAB_CODE", raising=False)
    for name, text in {
        "tiny.py": MODEL.format(name="Tiny"),
        "conf/experiment/course.yaml": EXPERIMENT,
        "conf/model/wide.yaml": "defaults:\n  - tiny\nwidth: 99\n",
        "conf/sweep/widths.yaml": "space:\n  model.width: 4,8\n",
        "conf/own/x.yaml": "a: 1\n",
        "sub/there": "",
        "pyproject.toml": "[tool.tinylab]\ncode = 'tiny.py'\nconf = 'conf'\noutputs = 'kept'\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    options.use_files([])


def test_its_files_join_ours_in_help_and_completion() -> None:
    assert "experiment=course" in answers("tinylab train experiment=c")
    assert answers("tinylab train sweep=w") == ["sweep=widths"]
    assert answers("tinylab train model=wi") == ["model=wide"]
    output = help_text()
    assert "|wide" in output
    assert "own=x" in output
    assert "mlp" in choices("model")


def test_what_there_is_names_its_files_too() -> None:
    with pytest.raises(UserError, match=r"did you mean 'course'.*valid here: course, digits_best"):
        compose_plain(["experiment=cours"])


def test_it_is_composed_from_any_folder_of_the_project(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("sub")
    config = compose_plain(["experiment=course"])
    assert (config.model.name, config.model.width) == ("tiny", 99)  # type: ignore[attr-defined]
    assert config.train.epochs == 3
    assert config.outputs == str(project / "kept")
    assert config.code == str(project / "tiny.py")
    assert compose_plain(["model=mlp", "outputs=o"]).outputs == "o"


def test_hydras_flags_find_it_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["train", "experiment=course", "--cfg", "job"]) == 0
    output = capsys.readouterr().out
    assert "width: 99" in output
    assert "outputs: kept" in output


def test_the_environment_and_the_command_line_win(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("env", "typed"):
        (project / f"{name}.py").write_text(MODEL.format(name=name.title()))
    assert user_code.named(()) == [project / "tiny.py"]
    monkeypatch.setenv("TINYLAB_CODE", "env.py")
    assert user_code.named(()) == [project / "env.py"]
    assert user_code.named(["code=typed.py"]) == [project / "typed.py"]
    assert user_code.named(["code=null"]) == []


def test_list_looks_where_the_project_keeps_its_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["list"]) == 0
    assert "no run in kept/runs" in capsys.readouterr().out


def test_a_file_that_the_table_names_must_be_there(project: Path) -> None:
    (project / "tiny.py").unlink()
    with pytest.raises(UserError, match=r"pyproject\.toml: code=tiny\.py: no such file"):
        compose_plain([])


# ---------------------------------------------------------------- code of an experiment


@pytest.mark.parametrize("place", ["conf/experiment/own.py", "own.py", "parts/own.py"])
def test_the_code_of_an_experiment_is_found_beside_it_or_in_the_working_folder(
    project: Path, place: str
) -> None:
    (project / "parts").mkdir()
    (project / place).write_text(MODEL.format(name="Own"))
    named = "parts.own" if place.startswith("parts") else "own.py"
    text = f"# @package _global_\ndefaults:\n  - override /model: own\ncode: {named}\n"
    (project / "conf" / "experiment" / "mine.yaml").write_text(text)
    based = "# @package _global_\ndefaults:\n  - mine\nseed: 5\n"
    (project / "conf" / "experiment" / "based.yaml").write_text(based)
    for experiment, seed in (("mine", 0), ("based", 5)):
        config = compose_plain([f"experiment={experiment}"])
        assert (config.model.name, config.seed) == ("own", seed)
        assert config.code == str(project / place)
    assert answers("tinylab train experiment=mine model=ow") == ["model=own"]


def test_a_config_folder_of_the_command_may_name_code_too(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = project / "more" / "experiment"
    folder.mkdir(parents=True)
    (folder / "own.py").write_text(MODEL.format(name="Own"))
    text = "# @package _global_\ndefaults:\n  - override /model: own\ncode: [own.py]\n"
    (folder / "mine.yaml").write_text(text)
    assert cli.run(["train", "--config-dir", "more", "experiment=mine", "--cfg", "job"]) == 0
    assert "name: own" in capsys.readouterr().out


def test_the_code_of_an_experiment_must_be_there(project: Path) -> None:
    file = project / "conf" / "experiment" / "mine.yaml"
    file.write_text("# @package _global_\ncode: nowhere.py\n")
    with pytest.raises(UserError, match=r"mine\.yaml: code=nowhere\.py: no such file"):
        compose_plain(["experiment=mine"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("optim:\n\tlr: 1\n", "expected valid YAML: .*mine.yaml"),
        ("optim: {lrr: 1}\n", r"mine.yaml: optim.lrr: unknown key \(did you mean 'optim.lr'\?\)"),
        ("lr: 1\n", r"mine.yaml: lr: unknown key \(did you mean optim.lr\?\)"),
        ("optim: {lr: ten}\n", "experiment/mine.yaml: optim.lr: Value 'ten'"),
        (
            "model: {width: 8}\n",
            "model.width: belongs to model=resnet, model=tiny; choose it in the defaults",
        ),
        ("defaults: [optim: sgd]\n", "expected '- override /optim: sgd'"),
    ],
)
def test_a_fault_in_an_experiment_is_named_by_file_and_key(
    project: Path, text: str, said: str
) -> None:
    file = project / "conf" / "experiment" / "mine.yaml"
    file.write_text(f"# @package _global_\n{text}")
    with pytest.raises(UserError, match=said):
        compose_plain(["experiment=mine"])
