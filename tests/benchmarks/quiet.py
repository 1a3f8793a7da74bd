"""Whether the machine was quiet during a round: what others took of it, by Linux's /proc/stat."""

import time
from dataclasses import dataclass
from pathlib import Path

STAT = Path("/proc/stat")
MOST = 0.05  # of all processor time: a round with less of it taken by others is a quiet one


@dataclass(frozen=True)
class Ticks:
    """Processor time of all cores since the start, in ticks.

    total: all of it. idle: with nothing to do. steal: wanted here, but given to other guests of the
    host.
    """

    total: int
    idle: int
    steal: int


def parse(stat: str) -> Ticks:
    """The first line of /proc/stat, whose columns proc(5) explains."""
    user, nice, system, idle, iowait, irq, softirq, steal, *_ = map(int, stat.split()[1:11])
    total = user + nice + system + idle + iowait + irq + softirq + steal
    return Ticks(total, idle + iowait, steal)


def now() -> Ticks | None:
    """The ticks up to now; None where there is no /proc/stat."""
    return parse(STAT.read_text().partition("\n")[0]) if STAT.is_file() else None


def busy(seconds: float = 1.0) -> float:
    """The fraction of all processor time that others use while this process sleeps."""
    before = now()
    time.sleep(seconds)
    after = now()
    if before is None or after is None or after.total == before.total:
        return 0.0
    return 1 - (after.idle - before.idle) / (after.total - before.total)


def stolen(before: Ticks | None, after: Ticks | None) -> float:
    """The fraction of all processor time between two moments that other guests of the host got."""
    if before is None or after is None or after.total == before.total:
        return 0.0
    return (after.steal - before.steal) / (after.total - before.total)
