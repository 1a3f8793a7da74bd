"""``tinylab report RUN --card``: what somebody should know who is given the trained network.

All values come from the run's own files; the text around them is in ``card.md.j2``.
"""

import re
import shlex
from pathlib import Path
from typing import Any

from markupsafe import Markup

from tinylab.config.metrics import with_interval
from tinylab.errors import UserError
from tinylab.reporting import details, mistakes
from tinylab.store.collect import Skipped, read
from tinylab.ui import curves

FEW = 30  # test images of a class, below which its recall is a rough estimate


def facts(folder: Path) -> dict[str, Any]:
    """Return the values for the card's template. Raises UserError if ``folder`` is not a finished
    run.
    """
    run = read(folder)
    if isinstance(run, Skipped):
        raise UserError(f"{folder}: expected the folder of a finished run, but: {run.reason}")
    predictions = mistakes.read(run)
    totals = zip(predictions.classes, predictions.matrix.sum(axis=1), strict=True)
    typed = (["verify", folder], ["predict", folder, "IMAGE"])
    others = [shlex.join(["tinylab", *map(str, words)]) for words in typed]
    return {
        "name": run.name,
        "result": run.result,
        "test_accuracy": with_interval(run.result.test.accuracy, *run.result.test.accuracy_ci95),
        "curves": curves.reading(run.files.history()),
        "config": details.config(run),
        "recall": mistakes.recall(predictions),
        "confused": mistakes.confused(predictions),
        "few": [name for name, total in totals if total < FEW],
        "few_images": FEW,
        "environment": details.environment([run]),
        "commands": [_indented(command) for command in (details.again(run), *others)],
        "command": _indented(run.result.command),
    }


def _indented(code: str) -> Markup:
    """Return a text for a code block, indented by four spaces."""
    return Markup(code.replace("\n", "\n    "))


def markdown(value: object) -> Markup:
    """Escape a value for Markdown; Markup is kept."""
    if isinstance(value, Markup):
        return value
    one_line = " ".join(str(value).split())
    return Markup(re.sub(r"([\\`*<>|\[\]~&#])", r"\\\1", one_line))
