"""A training step of the baseline CNN with convolution and pooling in one pass, and without.

    GOMP_SPINCOUNT=10000 python tests/benchmarks/one_pass.py --threads 1 2 --rounds 50

Made-up images of MNIST's size, in one process, in turn; 10000 is the spin count of ``tinylab``.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

sys.path.append(str(Path(__file__).parents[1]))
from option_records import AdamConfig, BaselineConfig
from tinylab import models
from tinylab.config.base_records import AugmentConfig
from tinylab.config.schema import TrainConfig
from tinylab.data.arrays import Dataset
from tinylab.data.augment import Draws
from tinylab.data.batches import fit_normalization, to_device
from tinylab.system.machine import tuned
from tinylab.system.runtime import keep_freed_memory
from tinylab.training.state import Recipe, start
from tinylab.training.step import Batch, train_step

MNIST = (1, 28, 28)
CPU = torch.device("cpu")
IMAGES = 256  # of one timing, in one or several steps


def step_of(size: int, in_one_pass: bool) -> Callable[[], None]:
    """A step of training on a batch of ``size`` images."""
    model = models.build(BaselineConfig(), MNIST, 10)
    if in_one_pass:
        models.choose_kernels(model, MNIST, 10**9)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (size, *MNIST)) * (rng.random((size, *MNIST)) > 0.8)
    images = Dataset(pixels.astype(np.uint8), rng.integers(0, 10, size), tuple("0123456789"))
    batches = to_device(images, CPU, True, False)
    recipe = Recipe(
        TrainConfig(batch_size=size), AdamConfig(), AugmentConfig(), 0, 10,
        fit_normalization(batches, "standard"), CPU,
    )  # fmt: skip
    training = start(model.to(memory_format=torch.channels_last).train(), recipe)
    batch = Batch(batches.images, batches.labels, Draws(*[None] * 8), 1e-3, 0.0)
    return lambda: train_step(training, recipe, batch)


def timed(step: Callable[[], None], times: int) -> float:
    """Milliseconds of a step."""
    begun = time.perf_counter()
    for _ in range(times):
        step()
    return (time.perf_counter() - begun) / times * 1e3


def main() -> None:
    """Print the medians of a step, and of the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=50)
    options = parser.parse_args()
    keep_freed_memory()
    for threads in options.threads:
        torch.set_num_threads(threads)
        for size in (32, 128, 512):
            steps = [step_of(size, True), step_of(size, False)]
            for step in steps:
                step()  # compiles
            times = max(1, IMAGES // size)
            rounds = [[timed(step, times) for step in steps] for _ in range(options.rounds)]
            ours, torchs = map(statistics.median, zip(*rounds, strict=True))
            ratio = statistics.median(b / a for a, b in rounds)
            print(
                f"{threads} threads, batches of {size}: {ours:.2f} ms in one pass, "
                f"{torchs:.2f} ms by torch's layers, {ratio:.2f} times"
            )


if __name__ == "__main__":
    with tuned():
        main()
