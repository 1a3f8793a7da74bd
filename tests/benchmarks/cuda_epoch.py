"""Seconds of an epoch of MNIST at batch 512 on a CUDA card, its step recorded or not, with bfloat16
or not, in turn; the median of the epochs after the first, with the card's name. And the seconds of
all kernels of an epoch, by PyTorch's profiler.

    TINYLAB_DATA=... python tests/benchmarks/cuda_epoch.py --epochs 6 [OVERRIDE ...]
"""

import argparse
import functools
import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from tinylab.config.compose import run_hydra, to_config
from tinylab.config.schema import Config
from tinylab.experiment.prepare import prepare
from tinylab.system import runtime
from tinylab.training import loop
from tinylab.training.state import Recipe, Training, start
from tinylab.training.step import train_step

CUDA = torch.device("cuda:0")


def launched(training: Training, recipe: Recipe) -> Any:
    """The step whose kernels are launched one by one."""
    return functools.partial(train_step, training, recipe)


def epochs_of(config: Config, full_step: Any) -> Callable[[], float]:
    """A training whose next epoch is trained when it is called; it gives the seconds."""
    prepared = prepare(config)
    recipe, images = prepared.recipe, prepared.parts["train"]
    training = start(prepared.model, recipe)
    step = full_step(training, recipe)

    def epoch() -> float:
        for _ in loop.train_epoch(training, images, recipe, step):
            pass
        return float(loop._close_epoch(training, len(images), recipe, None)["seconds"])

    return epoch


def kernel_seconds(epoch: Callable[[], float]) -> float:
    """The sum over all that the card does in an epoch."""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        epoch()
    on_card = [e for e in profiled.events() if e.device_type == torch.autograd.DeviceType.CUDA]
    return sum(event.self_device_time_total for event in on_card) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("overrides", nargs="*", help="of tinylab train")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("needs a CUDA device")
    print(runtime.device_name(CUDA), "torch", torch.__version__)
    for precision in ("float32", "bfloat16"):
        overrides = [
            "dataset=mnist", "device=cuda:0", "train.batch_size=512",
            f"train.epochs={arguments.epochs + 1}", f"train.precision={precision}",
            *arguments.overrides,
        ]  # fmt: skip
        configs: list[Config] = []
        run_hydra(lambda composed: configs.append(to_config(composed)), overrides)  # noqa: B023
        for name, full_step in (("recorded", loop._full_step), ("launched one by one", launched)):
            with runtime.settings(CUDA, None, configs[0].deterministic):
                epoch = epochs_of(configs[0], full_step)
                seconds = statistics.median([epoch() for _ in range(arguments.epochs)][1:])
                kernels = kernel_seconds(epoch)
            print(f"{precision:9} {name:20} {seconds:.3f} s, kernels {kernels:.3f} s", flush=True)


if __name__ == "__main__":
    main()
