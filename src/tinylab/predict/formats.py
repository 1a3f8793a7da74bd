"""Predictions as text, streamed: a table for people, CSV and JSON for programs."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from tinylab.ui.console import printable

if TYPE_CHECKING:  # which imports torch
    from tinylab.predict.classify import Prediction

DONE = ("inverted", "fitted", "several")  # what is noted about a digit's picture
Format = Callable[[Iterable["Prediction"], tuple[str, ...], int, Sequence[str]], Iterator[str]]


def as_table(
    predictions: Iterable["Prediction"], classes: tuple[str, ...], top: int, marks: Sequence[str]
) -> Iterator[str]:
    """One line per file, with its name last. Unreadable files are left out: they are listed."""
    width = max(map(len, classes))
    for prediction in predictions:
        if prediction.picture is None:
            continue
        best = [
            f"{printable(classes[label]):{width}} {probability:8.2%}"
            for label, probability in prediction.best(top)
        ]
        done = [word for word in DONE if getattr(prediction.picture, word)]
        done += [word for word in marks if prediction.marks[word]]
        note = f"  ({', '.join(done)})" if done else ""
        yield f"{'   '.join(best)}   {printable(prediction.file)}{note}\n"


def as_csv(
    predictions: Iterable["Prediction"], classes: tuple[str, ...], top: int, marks: Sequence[str]
) -> Iterator[str]:
    """One line per file; unreadable ones have the reason in the last column."""
    ranks = [f"{name}_{rank + 1}" for rank in range(top) for name in ("class", "probability")]
    yield _csv_line(["file", *ranks, *DONE, *marks, "error"])
    for prediction in predictions:
        if prediction.picture is None:
            empty = [""] * (len(ranks) + len(DONE) + len(marks))
            yield _csv_line([prediction.file, *empty, prediction.fault])
            continue
        best = [
            cell
            for label, probability in prediction.best(top)
            for cell in (classes[label], f"{probability:.6f}")
        ]
        flags = [getattr(prediction.picture, word) for word in DONE]
        flags += [prediction.marks[word] for word in marks]
        done = ["yes" if each else "no" for each in flags]
        yield _csv_line([prediction.file, *best, *done, ""])


def as_json(
    predictions: Iterable["Prediction"], classes: tuple[str, ...], top: int, marks: Sequence[str]
) -> Iterator[str]:
    """An array with one object per file; there is at least one file."""
    before = "[\n"
    for prediction in predictions:
        yield before + json.dumps(_as_object(prediction, classes, top, marks))
        before = ",\n"
    yield "\n]\n"


def _as_object(
    prediction: "Prediction", classes: tuple[str, ...], top: int, marks: Sequence[str]
) -> dict[str, Any]:
    if prediction.picture is None:
        return {"file": prediction.file, "error": prediction.fault}
    return {
        "file": prediction.file,
        "classes": [
            {"class": classes[label], "probability": round(probability, 6)}
            for label, probability in prediction.best(top)
        ],
        **{word: getattr(prediction.picture, word) for word in DONE},
        **{word: prediction.marks[word] for word in marks},
    }


def _csv_line(cells: list[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


FORMATS: dict[str, Format] = {"table": as_table, "csv": as_csv, "json": as_json}
