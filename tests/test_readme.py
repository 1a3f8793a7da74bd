"""The README's promises about itself."""

import dataclasses
import re
from pathlib import Path

from tinylab.config.keys import Entry, entries
from tinylab.config.option import FOLDERS
from tinylab.config.options import options
from tinylab.config.values import shown

README = Path(__file__).parents[1] / "README.md"
KEYS = Path(__file__).parents[1] / "docs" / "config-keys.md"


def key_table() -> str:
    """The table of config keys, made from the schema; options are named where they differ."""
    rows: dict[tuple[str, str, str], list[str]] = {}
    for entry in entries():
        if entry.name not in FOLDERS:  # whose entries by these names choose an option
            rows.setdefault(line(entry), []).append(entry.choice)
    table = ["| key | default | what |", "| --- | --- | --- |"]
    for (key, default, what), choices in rows.items():
        group = key.strip("`* ").partition(".")[0]
        is_common = choices == [""] or len(choices) == len(options(group))
        where = "" if is_common else f" ({', '.join(choices)})"
        table.append(f"| {key}{where} | {default} | {what} |")
    return "\n".join(table) + "\n"


def line(entry: Entry) -> tuple[str, str, str]:
    metadata = entry.field.metadata
    star = "" if metadata.get("identity", True) else " *"
    default = entry.field.default
    if entry.field.default_factory is not dataclasses.MISSING:
        default = entry.field.default_factory()
    return f"`{entry.name}`{star}", f"`{shown(default)}`", metadata["help"]


def test_the_table_of_keys_is_the_schema() -> None:
    match = re.search(r"<!-- keys -->\n(.*?)<!-- /keys -->", KEYS.read_text(), re.DOTALL)
    assert match is not None
    assert match[1] == key_table(), "run python tests/test_readme.py to rewrite the table"


def test_the_readme_is_read_in_three_minutes() -> None:
    assert len(README.read_text().splitlines()) <= 150


if __name__ == "__main__":
    text = KEYS.read_text()
    text = re.sub(
        r"(<!-- keys -->\n).*?(<!-- /keys -->)",
        lambda match: match[1] + key_table() + match[2],
        text,
        flags=re.DOTALL,
    )
    KEYS.write_text(text)
