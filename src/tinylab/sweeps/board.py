"""A sweep's TensorBoard folder: its runs under readable names, and the mean over seeds."""

import hashlib
import math
import os
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev

from tinylab.comparison.settings import Setting, varied
from tinylab.config.metrics import CHOOSABLE, METRICS
from tinylab.store.run import Run
from tinylab.ui.tensorboard import Point, Row, write_band, write_columns

KEY = re.compile(r"(?<!\S)([\w./]+\.)?(\w+)(?==)")  # its groups, and its name
LONGEST = 120  # bytes of a name; most file systems allow 255, TensorBoard's page shows fewer


def write(folder: Path, labels: dict[str, str], settings: Sequence[Setting]) -> None:
    """Rewrite ``folder``. ``labels`` has a name for each run by its id.

    The runs are symbolic links, so nothing is copied or outdated; without symbolic links, the
    folder has only the means.
    """
    shutil.rmtree(folder, ignore_errors=True)
    runs = [run for setting in settings for run in setting.runs]
    values = [run.values for run in runs]
    taken = {key: [each[key] for each in values if key in each] for key in varied(values)}
    finals = {name: metric.tag for name, metric in METRICS.items() if metric.tag}
    known = [finals[name] for name in finals if any(run.metric(name) is not None for run in runs)]
    write_columns(folder, taken, known)
    names = file_names([labels[run.name] for run in runs])
    for run, name in zip(runs, names, strict=True):
        _link(folder / name, run.folder)
    repeated = [setting for setting in settings if len(setting.runs) > 1]
    means = file_names([setting.label for setting in repeated])
    for setting, name in zip(repeated, means, strict=True):
        write_band(folder / "mean" / name, _bands(setting.runs))


def _link(link: Path, target: Path) -> None:
    try:
        link.symlink_to(os.path.relpath(target, link.parent), target_is_directory=True)
    except OSError:  # Windows without the right to make links
        return


def file_names(labels: Sequence[str]) -> list[str]:
    """Return labels as folder names, ``lr=0.1,seed=2``, all different.

    TensorBoard's narrow list cuts names off, so keys lack their groups if unambiguous. A label that
    is too long, or not unique, gets a hash of the full label as suffix.
    """
    keys = {match.group(): match[2] for label in labels for match in KEY.finditer(label)}
    is_plain = len(set(keys.values())) == len(keys)
    short = [KEY.sub(r"\2", label) if is_plain else label for label in labels]
    plain = [label.replace("/", "_").replace(" ", ",") for label in short]
    taken = Counter(name.casefold() for name in plain)  # some file systems are case-insensitive
    return [
        name
        if taken[name.casefold()] == 1 and len(os.fsencode(name)) <= LONGEST
        else f"{_cut(name)}-{hashlib.sha256(os.fsencode(label)).hexdigest()[:10]}"
        for name, label in zip(plain, labels, strict=True)
    ]


def _cut(name: str) -> str:
    while len(os.fsencode(name)) > LONGEST - 11:  # whole characters of any size
        name = name[:-1]
    return name


def _bands(runs: Sequence[Run]) -> dict[str, list[Point]]:
    """For each column, return mean and mean ± standard deviation over the runs, by epoch."""
    histories = [run.files.history() for run in runs]
    bands = {}
    for column in ("train_loss", "train_accuracy", *CHOOSABLE):
        # Runs may have stopped early; the mean ends with the shortest, since its members would
        # change.
        points = [_point(column, rows) for rows in zip(*histories, strict=False)]
        if whole := [point for point in points if point is not None]:
            bands[column] = whole
    return bands


def _point(column: str, rows: Sequence[Row]) -> Point | None:
    # None without validation images, and in a history of an earlier version.
    values = [row[column] for row in rows if row.get(column) is not None]
    if len(values) < len(rows) or not all(map(math.isfinite, values)):
        return None
    mean, spread = fmean(values), stdev(values)
    return Point(rows[0]["step"], rows[0]["time"], mean, mean - spread, mean + spread)
