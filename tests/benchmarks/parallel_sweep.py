"""How much faster a sweep is with its jobs in parallel than with one after another.

Runs the same sweep through the command line with ``jobs=1`` (one process with all cores) and with
``jobs`` at its default (one process per core), in turn, each round in a new folder; prints seconds
and ratio of each round, and the medians.

    TINYLAB_DATA=... python tests/benchmarks/parallel_sweep.py --rounds 5

Or with what else ``--one`` and ``--many`` say, such as two workers of one study against one:

    ... parallel_sweep.py --rounds 3 --one "sweep.workers=1 jobs=1" \\
        --many "sweep.workers=2 jobs=2" dataset=mnist train.epochs=1 threads=1 "seed=range(8)"
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time

SWEEP = ("dataset=mnist", "train.epochs=1", "seed=range(4)")


def seconds_of(*overrides: str) -> float:
    """Wall time of one whole sweep."""
    with tempfile.TemporaryDirectory() as outputs:
        command = [sys.executable, "-m", "tinylab", "train", "-m", *overrides, f"outputs={outputs}"]
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - started


def main() -> None:
    """Run the rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", default="jobs=1", help="overrides of the slow side")
    parser.add_argument("--many", default="", help="overrides of the fast side")
    parser.add_argument("overrides", nargs="*", default=SWEEP, help=f"default: {' '.join(SWEEP)}")
    options = parser.parse_args()
    seconds_of(*options.overrides)  # decodes the data, fills the file cache
    rounds = []
    for number in range(options.rounds):
        one, many = (
            seconds_of(*options.overrides, *more.split()) for more in (options.one, options.many)
        )
        rounds.append((one, many, one / many))
        print(f"round {number + 1}: one {one:.1f} s, many {many:.1f} s, {one / many:.2f}x")
    one, many, ratio = (statistics.median(column) for column in zip(*rounds, strict=True))
    print(f"medians: one {one:.1f} s, many {many:.1f} s, {ratio:.2f}x")


if __name__ == "__main__":
    main()
