"""Seconds of an epoch of MNIST at batch 512 on a CUDA card, its step recorded or not, with bfloat16
or not, in turn; the median of the epochs after the first, with the card's name.

    TINYLAB_DATA=... python tests/benchmarks/cuda_epoch.py --epochs 6 [OVERRIDE ...]
"""

import argparse
import functools
import statistics
from collections.abc import Callable
from typing import Any

import torch

from tinylab import runtime, train
from tinylab.compose import run_hydra, to_config
from tinylab.config import Config
from tinylab.prepare import prepare


class Silence:
    """Checkpoints, display and tracker that do nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *values: None


def launched(training: train.Training, recipe: train.Recipe) -> Any:
    """The step whose kernels are launched one by one."""
    return functools.partial(train.train_step, training, recipe)


def seconds_of(config: Config, full_step: Any) -> float:
    """The median epoch of one training."""
    prepared = prepare(config)
    training = train.start(prepared.model, prepared.recipe)
    train._full_step = full_step
    quiet: Any = Silence()
    parts = prepared.parts
    train.fit(training, parts["train"], None, prepared.recipe, quiet, quiet, quiet, lambda: None)
    return statistics.median(row["seconds"] for row in training.history[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("overrides", nargs="*", help="of tinylab train")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("needs a CUDA device")
    print(runtime.device_name(torch.device("cuda:0")), "torch", torch.__version__)
    recorded = train._full_step
    for precision in ("float32", "bfloat16"):
        overrides = [
            "dataset=mnist", "device=cuda:0", "train.batch_size=512",
            f"train.epochs={arguments.epochs}", f"train.precision={precision}",
            *arguments.overrides,
        ]  # fmt: skip
        configs: list[Config] = []
        run_hydra(lambda composed: configs.append(to_config(composed)), overrides)  # noqa: B023
        for name, full_step in (("recorded", recorded), ("launched one by one", launched)):
            print(f"{precision:9} {name:20} {seconds_of(configs[0], full_step):.3f} s", flush=True)


if __name__ == "__main__":
    main()
