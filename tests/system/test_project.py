"""The table of a project: found upward, checked, and weaker than what is said for one command."""

from pathlib import Path

import pytest

from tinylab.errors import UserError
from tinylab.system import project
from tinylab.system.paths import data_root


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, three levels below ``tmp_path``."""
    deep = tmp_path / "a" / "b" / "c"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    monkeypatch.delenv("TINYLAB_DATA", raising=False)
    return deep


def write(folder: Path, table: str) -> Path:
    file = folder / "pyproject.toml"
    file.write_text(table)
    return file


def test_without_a_table_nothing_is_said(folder: Path) -> None:
    write(folder, "[project]\nname = 'x'\n")
    assert project.project() == project.Project()
    assert project.default_outputs() == "outputs"


def test_a_file_that_does_not_speak_of_tinylab_is_not_parsed(folder: Path) -> None:
    write(folder, "= this is no TOML\n")
    assert project.project() == project.Project()


def test_the_nearest_table_holds_and_its_paths_are_relative_to_it(folder: Path) -> None:
    root, near = folder.parents[2], folder.parent
    write(root, "[tool.tinylab]\ncode = 'far.py'\n")
    write(folder, "[project]\nname = 'tinylab-course'\n")
    (near / "conf").mkdir()
    table = (
        "[tool.tinylab]\ncode = ['a.py', 'pkg.b']\nconf = 'conf'\noutputs = '../o'\ndata = 'd'\n"
    )
    file = write(near, table)
    result = project.project()
    assert result == project.Project(
        file, ("a.py", "pkg.b"), near / "conf", near / "d", near.parent / "o"
    )


def test_outputs_are_as_short_as_they_can_be_typed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, "[tool.tinylab]\noutputs = 'kept/here'\n")
    assert project.default_outputs() == "kept/here"
    (folder / "sub").mkdir()
    monkeypatch.chdir("sub")
    assert project.default_outputs() == str(folder / "kept" / "here")


def test_the_environment_wins_over_the_data_of_the_table(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, "[tool.tinylab]\ndata = 'pixels'\n")
    assert data_root() == folder / "pixels"
    monkeypatch.setenv("TINYLAB_DATA", "/elsewhere")
    assert data_root() == Path("/elsewhere")


def test_an_edited_table_is_read_again(folder: Path) -> None:
    write(folder, "[tool.tinylab]\noutputs = 'one'\n")
    assert project.default_outputs() == "one"
    write(folder, "[tool.tinylab]\noutputs = 'second'\n")
    assert project.default_outputs() == "second"


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("[tool.tinylab]\noutput = 'o'", "output: unknown key .did you mean 'outputs'?"),
        ("[tool.tinylab]\noutputs = 3", "outputs=3: expected a string"),
        ("[tool.tinylab]\ncode = [1]", r"code=\[1\]: expected a string, or a list of strings"),
        ("[tool.tinylab]\nconf = 'no'", "conf=no: no such folder"),
        ("[tool]\ntinylab = 1", "expected a table with code, conf, data, outputs"),
        ("[tool.tinylab", "pyproject.toml: "),
    ],
)
def test_a_table_that_cannot_be_right_is_refused(folder: Path, table: str, words: str) -> None:
    file = write(folder, table)
    with pytest.raises(UserError, match=words) as refused:
        project.project()
    assert str(file) in str(refused.value)
    assert len(str(refused.value).splitlines()) <= 2
