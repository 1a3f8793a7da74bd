"""Loss, augmentation and schedule from user code, and their checks.

Each is tried before training; its outputs are also checked in every step where that is free.
"""

import contextlib
import math
import pickle
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tinylab.config import options
from tinylab.config.base_records import AugmentConfig, LossConfig, ScheduleConfig
from tinylab.config.option import Option
from tinylab.config.user_code import mistakes_reported
from tinylab.data.batches import Batches
from tinylab.errors import UserError
from tinylab.models.own import kind
from tinylab.ui.console import say

TRIED = 8  # images
TIMES = 4  # an augmentation may change only some batches, so it is tried this often


@contextlib.contextmanager
def errors_reported(said: str, file: object) -> Iterator[None]:
    """Convert exceptions of user code to UserError."""
    try:
        with mistakes_reported(said):
            yield
    except UserError:
        raise
    except Exception as error:  # raised before a line of user code was reached
        first = str(error).partition("\n")[0]
        raise UserError(f"{said}: {type(error).__name__}: {first}\n  see {file}") from error


# ---------------------------------------------------------------- loss


@dataclass(frozen=True)
class Loss:
    """The user's loss."""

    said: str
    file: object
    function: Callable[..., Any]

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Logits (N, num_classes) and int64 (N,) or class probabilities (N, num_classes) -> ().

        Raises UserError if it does not return a scalar.
        """
        value = self.function(logits, targets)
        if not isinstance(value, Tensor) or value.dim() > 0 or not value.is_floating_point():
            raise UserError(
                f"{self.said}: gives {kind(value)} for {len(logits)} images; expected a scalar "
                f"tensor, their mean\n  see {self.file}"
            )
        return value


def loss(config: LossConfig, num_classes: int, device: torch.device, mixed: bool) -> Loss | None:
    """Return the user's loss after trying it; None for the built-in one.

    ``mixed``: its targets are class probabilities, as from mixup and CutMix. Raises UserError if it
    does not return a finite scalar with a gradient.
    """
    option = options.of(config)
    if option.is_plain:
        return None
    made = _made_loss(option, config, device)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(TRIED, num_classes, generator=generator).to(device)
    labels = torch.arange(TRIED, device=device) // 2 % num_classes  # two of a class
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        _try_loss(made, logits, labels)
        if mixed:
            one_hot = F.one_hot(labels, num_classes).float()
            _try_mixed(made, logits, torch.lerp(one_hot.flip(0), one_hot, 0.75))
    return made


def _made_loss(option: Option, config: LossConfig, device: torch.device) -> Loss:
    said = f"loss={config.name}"
    with errors_reported(said, option.file), torch.random.fork_rng(devices=[]):
        made = option.function(config)
    if isinstance(made, nn.Module):
        if any(True for _ in made.parameters()):
            raise UserError(
                f"{said}: has parameters, which are not trained; expected a loss without parameters"
                f"\n  see {option.file}"
            )
        made = made.to(device)
    return Loss(said, option.file, made)


def _try_mixed(loss: Loss, logits: Tensor, targets: Tensor) -> None:
    try:
        _try_loss(loss, logits, targets)
    except UserError as error:
        raise UserError(
            f"{loss.said} with augment.mixup or augment.cutmix: does not accept their targets, "
            "class probabilities (N, num_classes)\n"
            f"  expected both to be 0, or another loss; here {str(error).partition(chr(10))[0]}"
        ) from error


def _try_loss(loss: Loss, logits: Tensor, targets: Tensor) -> None:
    leaf, said, file = logits.clone().requires_grad_(), loss.said, loss.file
    with errors_reported(said, file):
        value = loss(leaf, targets)
    if not value.isfinite():
        raise UserError(f"{said}: gives {value.item()}; expected a finite number\n  see {file}")
    gradient: Tensor | None = None
    if value.requires_grad:
        with errors_reported(said, file):
            [gradient] = torch.autograd.grad(value, leaf, allow_unused=True)
    if gradient is None:
        raise UserError(
            f"{said}: has no gradient; expected torch's operations on the logits, without "
            f".item(), .detach() or argmax\n  see {file}"
        )
    if not gradient.isfinite().all():
        raise UserError(f"{said}: its gradient is not finite\n  see {file}")


# ---------------------------------------------------------------- augmentation


@dataclass(frozen=True)
class Augmentation:
    """The user's augmentation, applied after the built-in ones."""

    said: str
    file: object
    function: Callable[..., Any]

    def __call__(self, pixels: Tensor, seed: int) -> Tensor:
        """float32 (N, C, H, W), 0..255, to the same. ``seed`` determines all its random numbers.

        Raises UserError if it returns another shape or dtype.
        """
        images = pixels / 255
        expected = _described(images)
        generator = torch.Generator(images.device).manual_seed(seed)
        changed = self.function(images, generator)
        if not isinstance(changed, Tensor) or _described(changed) != expected:
            given = _described(changed) if isinstance(changed, Tensor) else kind(changed)
            raise UserError(
                f"{self.said}: gives {given} for images of {expected}; expected the same shape and "
                f"type\n  see {self.file}"
            )
        return changed * 255


def _described(images: Tensor) -> str:
    size = "x".join(map(str, images.shape))
    return f"{str(images.dtype).removeprefix('torch.')} {size}"


def augmentation(config: AugmentConfig, train: Batches) -> Augmentation | None:
    """Return the user's augmentation after trying it on training images; None without one.

    Warns if it uses a global generator. Raises UserError if it does not work.
    """
    option = options.of(config)
    if option.is_plain:
        return None
    said = f"augment={config.name}"
    with errors_reported(said, option.file), torch.random.fork_rng(devices=[]):
        made = Augmentation(said, option.file, option.function(config))
    images, _ = train.take(torch.arange(min(len(train), TRIED)))
    with _refuse_global_draws(said, images.device), errors_reported(said, option.file):
        tried = [made(images.float(), seed) for seed in range(TIMES)]
    low, high = (float(end) / 255 for end in torch.stack(tried).aminmax())
    if low < -1 or high > 2:  # noise may exceed the range a little
        say(
            f"warning: {said}: gives values from {low:.4g} to {high:.4g}; expected 0 to 1, the "
            f"range of the images it is given\n  see {option.file}"
        )
    return made


@contextlib.contextmanager
def _refuse_global_draws(said: str, device: torch.device) -> Iterator[None]:
    """Yield a list of the global generators used inside the block, and restore them."""
    streams: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
        "torch": (torch.get_rng_state, torch.set_rng_state),
        "random": (random.getstate, random.setstate),
        "numpy.random": (np.random.get_state, np.random.set_state),
    }
    if device.type == "cuda":
        streams["torch.cuda"] = (torch.cuda.get_rng_state, torch.cuda.set_rng_state)
    before = {name: get() for name, (get, _) in streams.items()}
    yield
    moved = [name for name, (get, _) in streams.items() if _bytes(get()) != _bytes(before[name])]
    for name in moved:
        streams[name][1](before[name])
    if moved:
        say(
            f"warning: {said} uses the global generator of {' and '.join(moved)}, not "
            "the one it is given: a resumed run may not be bit-identical"
        )


def _bytes(state: Any) -> bytes:
    return state.numpy().tobytes() if isinstance(state, Tensor) else pickle.dumps(state)


# ---------------------------------------------------------------- schedule


@dataclass(frozen=True)
class Schedule:
    """The user's learning-rate schedule."""

    said: str
    file: object
    function: Callable[..., Any]

    def __call__(self, step: int, steps: int) -> float:
        """Return the factor of the peak rate at a step, 0 to steps - 1. Raises UserError."""
        result = self.function(step, steps)
        try:
            factor = float(result)
        except (TypeError, ValueError, RuntimeError):
            factor = math.nan
        if not (math.isfinite(factor) and factor >= 0):
            given = result if isinstance(result, int | float) else kind(result)
            raise UserError(
                f"{self.said}: gives {given} for step {step} of {steps}; expected a number, 0 or "
                f"more\n  see {self.file}"
            )
        return factor


def schedule(config: ScheduleConfig, steps: int) -> Schedule | None:
    """Return the user's schedule after trying it over ``steps``; None for the optimizer's.

    Raises UserError if it returns no factor, or is not a function of the step.
    """
    option = options.of(config)
    if option.is_plain:
        return None
    said = f"schedule={config.name}"
    with errors_reported(said, option.file):
        made = Schedule(said, option.file, option.function(config))
        tried = sorted({0, steps // 2, steps - 1})
        first, second = ([made(step, steps) for step in tried] for _ in range(2))
    if first != second:
        raise UserError(
            f"{said}: gives {second} after {first} for the same steps {tried}; expected a function "
            f"of step and steps alone\n  see {option.file}"
        )
    return made
