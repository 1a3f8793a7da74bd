"""How long ``tinylab compare`` takes for 500 runs of 100 settings, as a whole process.

    python tests/benchmarks/compare_runs.py --rounds 5

Beside it, in turn, ``import scipy.stats, pandas``: what no comparison can do without. The runs are
made up, as the tests' are.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import process

sys.path.append(str(Path(__file__).parents[1]))
from compare_kit import write_many


def main() -> None:
    """Run the rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        write_many(Path(folder), num_settings=100)
        compare = [sys.executable, "-m", "tinylab", "compare", folder]
        imports = [sys.executable, "-c", "import scipy.stats, pandas"]
        for each in (compare, imports):  # compile and read the libraries
            process.run(each)
        for number in range(options.rounds):
            rounds.append([process.run(each).seconds for each in (compare, imports)])
            print("round {}: compare {:.2f} s, imports {:.2f} s".format(number + 1, *rounds[-1]))
    medians = map(statistics.median, zip(*rounds, strict=True))
    print("medians: compare {:.2f} s, imports {:.2f} s".format(*medians))


if __name__ == "__main__":
    main()
