"""The guide to own code, followed: its files are written as they stand, and its commands run."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tinylab import cli
from tinylab.config import options

GUIDE = (Path(__file__).parents[2] / "docs" / "own-code.md").read_text(encoding="utf-8")
FILES = re.findall(r"```\w+\n# (\S+\.(?:py|toml|yaml))\n(.*?)```", GUIDE, re.DOTALL)


@pytest.fixture(autouse=True)
def own_table() -> Iterator[None]:
    yield
    options.use_files([])


@pytest.mark.costly
@pytest.mark.parametrize(
    "heading", ["Your own model", "Models of libraries and packages", "A project of your own"]
)
def test_a_section_can_be_followed(
    heading: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TINYLAB_CODE", raising=False)
    section = GUIDE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    for name, source in FILES:
        if name == "tiny.py" or source in section:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(source)
    [commands] = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    for line in commands.splitlines():
        program, *arguments = shlex.split(line)
        assert program == "tinylab"
        assert cli.run(arguments) == 0, line
