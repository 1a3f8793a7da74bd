"""tinylab compared to its peers on the same work, interleaved round by round, on the CPU.

    TINYLAB_DATA=... python tests/benchmarks/run.py --rounds 5
    python tests/benchmarks/run.py --work digits --epochs 2 --rounds 1    # does it all work here?
    python tests/benchmarks/run.py --work busy-digits --spins 100,1000,10000 --rounds 1   # a minute

works: mnist32, mnist512: the baseline CNN on MNIST in batches of 32, 512. scene15: the small
residual network on 15-Scene. startup: from Enter to the first step, and to answers. sweep: 16 short
runs. scale: 1x, 4x, 16x MNIST, and a folder of 100,000 images. busy: tinylab alone on MNIST, with
and without one busy process beside it; busy-digits: on digits, for a trial, as digits is.

Everything is a process of its own. Peers are installed on first use, in environments of their own.
"""

import argparse
import json
import os
import platform
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import measures
import quiet
from environments import KERAS, torch_packages
from measures import SCRIPTS, Bench, Figures
from summary import OURS, summarize, table
from works import HERE, WORKS, Work, folder_work

ALL_WORK = ("mnist32", "mnist512", "scene15", "startup", "sweep", "scale", "busy")
TRIALS = ("digits", "busy-digits")


@dataclass(frozen=True)
class Task:
    """One work, how it is measured, and its name in the table."""

    name: str
    work: Work
    measure: Callable[[Bench, str, Work, str], dict[str, Figures]]


def main() -> None:
    options = parse()
    folder = options.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")  # tinylab's decoded images, not the user's
    bench = Bench(folder, options.epochs, options.sweep_runs, options.spins)
    tasks = [task for work in options.work for task in tasks_of(work, bench, options.folder_images)]
    records = []
    for number in range(1, options.rounds + 1):
        for task in tasks:
            records += one_round(bench, task, number, (OURS, *options.peers))
        write(options.out, bench, records)
    print(f"\n{table(summarize(records))}\n\nall of it: {options.out}")


def one_round(
    bench: Bench, task: Task, number: int, systems: tuple[str, ...]
) -> list[dict[str, object]]:
    """One record per line of the table, each with whether the machine was quiet in this round."""
    busy, before = quiet.busy(), quiet.now()
    measured = []
    for system in systems:
        for line, values in task.measure(bench, task.name, task.work, system).items():
            measured.append((line, values))
            shown = "  ".join(f"{key} {value:.3g}" for key, value in values.items())
            print(f"round {number}  {task.name}  {line}  {shown}", flush=True)
    stolen = quiet.stolen(before, quiet.now())
    is_quiet = max(busy, stolen) < quiet.MOST
    word = "quiet" if is_quiet else "disturbed"
    print(f"round {number}  {task.name}  {word}: {busy:.0%} busy before, {stolen:.0%} stolen")
    return [
        {
            "work": task.name, "system": line, "round": number, "values": values,
            "quiet": is_quiet, "busy_before": busy, "stolen": stolen,
        }
        for line, values in measured
    ]  # fmt: skip


def parse() -> argparse.Namespace:
    """The command line. argparse exits with 2 and a line on what is wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    among = some_of((*ALL_WORK, *TRIALS))
    parser.add_argument("--work", type=among, default=ALL_WORK, help="comma-separated")
    parser.add_argument(
        "--peers", type=some_of(SCRIPTS), default=tuple(SCRIPTS), help=f"of {','.join(SCRIPTS)}"
    )
    parser.add_argument("--rounds", type=at_least(1), default=5)
    parser.add_argument("--epochs", type=at_least(2), default=3, help="the first is not counted")
    parser.add_argument("--sweep-runs", type=at_least(1), default=16)
    parser.add_argument(
        "--spins", type=counts, default=(), help="values of GOMP_SPINCOUNT that busy tries as well"
    )
    parser.add_argument("--folder-images", type=at_least(1000), default=100_000)
    parser.add_argument("--folder", type=Path, default=Path("outputs/benchmarks"))
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmarks/results.json"))
    return parser.parse_args()


def some_of(known: tuple[str, ...] | dict[str, str]) -> Callable[[str], tuple[str, ...]]:
    """A parser of comma-separated names."""

    def names(typed: str) -> tuple[str, ...]:
        chosen = tuple(filter(None, typed.split(",")))
        for name in chosen:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name}: expected some of {', '.join(known)}")
        return chosen

    return names


def at_least(least: int) -> Callable[[str], int]:
    """A parser of whole numbers."""

    def number(typed: str) -> int:
        if not typed.isdecimal() or int(typed) < least:
            raise argparse.ArgumentTypeError(f"{typed}: expected {least} or more")
        return int(typed)

    return number


def counts(typed: str) -> tuple[int, ...]:
    """Comma-separated whole numbers."""
    return tuple(map(at_least(0), typed.split(",")))


def tasks_of(name: str, bench: Bench, folder_images: int) -> list[Task]:
    """The task of a name on the command line."""
    if name == "startup":
        return [Task("startup", WORKS["mnist32"], measures.startup)]
    if name == "sweep":
        return [Task("sweep", WORKS["digits"], measures.sweep)]
    if name.startswith("busy"):
        kind = name.removeprefix("busy-") if name in TRIALS else "mnist32"
        return [Task(name, WORKS[kind], measures.busy)]
    if name != "scale":
        return [Task(name, WORKS[name], measures.epoch)]
    works = {key: work for key, work in WORKS.items() if key.startswith("mnist x")}
    works[f"folder {folder_images}"] = folder_work(bench.folder, folder_images)
    return [Task(key, work, measures.scale) for key, work in works.items()]


def write(path: Path, bench: Bench, records: list[dict[str, object]]) -> None:
    """Everything measured so far, and on what."""
    commit = ["git", "-C", str(HERE), "describe", "--always", "--dirty"]
    content = {
        "machine": {"system": platform.platform(), "cores": os.cpu_count()},
        "tinylab": subprocess.run(commit, capture_output=True, text=True).stdout.strip(),
        "packages": {"torch": version("torch"), "keras": KERAS, "lightning": torch_packages()},
        "epochs": bench.epochs,
        "sweep_runs": bench.sweep_runs,
        "records": records,
        "summary": summarize(records),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
