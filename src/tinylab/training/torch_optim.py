"""Optimizers of ``torch.optim``, and the user's own, as used by the loop.

They are never part of a recorded step. Constructing one imports torch's compiler, which takes
seconds.
"""

import inspect
import io
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tinylab.errors import UserError
from tinylab.models.own import kind
from tinylab.training.own import errors_reported

Groups = list[dict[str, Any]]
STEPS_BEFORE, STEPS_AFTER = 4, 6  # steps of the rehearsal, around a checkpoint


class TorchOptimizer:
    """One of torch's optimizers; ``lr`` applies to all its groups, times their ``lr_factor``."""

    def __init__(self, inner: torch.optim.Optimizer) -> None:
        self.inner = inner

    @property
    def param_groups(self) -> Groups:
        """The parameters by group."""
        return self.inner.param_groups

    @property
    def lr(self) -> float | Tensor:
        """The learning rate."""
        rate: float | Tensor = self.param_groups[0]["lr"]
        return rate

    @lr.setter
    def lr(self, value: float | Tensor) -> None:
        for group in self.param_groups:
            group["lr"] = value * group.get("lr_factor", 1.0)

    def step(self) -> None:
        """Update all parameters that have a gradient."""
        self.inner.step()

    def state_dict(self) -> dict[str, Any]:
        """Return torch's state."""
        return self.inner.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a saved state."""
        self.inner.load_state_dict(state)
        # torch casts a state to its parameter's dtype, which is wrong for bfloat16 states.
        parameters = [p for group in self.param_groups for p in group["params"]]
        for number, saved in state.get("state", {}).items():
            own = self.inner.state[parameters[number]]
            for name, value in saved.items():
                if isinstance(value, Tensor) and own[name].dtype != value.dtype:
                    own[name] = value.to(own[name].device)


def wrapped(made: Any, weight_decay: float, said: str) -> TorchOptimizer:
    """Check what a user's class or function returned. Raises UserError if it cannot be used."""
    if not isinstance(made, torch.optim.Optimizer):
        raise UserError(f"{said}: gives {kind(made)}; expected a torch.optim.Optimizer")
    refuse_closure(type(made), said)
    if weight_decay > 0 and "weight_decay" not in made.defaults:
        raise UserError(
            f"optim.weight_decay={weight_decay}: {type(made).__name__} has no weight decay; "
            "expected optim.weight_decay=0"
        )
    return TorchOptimizer(made)


def refuse_closure(cls: type, said: str) -> None:
    """Raise UserError for an optimizer whose step recomputes the loss, such as LBFGS."""
    closure = inspect.signature(cls.step).parameters.get("closure")  # type: ignore[attr-defined]
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise UserError(
            f"{said}: {cls.__name__} needs a closure that computes the loss several times per step"
            "\n  expected an optimizer that only needs gradients, such as SGD or Adam"
        )


# ---------------------------------------------------------------- rehearsal


def rehearse(make: Callable[[Groups], Any], groups: Groups, said: str, file: object) -> None:
    """Take steps on copies of the parameters, without and with a checkpoint in between.

    Raises UserError if an update fails, or if the checkpoint changes the bits: state that is
    missing from ``state_dict`` would make a resumed run different.
    """
    with errors_reported(said, file):
        straight, stopped = _copies(groups), _copies(groups)
        first, second = make(_fresh(straight)), make(_fresh(stopped))
        _take(first, straight, range(STEPS_BEFORE + STEPS_AFTER))
        _take(second, stopped, range(STEPS_BEFORE))
        third = make(_fresh(stopped))
        third.load_state_dict(_saved(second.state_dict(), said, file))
        _take(third, stopped, range(STEPS_BEFORE, STEPS_BEFORE + STEPS_AFTER))
    pairs = zip(_parameters(straight), _parameters(stopped), strict=True)
    if not all(torch.equal(one, other) for one, other in pairs):
        raise UserError(
            f"{said}: does not resume bit-identically; expected all state that it keeps between"
            f" steps in self.state[parameter] or in its groups\n  see {file}"
        )


def _copies(groups: Groups) -> Groups:
    return [
        {**group, "params": [nn.Parameter(p.detach().clone()) for p in group["params"]]}
        for group in groups
    ]


def _fresh(groups: Groups) -> Groups:
    """Return the same parameters in separate dicts, to which an optimizer adds its defaults."""
    return [dict(group) for group in groups]


def _parameters(groups: Groups) -> list[nn.Parameter]:
    return [parameter for group in groups for parameter in group["params"]]


def _take(optimizer: TorchOptimizer, groups: Groups, steps: range) -> None:
    """Take steps along gradients that are a function of the step."""
    parameters = _parameters(groups)
    device = parameters[0].device
    rate = float(optimizer.lr)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        for step in steps:
            torch.manual_seed(step)
            optimizer.lr = rate * (1 + step % 3)
            for parameter in parameters:
                wave = torch.arange(parameter.numel(), device=device).add_(step).mul(0.7).sin_()
                parameter.grad = torch.empty_like(parameter).copy_(wave.view(parameter.shape))
            optimizer.step()


def _saved(state: dict[str, Any], said: str, file: object) -> dict[str, Any]:
    """Return a state as a checkpoint restores it."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    try:
        loaded: dict[str, Any] = torch.load(buffer, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(
            f"{said}: its state_dict() cannot be read back from a checkpoint; expected tensors, "
            f"numbers, strings, lists and dicts\n  see {file}"
        ) from error
    return loaded
