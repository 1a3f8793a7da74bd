"""The guide to own code, followed: its files are written as they stand, and its commands run."""

import re
import shlex
from pathlib import Path

import pytest

from tinylab import cli

GUIDE = (Path(__file__).parents[1] / "docs" / "own-code.md").read_text(encoding="utf-8")
FILES = re.findall(r"```\w+\n# (\S+\.(?:py|toml|yaml))\n(.*?)```", GUIDE, re.DOTALL)
PARTS = ("model", "dataset", "metric", "loss", "augmentation", "optimizer", "schedule")
HEADINGS = [f"Your own {part}" for part in PARTS]


@pytest.mark.costly
@pytest.mark.parametrize(
    "heading", [*HEADINGS, "Parts of libraries and packages", "Project settings"]
)
def test_a_section_can_be_followed(
    heading: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    section = GUIDE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    if heading in HEADINGS:
        assert sum(source in section for _, source in FILES) == 1
    for name, source in FILES:
        if name == "tiny.py" or source in section:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(source)
    [commands] = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    for line in commands.splitlines():
        program, *arguments = shlex.split(line)
        assert program == "tinylab"
        assert cli.run(arguments) == 0, line
    assert "warning: augment" not in capsys.readouterr().out
