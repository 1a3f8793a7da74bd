"""The optimizers of ``torch.optim`` by name."""

import inspect
from typing import Any

import torch

from tinylab.config.decorators import optimizer
from tinylab.config.values import did_you_mean, option
from tinylab.errors import UserError
from tinylab.training.own import errors_reported
from tinylab.training.torch_optim import TorchOptimizer, refuse_closure, wrapped

KEYS = ("params", "lr", "weight_decay")  # arguments that optim.args cannot set


@optimizer(name="torch")
def by_name(
    groups: list[dict[str, Any]],
    lr: float = 0.001,
    weight_decay: float = 0.0,
    algorithm: str | None = option(
        None,
        "a class of torch.optim, such as RMSprop; optim=torch needs it",
        required="the name of a class of torch.optim, such as RMSprop",
    ),
    args: dict[str, Any] | None = option(None, "its other arguments, as in {momentum: 0.9}"),
) -> TorchOptimizer:
    """An optimizer of torch.optim."""
    name = str(algorithm)
    cls = _class(name)
    args = {} if args is None else args
    _refuse_unknown(args, name, cls)
    values = {key: tuple(v) if isinstance(v, list) else v for key, v in args.items()}
    said = f"optim.algorithm={name}"
    with errors_reported(said, f"torch.optim.{name}"):
        return wrapped(cls(groups, lr=lr, **values), weight_decay, said)


def _class(name: str) -> Any:
    optim = torch.optim
    classes = {
        each: value
        for each, value in vars(optim).items()
        if isinstance(value, type)
        and issubclass(value, optim.Optimizer)
        and value is not optim.Optimizer
    }
    if name not in classes:
        hint = did_you_mean(name, list(classes))
        raise UserError(
            f"optim.algorithm={name}: not in torch.optim{hint}; "
            f"valid here: {', '.join(sorted(classes))}"
        )
    refuse_closure(classes[name], f"optim.algorithm={name}")
    return classes[name]


def _refuse_unknown(args: Any, name: str, cls: Any) -> None:
    if not isinstance(args, dict):
        raise UserError(f"optim.args={args}: expected a dict, as in {{momentum: 0.9}}")
    known = [each for each in inspect.signature(cls).parameters if each not in KEYS]
    for key in args:
        if key in KEYS:
            raise UserError(f"optim.args: {key} is a key of its own: expected optim.{key}=...")
        if key not in known:
            hint = did_you_mean(key, known)
            raise UserError(
                f"optim.args: {key}: no argument of {name}{hint}; valid here: {', '.join(known)}"
            )
