"""The output of an inspection: a summary, a page with thumbnails, a CSV."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tinylab import reporting
from tinylab.evaluate.inspection import KINDS, Finding, Inspection, across, can_be_blurred
from tinylab.reporting.gallery import Galleries, Gallery, Item
from tinylab.reporting.mistakes import thumbnail
from tinylab.reporting.tables import Cell, Table, number
from tinylab.system.files import NAMED, write_text
from tinylab.ui.tables import as_csv

MOST_LABELS = 60  # label errors on the page; the CSV has all
MOST_SHOWN = 24  # of every other kind
MOST_PAIRS = 15
SUSPICIOUS = 0.15  # fraction of all labels; more are errors of the network
# Columns of the CSV if nothing was found.
NOTHING = dict.fromkeys(("kind", "index", "file", "label"))
TITLES = {"label": "Label errors", "near": "Near-duplicates"}


def summary(found: Inspection) -> list[str]:
    """Return the summary, one line per kind of finding."""
    total, errors = len(found.decoded.images.labels), found.of("label")
    covered = len(found.covered)
    lines = [
        f"{covered:,} of {total:,} images were predicted by {len(found.runs)} "
        f"run{'s' * (len(found.runs) > 1)} not trained on them",
        f"likely label errors: {len(errors):,} ({len(errors) / covered:.1%} of these)",
    ]
    if len(errors) > SUSPICIOUS * covered:
        lines[-1] += "; that many are more likely errors of the network: train a better one"
    identical, near = found.of("identical"), found.of("near")
    crossing = across(found, "identical") + across(found, "near")
    torn = sum(map(found.is_torn, [*identical, *near]))
    lines.append(
        f"duplicates: {len(identical):,} exact pairs, {len(near):,} near-duplicates; {torn:,} "
        f"with two labels, {crossing:,} with only one of the two in the test set"
    )
    images = found.decoded.images.images
    kinds = ["odd", "dark", "light", *["blurred"] * can_be_blurred(images)]
    looks = ", ".join(f"{len(found.of(kind)):,} {kind}" for kind in kinds)
    size = "x".join(map(str, images.shape[-2:]))
    too_small = f"; images of {size} pixels are too small to distinguish blur from thick strokes"
    return [*lines, f"appearance: {looks}{'' if can_be_blurred(images) else too_small}"]


def write(found: Inspection, page: Path, table: Path, paths: Sequence[Path]) -> None:
    """Write the page and the CSV. Raises UserError if the disk is full."""
    write_text(table, as_csv([_row(found, each) for each in found.findings] or [NOTHING]), NAMED)
    shown = Galleries(
        title=f"Inspection of {found.runs[0].result.dataset.name}",
        summary=[f"{line[0].upper()}{line[1:]}." for line in summary(found)],
        galleries=[gallery for kind in KINDS if (gallery := _gallery(found, kind)).items],
        repeat=shlex.join(["tinylab", "inspect", *map(str, paths)]),
        tables=[_overlaps(found)],
    )
    reporting.write_galleries(page, shown)


def _row(found: Inspection, each: Finding) -> dict[str, Any]:
    """Return a finding by column name."""
    classes, other = found.decoded.images.classes, each.other
    return {
        "kind": each.kind,
        "index": each.index,
        "file": found.name(each.index),
        "label": found.label(each.index),
        "suggested": None if each.suggested is None else classes[each.suggested],
        "score": round(each.score, 4),
        "other_index": other,
        "other_file": None if other is None else found.name(other),
        "other_label": None if other is None else found.label(other),
    }


def _gallery(found: Inspection, kind: str) -> Gallery:
    listed = found.of(kind)
    most = MOST_LABELS if kind == "label" else MOST_SHOWN
    beyond = f"; first {most} of {len(listed):,}; the CSV has all" if listed[most:] else ""
    caption = f"{KINDS[kind][0].upper()}{KINDS[kind][1:]}{beyond}"
    title = TITLES.get(kind, f"{kind[0].upper()}{kind[1:]} images")
    return Gallery(title, caption, [_item(found, each) for each in listed[:most]])


def _item(found: Inspection, each: Finding) -> Item:
    places = [each.index] if each.other is None else [each.index, each.other]
    words = found.label(each.index)
    if each.suggested is not None:
        suggested = found.decoded.images.classes[each.suggested]
        words = f"{words}, likely {suggested} (+{each.score:.0%})"
    elif each.other is not None and found.is_torn(each):
        words = f"{words} and {found.label(each.other)}: two labels"
    pictures = [thumbnail(found.decoded.images.images[place]) for place in places]
    return Item(pictures, words, [found.name(place) for place in places])


def _overlaps(found: Inspection) -> Table:
    classes, total = found.decoded.images.classes, len(found.covered)
    return Table(
        "Pairs of classes with the most images that are labeled as one and belong, by the "
        "estimate of confident learning, to the other",
        ["class", "and class", "images", "fraction of all"],
        [
            [Cell(classes[i]), Cell(classes[j]), number(fraction * total, "{:.1f}"),
             number(fraction, "{:.2%}")]
            for i, j, fraction in found.overlaps[:MOST_PAIRS]
        ],
    )  # fmt: skip
