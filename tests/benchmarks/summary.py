"""From records of single measurements to medians, and to ratios taken round by round.

A record is {"work", "system", "round", "values": {name: number}, "quiet": bool}. Machines drift by
tens of percent within minutes, so a ratio is of two measurements of one round, and the median and
the range of these ratios are shown, not the ratio of two medians. The same medians of the quiet
rounds alone are beside them.
"""

import statistics
from collections.abc import Sequence
from typing import Any

OURS = "tinylab"
HEAD = (
    "work", "metric", "system", "median", "range", "of tinylab's", "range", "rounds",
    "in quiet ones", "of tinylab's", "rounds",
)  # fmt: skip
UNITS = {
    "seconds": "s",
    "mb": "MB",
    "accuracy": "accuracy",
    "fraction": "",
}  # by the end of a metric's name


def summarize(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per work, metric and system, in the order in which they were first measured."""
    measured: dict[tuple[str, str, str], dict[int, float]] = {}
    quiet = {(each["work"], each["round"]) for each in records if each.get("quiet")}
    for record in records:
        for metric, value in record["values"].items():
            key = (record["work"], metric, record["system"])
            measured.setdefault(key, {})[record["round"]] = value
    rows = []
    for (work, metric, system), by_round in measured.items():
        ours = measured.get((work, metric, OURS), {})
        ratios = {n: value / ours[n] for n, value in by_round.items() if n in ours}
        calm = [number for number in by_round if (work, number) in quiet]
        rows.append(
            {
                "work": work,
                "metric": metric,
                "system": system,
                "rounds": len(by_round),
                **spread(list(by_round.values())),
                "ratio": spread([*ratios.values()]) if ratios else None,
                "quiet_rounds": len(calm),
                "quiet_median": statistics.median(by_round[n] for n in calm) if calm else None,
                "quiet_ratio": spread([ratios[n] for n in calm]) if ratios and calm else None,
            }
        )
    order = {key: n for n, key in enumerate(dict.fromkeys((w, m) for w, m, _ in measured))}
    return sorted(rows, key=lambda row: order[row["work"], row["metric"]])


def spread(values: list[float]) -> dict[str, float]:
    """Median, smallest and largest of at least one number."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows of ``summarize`` as aligned text."""
    cells = [HEAD, *map(_cells, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    name, _, kind = row["metric"].rpartition("_")
    ratio = row["ratio"]
    return (
        row["work"],
        f"{name.replace('_', ' ')} {UNITS[kind]}",
        row["system"],
        number(row["median"]),
        f"{number(row['low'])} to {number(row['high'])}",
        "" if ratio is None else f"{ratio['median']:.2f}",
        "" if ratio is None else f"{ratio['low']:.2f} to {ratio['high']:.2f}",
        str(row["rounds"]),
        "" if row["quiet_median"] is None else number(row["quiet_median"]),
        "" if row["quiet_ratio"] is None else f"{row['quiet_ratio']['median']:.2f}",
        str(row["quiet_rounds"]),
    )


def number(value: float) -> str:
    """Three digits that count, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
