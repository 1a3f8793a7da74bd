"""The README's promises about itself."""

import dataclasses
import re
from pathlib import Path

from tinylab.cli import COMMANDS
from tinylab.config import compose
from tinylab.config.schema import Config
from tinylab.config.values import shown

README = Path(__file__).parents[1] / "README.md"


def key_table() -> str:
    """The table of config keys, made from the schema; options are named where they differ."""
    rows = {line(entry.name, entry): [""] for entry in top_level()}
    for group, records in compose.RECORDS.items():
        for option, record in records.items():
            for entry in dataclasses.fields(record):
                if entry.name != "name":
                    rows.setdefault(line(f"{group}.{entry.name}", entry), []).append(option)
    table = ["| key | default | what |", "| --- | --- | --- |"]
    for (key, default, what), options in rows.items():
        section = compose.RECORDS.get(key.strip("`* ").partition(".")[0], {"": None})
        where = "" if len(options) == len(section) else f" ({', '.join(options)})"
        table.append(f"| {key}{where} | {default} | {what} |")
    return "\n".join(table) + "\n"


def top_level() -> list[dataclasses.Field]:
    return [entry for entry in dataclasses.fields(Config) if entry.name not in compose.RECORDS]


def line(key: str, entry: dataclasses.Field) -> tuple[str, str, str]:
    star = "" if entry.metadata["identity"] else " *"
    default = {} if entry.default is dataclasses.MISSING else entry.default
    return f"`{key}`{star}", f"`{shown(default)}`", entry.metadata["help"]


def test_the_table_of_keys_is_the_schema() -> None:
    found = re.search(r"<!-- keys -->\n(.*?)<!-- /keys -->", README.read_text(), re.DOTALL)
    assert found is not None
    assert found[1] == key_table(), "run python tests/test_readme.py to write the table anew"


def test_every_command_is_in_the_readme() -> None:
    for name in COMMANDS:
        assert f"tinylab {name}" in README.read_text()


def test_the_readme_stays_readable() -> None:
    assert len(README.read_text().splitlines()) < 500


if __name__ == "__main__":
    text = README.read_text()
    text = re.sub(
        r"(<!-- keys -->\n).*?(<!-- /keys -->)",
        lambda found: found[1] + key_table() + found[2],
        text,
        flags=re.DOTALL,
    )
    README.write_text(text)
