"""Seconds of an epoch of the baseline CNN on MNIST: tinylab beside its peers, in turn.

    TINYLAB_DATA=... python tests/benchmarks/mnist_epoch.py --rounds 5 --peers keras,dataloader

Every round runs each of them once, as a process of its own, two epochs; the second one counts, so
that tracing and warming up cost nobody anything. tinylab's epoch is that of the real command, with
its evaluation, checkpoint and logging. Ratios are taken round by round, because machines drift.
Keras is installed in a virtual environment of its own, beside the result file.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
EPOCHS, BATCH_SIZE = 2, 32


def tinylab_seconds(data: Path) -> float:
    """The second epoch of `tinylab train`, by its metrics: from one row's time to the next."""
    with tempfile.TemporaryDirectory() as outputs:
        subprocess.run(
            [sys.executable, "-m", "tinylab", "train", "experiment=mnist_baseline",
             f"train.epochs={EPOCHS}", f"train.batch_size={BATCH_SIZE}", f"outputs={outputs}"],
            check=True, stdout=subprocess.DEVNULL, env={**os.environ, "TINYLAB_DATA": str(data)},
        )  # fmt: skip
        [metrics] = Path(outputs).glob("runs/*/metrics.jsonl")
        rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    return float(rows[1]["time"] - rows[0]["time"])


def peer_seconds(python: Path | str, script: str, data: Path) -> float:
    """The second epoch of a peer's script."""
    done = subprocess.run(
        [str(python), str(HERE / "peers" / script), str(data), str(EPOCHS), str(BATCH_SIZE)],
        check=True, capture_output=True, text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )  # fmt: skip
    return float(json.loads(done.stdout.splitlines()[-1])[1])


def keras_python(folder: Path) -> Path:
    """A Python with Keras on TensorFlow, installed on first use."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        packages = ["tensorflow-cpu==2.21.0", "keras==3.15.1"]
        subprocess.run([str(python), "-m", "pip", "install", "-q", *packages], check=True)
    return python


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", default="keras,dataloader")
    parser.add_argument("--keras-env", type=Path, default=Path("outputs/benchmarks/keras-env"))
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmarks/mnist_epoch.json"))
    options = parser.parse_args()
    data = Path(os.environ["TINYLAB_DATA"]).resolve()
    measures = {"tinylab": lambda: tinylab_seconds(data)}
    for peer in options.peers.split(","):
        python = keras_python(options.keras_env) if peer == "keras" else sys.executable
        measures[peer] = lambda python=python, peer=peer: peer_seconds(
            python, f"{peer}_mnist.py", data
        )
    seconds: dict[str, list[float]] = {name: [] for name in measures}
    for number in range(options.rounds):
        for name, measure in measures.items():
            seconds[name].append(measure())
        row = "  ".join(f"{name} {values[-1]:.2f} s" for name, values in seconds.items())
        print(f"round {number + 1}: {row}", flush=True)
    for name, values in seconds.items():
        ratios = [value / own for value, own in zip(values, seconds["tinylab"], strict=True)]
        print(
            f"{name:12} median {statistics.median(values):6.2f} s   of tinylab's time: "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"batch_size": BATCH_SIZE, "seconds": seconds}, indent=2))


if __name__ == "__main__":
    main()
