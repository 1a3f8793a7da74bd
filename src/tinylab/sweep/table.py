"""The table that ends a sweep."""

from pathlib import Path

from tinylab import runs
from tinylab.console import say

HEADER = ("state", "val acc", "test acc", "95 % interval", "seconds", "run")


def show(jobs: list[tuple[dict[str, str], Path]]) -> int:
    """Show what became of every job, best validation first; returns how many failed.

    jobs: what is varied in each, and its folder.
    """
    rows = [(varied, folder, runs.read_result(folder)) for varied, folder in jobs]
    rows.sort(key=lambda row: -_rank(row[2]))
    varied_keys = list(jobs[0][0])
    cells = [[*varied_keys, *HEADER]]
    for varied, folder, result in rows:
        cells.append([*varied.values(), *_figures(folder, result)])
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    say("")
    for row in cells:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    if all(result is None or result["val"] is None for _, _, result in rows):
        say("no validation set (split.val=0): do not choose a setting by its test accuracy")
    return sum(result is None for _, _, result in rows)


def _rank(result: dict | None) -> float:  # type: ignore[type-arg]
    if result is None:
        return -1.0
    return float(result["val"]["accuracy"]) if result["val"] is not None else 0.0


def _figures(folder: Path, result: dict | None) -> list[str]:  # type: ignore[type-arg]
    if result is None:
        failure = runs.read_json(folder / "failure.json")
        error = failure["error"].splitlines()[0] if failure else "not run"
        return ["failed", "", "", "", "", f"{folder.name}: {error}"]
    low, high = result["test"]["accuracy_ci95"]
    val = f"{result['val']['accuracy']:.2%}" if result["val"] is not None else "-"
    return [
        "finished", val, f"{result['test']['accuracy']:.2%}", f"{low:.2%} to {high:.2%}",
        f"{result['seconds']['train']:.1f}", folder.name,
    ]  # fmt: skip
