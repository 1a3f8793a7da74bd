"""The guide to own code, followed: its files are written as they stand, and its commands run."""

import re
import shlex
from pathlib import Path

import pytest

from own_metrics_kit import table_restored
from tinylab import cli

GUIDE = (Path(__file__).parents[1] / "docs" / "own-code.md").read_text(encoding="utf-8")


@pytest.mark.costly
@pytest.mark.parametrize("heading", ["Your own dataset", "Your own metric"])
def test_a_section_can_be_followed(
    heading: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TINYLAB_CODE", raising=False)
    section = GUIDE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    [(name, source)] = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", section, re.DOTALL)
    Path(name).write_text(source)
    [commands] = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    with table_restored():
        for line in commands.splitlines():
            program, *arguments = shlex.split(line)
            assert program == "tinylab"
            assert cli.run(arguments) == 0, line
