"""A lower bound for any loop that trains the same network, by tinylab's own preparation of it.

Arguments: overrides of ``tinylab train``. Prints a line of JSON with the seconds of an epoch:

kernels: forward, backward and optimizer on one fixed batch, as often as an epoch has steps, and
the validation images' forward pass; nothing fetches, counts, evaluates or writes.
product: as many floating-point operations in float32 products of two large matrices.
"""

import json
import sys
import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from tinylab.config.compose import run_hydra, to_config
from tinylab.config.schema import Config
from tinylab.data.batches import Batches, batch_bounds
from tinylab.experiment.run import Prepared, prepare
from tinylab.models.layers import PREFERS_ONEDNN
from tinylab.system import runtime
from tinylab.training.state import start
from tinylab.training.step import training_loss

WARM_UP, STEPS = 10, 200
SIDE = 2048  # of the large matrices


def product_flops(
    a_shape: torch.Size, b_shape: torch.Size, *rest: object, **options: object
) -> int:
    """Of oneDNN's product, which torch's counter does not know."""
    return 2 * a_shape[0] * a_shape[1] * b_shape[0]


COUNTED = {torch.ops.mkldnn._linear_pointwise: product_flops} if PREFERS_ONEDNN else {}


def seconds_of(work: Callable[[], object], repeats: int) -> float:
    """The mean time of ``work``, once it is warm."""
    for _ in range(WARM_UP):
        work()
    started = time.perf_counter()
    for _ in range(repeats):
        work()
    return (time.perf_counter() - started) / repeats


def step_of(prepared: Prepared) -> Callable[[], None]:
    """One training step on the first batch."""
    recipe, model = prepared.recipe, prepared.model
    training = start(model, recipe)
    images, labels = prepared.parts["train"].take(torch.arange(recipe.train.batch_size))
    inputs = recipe.normalization(images)

    def step() -> None:
        for parameter in model.parameters():
            parameter.grad = None
        training_loss(model(inputs), labels, recipe).backward()
        training.optimizer.step()

    return step


def validation_of(prepared: Prepared, val: Batches) -> Callable[[], None]:
    """The forward passes of all validation images."""
    recipe = prepared.recipe
    batches = [recipe.normalization(x) for x, _ in val.in_order(recipe.train.eval_batch_size)]

    @torch.inference_mode()
    def validate() -> None:
        for inputs in batches:
            prepared.model(inputs)

    return validate


def main() -> None:
    configs: list[Config] = []
    run_hydra(lambda composed: configs.append(to_config(composed)), sys.argv[1:])
    config = configs[0]
    device = runtime.choose_device(config.device)
    with runtime.settings(device, config.threads, config.deterministic):
        measure(prepare(config))


def measure(prepared: Prepared) -> None:
    """Print the times."""
    steps = len(batch_bounds(len(prepared.parts["train"]), prepared.recipe.train.batch_size))
    step, validate = step_of(prepared), validation_of(prepared, prepared.parts["val"])
    prepared.model.train()
    kernels = steps * seconds_of(step, STEPS)
    with FlopCounterMode(display=False, custom_mapping=COUNTED) as training_flops:
        step()
    prepared.model.eval()
    kernels += seconds_of(validate, 1)
    with FlopCounterMode(display=False, custom_mapping=COUNTED) as validation_flops:
        validate()
    a, b = torch.rand(SIDE, SIDE), torch.rand(SIDE, SIDE)
    per_second = 2 * SIDE**3 / seconds_of(lambda: a @ b, WARM_UP)
    flops = steps * training_flops.get_total_flops() + validation_flops.get_total_flops()
    counts = {"flops_per_second": per_second, "flops_per_epoch": flops}
    print(json.dumps({"kernels": kernels, "product": flops / per_second, **counts}))


if __name__ == "__main__":
    main()
