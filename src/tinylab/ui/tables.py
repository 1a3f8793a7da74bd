"""Tables with text around them, as lines for a screen of 100 columns or as Markdown; and CSV."""

import csv
import io
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH = 100
LEAST = 30  # minimum width of text in a last column


@dataclass(frozen=True)
class Column:
    """A column: a head of two lines, the first of which may be empty, and a text per row.

    Text is left-aligned, and wrapped in the last column; numbers are right-aligned.
    """

    head: tuple[str, str]
    cells: Sequence[str]
    is_words: bool = False


@dataclass(frozen=True)
class Section:
    """A table with text before and after it; each of the three may be empty."""

    words: Sequence[str] = ()
    table: Sequence[Column] = ()
    notes: Sequence[str] = ()


def fitted(text: str, most: int) -> str:
    """Truncate a name to a maximum length, and escape undecodable bytes."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= most else f"{text[: most - 1]}…"


def columns_of(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[Column]:
    """Convert rows of equal length to columns of text; ``head`` has one line."""
    cells = zip(*rows, strict=True) if rows else ([] for _ in head)
    return [Column(("", name), each, True) for name, each in zip(head, cells, strict=True)]


def on_screen(sections: Iterable[Section]) -> list[str]:
    """Return the lines for a screen."""
    lines: list[str] = []
    for section in sections:
        for part in (_wrapped(section.words), aligned(section.table), _wrapped(section.notes)):
            lines += [*part, ""] if part else []
    return lines[:-1]


def as_markdown(sections: Iterable[Section]) -> list[str]:
    """Return the lines of Markdown."""
    lines: list[str] = []
    for section in sections:
        notes = [f"- {note}" for note in section.notes]
        for part in ([*section.words], _pipes(section.table), notes):
            lines += [*(line.replace("*", r"\*") for line in part), ""] if part else []
    return lines[:-1]


def aligned(columns: Sequence[Column], width: int | None = WIDTH) -> list[str]:
    """Return the lines of a table for the screen; without ``width`` each row is one line."""
    if not columns:
        return []
    widths = [max(map(len, (*column.head, *column.cells))) for column in columns]
    heads = [head for head in zip(*(column.head for column in columns), strict=True) if any(head)]
    indent = sum(widths[:-1]) + 2 * len(widths[:-1])
    lines = []
    for row in [*heads, *zip(*(column.cells for column in columns), strict=True)]:
        first, *more = [row[-1]]
        if columns[-1].is_words and width is not None:
            first, *more = _wrap(row[-1], max(width - indent, LEAST)) or [""]
        cells = [
            cell.ljust(size) if column.is_words else cell.rjust(size)
            for cell, size, column in zip((*row[:-1], first), widths, columns, strict=True)
        ]
        lines += ["  ".join(cells).rstrip(), *(" " * indent + line for line in more)]
    return lines


def _pipes(columns: Sequence[Column]) -> list[str]:
    """Return the lines of a table in Markdown."""
    if not columns:
        return []
    heads = [" ".join(column.head).strip().replace(". ", ".") for column in columns]
    rules = ["---" if column.is_words else "---:" for column in columns]
    rows = zip(*([_in_pipes(cell) for cell in column.cells] for column in columns), strict=True)
    return [f"| {' | '.join(cells)} |" for cells in (heads, rules, *rows)]


def _in_pipes(cell: str) -> str:
    return cell.replace("|", r"\|").replace("\n", " ")


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV, with the columns of all of them; None is an empty cell.

    Booleans are written as in YAML, true and false.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, names_of(rows), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: str(v).lower() if isinstance(v, bool) else v for k, v in row.items()})
    return text.getvalue()


def names_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of the columns of all rows, in order of appearance."""
    return list(dict.fromkeys(name for row in rows for name in row))


def _wrapped(texts: Iterable[str]) -> list[str]:
    return [line for text in texts for line in _wrap(text, WIDTH, "  ")]


def _wrap(text: str, width: int, indent: str = "") -> list[str]:
    """Wrap a text, keeping names such as ``digits-mlp-50c8b14197`` whole."""
    return textwrap.wrap(text, width, subsequent_indent=indent, break_on_hyphens=False)
