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
from tinylab.ui.console import counted
from tinylab.ui.tables import as_csv

# The page is named by its title: the package contains no documentation.
NEXT = (
    "correct or move the files, or save a corrected copy of the data (documentation: "
    "Calibration, label errors, explanations)"
)
MOST_LABELS = 60  # label errors on the page; the CSV has all
MOST_SHOWN = 24  # of every other kind
MOST_PAIRS = 15
SUSPICIOUS = 0.15  # fraction of all labels; more are errors of the network
# Columns of the CSV if nothing was found.
NOTHING = dict.fromkeys(("kind", "index", "file", "label"))
TITLES = {"label": "Label errors", "doubtful": "Doubtful labels", "near": "Near-duplicates"}


def summary(inspection: Inspection) -> list[str]:
    """Return the summary, one line per kind of finding."""
    total, errors = len(inspection.decoded.dataset.labels), inspection.of("label")
    covered, doubtful = len(inspection.covered), len(inspection.of("doubtful"))
    lines = [
        f"{covered:,} of {total:,} images were predicted by "
        f"{counted(len(inspection.runs), 'run')} not trained on them; {_accuracy(inspection)}",
        f"likely label errors: {len(errors):,} ({len(errors) / covered:.2%} of these)",
    ]
    if len(errors) > SUSPICIOUS * covered:
        lines[-1] += "; that many are more likely errors of the network: train a better one"
    lines.append(f"doubtful labels: another class is more probable for {doubtful:,} other images")
    identical, near = inspection.of("identical"), inspection.of("near")
    crossing = across(inspection, "identical") + across(inspection, "near")
    conflicting = sum(map(inspection.has_two_labels, [*identical, *near]))
    lines.append(
        f"duplicates: {len(identical):,} exact pairs, {len(near):,} near-duplicates; "
        f"{conflicting:,} with two labels, {crossing:,} {_across(inspection)}"
    )
    images = inspection.decoded.dataset.pixels
    kinds = ["odd", "dark", "light", *["blurred"] * can_be_blurred(images)]
    looks = ", ".join(f"{len(inspection.of(kind)):,} {kind}" for kind in kinds)
    size = "x".join(map(str, images.shape[-2:]))
    too_small = f"; images of {size} pixels are too small to distinguish blur from thick strokes"
    return [*lines, f"appearance: {looks}{'' if can_be_blurred(images) else too_small}"]


def _accuracy(inspection: Inspection) -> str:
    accuracies = [run.result.test.accuracy for run in inspection.runs]
    mean = "mean " if len(accuracies) > 1 else ""
    return f"{mean}test accuracy {sum(accuracies) / len(accuracies):.2%}"


def _across(inspection: Inspection) -> str:
    """Describe the duplicates that ``across`` counts: in a cross-validation every image is tested.

    Where there is an official test set, folds hold out validation images.
    """
    has_folds = inspection.runs[0].result.config["split"].get("folds") is not None
    if has_folds and not inspection.decoded.dataset.num_official_test:
        return "of which one is tested in a fold while the other trains"
    return "with only one of the two in the test set"


def write(inspection: Inspection, page: Path, table: Path, paths: Sequence[Path]) -> None:
    """Write the page and the CSV. Raises UserError if the disk is full."""
    rows = [_row(inspection, each) for each in inspection.findings]
    write_text(table, as_csv(rows or [NOTHING]), NAMED)
    shown = Galleries(
        title=f"Inspection of {inspection.runs[0].result.dataset.name}",
        summary=[
            *(f"{line[0].upper()}{line[1:]}." for line in summary(inspection)),
            f"Look at each image; then {NEXT}.",
        ],
        galleries=[gallery for kind in KINDS if (gallery := _gallery(inspection, kind)).items],
        repeat=shlex.join(["tinylab", "inspect", *map(str, paths)]),
        tables=[_overlaps(inspection)],
    )
    reporting.write_galleries(page, shown)


def _row(inspection: Inspection, each: Finding) -> dict[str, Any]:
    """Return a finding by column name."""
    classes, other = inspection.decoded.dataset.classes, each.other
    return {
        "kind": each.kind,
        "index": each.index,
        "file": inspection.name(each.index),
        "label": inspection.label(each.index),
        "suggested": None if each.suggested is None else classes[each.suggested],
        "score": round(each.score, 4),
        "other_index": other,
        "other_file": None if other is None else inspection.name(other),
        "other_label": None if other is None else inspection.label(other),
    }


def _gallery(inspection: Inspection, kind: str) -> Gallery:
    listed = inspection.of(kind)
    most = MOST_LABELS if kind == "label" else MOST_SHOWN
    beyond = f"; first {most} of {len(listed):,}; the CSV has all" if listed[most:] else ""
    caption = f"{KINDS[kind][0].upper()}{KINDS[kind][1:]}{beyond}"
    title = TITLES.get(kind, f"{kind[0].upper()}{kind[1:]} images")
    return Gallery(title, caption, [_item(inspection, each) for each in listed[:most]])


def _item(inspection: Inspection, each: Finding) -> Item:
    indices = [each.index] if each.other is None else [each.index, each.other]
    words = inspection.label(each.index)
    if each.suggested is not None:
        suggested = inspection.decoded.dataset.classes[each.suggested]
        words = f"{words}, likely {suggested} (+{each.score:.0%})"
    elif each.other is not None and inspection.has_two_labels(each):
        words = f"{words} and {inspection.label(each.other)}: two labels"
    pictures = [thumbnail(inspection.decoded.dataset.pixels[index]) for index in indices]
    return Item(pictures, words, [inspection.name(index) for index in indices])


def _overlaps(inspection: Inspection) -> Table:
    classes, total = inspection.decoded.dataset.classes, len(inspection.covered)
    return Table(
        "Pairs of classes with the most images that are labeled as one and belong, by the "
        "estimate of confident learning, to the other",
        ["class", "and class", "images", "fraction of all"],
        [
            [Cell(classes[i]), Cell(classes[j]), number(fraction * total, "{:.1f}"),
             number(fraction, "{:.2%}")]
            for i, j, fraction in inspection.overlaps[:MOST_PAIRS]
        ],
    )  # fmt: skip
