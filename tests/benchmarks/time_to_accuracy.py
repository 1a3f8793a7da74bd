"""How long a recipe trains until its mean test accuracy over seeds is the target.

Runs the whole command for each seed, in a new folder. Prints the accuracy of each, the seconds of
training and of the command, and how much of the machine others used; then the mean with its 95%
confidence interval (Student's t over the seeds), and whether the target is reached.

    TINYLAB_DATA=... python tests/benchmarks/time_to_accuracy.py
    ... time_to_accuracy.py experiment=mnist_fast --target 99.5 --seeds 5 device=cuda
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import process
import quiet

RECIPE = ("experiment=mnist_994",)


class Trained(NamedTuple):
    """One seed's test accuracy in percent, and seconds."""

    accuracy: float
    training: float
    command: float


def train(seed: int, overrides: list[str]) -> Trained:
    """Run the recipe with a seed."""
    command = [sys.executable, "-m", "tinylab", "train", f"seed={seed}", *overrides]
    with tempfile.TemporaryDirectory() as outputs:
        ended = process.run([*command, f"outputs={outputs}"])
        (file,) = Path(outputs).glob("runs/*/result.json")
        result = json.loads(file.read_text())
    return Trained(100 * result["test"]["accuracy"], result["seconds"]["train"], ended.seconds)


def half_width(values: list[float]) -> float:
    """Half of the 95% confidence interval of the mean."""
    from scipy import stats

    quantile = float(stats.t.ppf(0.975, len(values) - 1))
    return quantile * statistics.stdev(values) / len(values) ** 0.5


def main() -> None:
    """Train all seeds, and say whether the target is reached."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--target", type=float, default=99.4, help="mean test accuracy in percent")
    parser.add_argument("--seeds", type=int, default=5, help="at least 2")
    parser.add_argument("overrides", nargs="*", default=RECIPE, help=f"default: {RECIPE[0]}")
    options, more = parser.parse_known_args()
    rounds = []
    for seed in range(options.seeds):
        busy, before = quiet.busy(), quiet.now()
        trained = train(seed, [*options.overrides, *more])
        taken = max(busy, quiet.stolen(before, quiet.now()))
        rounds.append(trained)
        print(
            f"seed {seed}: {trained.accuracy:.2f}%, trained {trained.training:.1f} s, "
            f"command {trained.command:.1f} s; others used {taken:.0%} of the machine",
            flush=True,
        )
    accuracies, training, commands = (list(column) for column in zip(*rounds, strict=True))
    mean = statistics.fmean(accuracies)
    print(
        f"mean {mean:.2f}% (± {half_width(accuracies):.2f}); "
        f"medians: {statistics.median(training):.1f} s of training, "
        f"{statistics.median(commands):.1f} s for the command"
    )
    print(f"{options.target}% {'reached' if mean >= options.target else 'not reached'}")


if __name__ == "__main__":
    main()
