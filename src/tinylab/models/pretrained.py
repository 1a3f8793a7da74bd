"""Initial weights from a file, as far as they fit, and frozen parameters.

The *head* is the last module with parameters; the *backbone* is everything else.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from tinylab.config.values import did_you_mean
from tinylab.errors import UserError
from tinylab.system.paths import user_path
from tinylab.ui.console import say

State = dict[str, Tensor]


def head(network: nn.Module) -> tuple[str, nn.Module]:
    """Return the last module that has its own parameters, and its name."""
    modules = dict(network.named_modules())
    *_, last = (n for n, each in modules.items() if [*each.parameters(recurse=False)])
    return last, modules[last]


# ---------------------------------------------------------------- weights


def read(typed: str) -> State:
    """Return the state_dict in a file: tinylab's export or checkpoint, a plain one, or safetensors.

    Nothing in the file is executed. Raises UserError for a file without one.
    """
    stored = _stored(typed)
    for inner in ("state_dict", "model"):
        if isinstance(stored, dict) and isinstance(stored.get(inner), dict):
            stored = stored[inner]
    if not isinstance(stored, dict) or not stored or not _are_tensors(stored):
        raise UserError(
            f"model.weights={typed}: no state_dict in it\n"
            "  expected a dict of tensors by name, alone or as 'state_dict' or 'model'"
        )
    return stored


def normalization(typed: str) -> dict[str, list[float]] | None:
    """Return the normalization recorded by tinylab's export, as ``Normalization.as_dict``.

    None for a file without it. Raises UserError if it cannot be read.
    """
    stored = _stored(typed)
    metadata = stored.get("metadata") if isinstance(stored, dict) else None
    values = metadata.get("normalization") if isinstance(metadata, dict) else None
    is_whole = isinstance(values, dict) and values.keys() == {"scale", "offset"}
    return values if is_whole else None


def _stored(typed: str) -> object:
    path = user_path(typed)
    try:
        return _safetensors(path) if path.suffix == ".safetensors" else _torch(path)
    except UserError:
        raise
    except Exception as error:  # a damaged archive can fail anywhere in the reader
        why = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        raise UserError(
            f"model.weights={typed}: cannot be read: {why}\n  expected a state_dict written by "
            "torch.save; only tensors and plain values are read"
        ) from error


def _torch(path: Path) -> object:
    stored: object = torch.load(path, map_location="cpu", weights_only=True)
    return stored


def _safetensors(path: Path) -> object:
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise UserError(
            f"model.weights={path}: safetensors is not installed; pip install 'tinylab[timm]'"
        ) from error
    stored: object = load_file(path)
    return stored


def _are_tensors(stored: dict[object, object]) -> bool:
    return all(isinstance(k, str) and isinstance(v, Tensor) for k, v in stored.items())


def load(network: nn.Module, state: State, typed: str) -> None:
    """Copy the weights in ``model.weights`` into a network of the same kind.

    The head keeps its initialization if it has another number of classes, with a message. The first
    convolution's kernels are adapted to another number of channels. Auxiliary outputs of the file
    are dropped. Raises UserError for anything else that does not fit.
    """
    said = f"model.weights={typed}"
    own, fitted = network.state_dict(), State()
    if not own.keys() & state.keys():  # saved from inside torch's DataParallel
        state = {name.removeprefix("module."): value for name, value in state.items()}
    name_of_head, module = head(network)
    of_head = [name for name in own if _is_below(name, name_of_head, module)]
    stem = _stem(network)
    for name, value in own.items():
        given = state.get(name)
        if given is not None and given.shape == value.shape:
            fitted[name] = given
        elif given is not None and name == stem and _fits_but_for_channels(given, value):
            fitted[name] = with_channels(given, value.shape[1])
        elif name not in of_head and not name.endswith("num_batches_tracked"):
            raise _misfit(said, name, value, given)
    unknown = [name for name in state if name not in own and "aux" not in name.lower()]
    if unknown:
        raise UserError(
            f"{said}: does not fit this network, which has no {unknown[0]}\n"
            "  choose the model that the weights come from, with the same keys"
        )
    differing = [name for name in of_head if name not in fitted]
    kept = {name: fitted[name] for name in fitted if not differing or name not in of_head}
    if not kept:
        raise _misfit(said, of_head[0], own[of_head[0]], state.get(of_head[0]))
    network.load_state_dict({**own, **kept})
    say(f"weights {typed}: {len(kept)} of {len(own)} tensors")
    if differing:
        there, here = _shape(state.get(differing[0])), _shape(own[differing[0]])
        say(f"        {name_of_head} keeps its initialization: {differing[0]} is {there} in the "
            f"file, {here} here")  # fmt: skip
    if stem is not None and stem in kept and state[stem].shape != own[stem].shape:
        channels = f"{state[stem].shape[1]} channels to {own[stem].shape[1]}"
        say(f"        {stem}: kernels fitted from {channels}")


def _is_below(name: str, name_of_module: str, module: nn.Module) -> bool:
    """Return whether a tensor of the state belongs to a module itself, not to a submodule."""
    before, _, last = name.rpartition(".")
    return before == name_of_module and last in module.state_dict()


def _stem(network: nn.Module) -> str | None:
    """Return the name of the first convolution's kernels."""
    names = [name for name, each in network.named_modules() if isinstance(each, nn.Conv2d)]
    return f"{names[0]}.weight" if names else None


def _fits_but_for_channels(given: Tensor, value: Tensor) -> bool:
    return given.shape[:1] + given.shape[2:] == value.shape[:1] + value.shape[2:]


def with_channels(kernels: Tensor, channels: int) -> Tensor:
    """Adapt kernels (M, C, H, W) to another C: a gray image gets the response of its color copy."""
    mean = kernels.mean(dim=1, keepdim=True) * (kernels.shape[1] / channels)
    return mean.expand(-1, channels, -1, -1)


def _misfit(said: str, name: str, value: Tensor, given: Tensor | None) -> UserError:
    return UserError(
        f"{said}: does not fit this network: {name} is {_shape(given)} in the file, "
        f"{_shape(value)} here\n"
        "  choose the model that the weights come from, with the same keys and dataset.image_size"
    )


def _shape(tensor: Tensor | None) -> str:
    if tensor is None:
        return "missing"
    return "x".join(map(str, tensor.shape)) or "a number"


# ---------------------------------------------------------------- freezing


def freeze(network: nn.Module, pattern: str) -> None:
    """Freeze parameters: ``backbone``, or those whose names start with a match.

    Raises UserError if none would be frozen, or none left to train.
    """
    names = [name for name, _ in network.named_parameters()]
    frozen = _chosen(network, names, pattern)
    if not frozen or len(frozen) == len(names):
        groups = list(dict.fromkeys(name.partition(".")[0] for name in names))
        what = "leaves no parameters to train" if frozen else "matches no parameters"
        raise UserError(
            f"model.freeze={pattern}: {what}{did_you_mean(pattern, groups)}\n"
            f"  expected the start of parameter names: {', '.join(groups)}"
        )
    for name in frozen:
        network.get_parameter(name).requires_grad_(False)


def _chosen(network: nn.Module, names: list[str], pattern: str) -> list[str]:
    if pattern != "backbone":
        return [name for name in names if re.match(pattern, name)]
    of_head = {id(each) for each in head(network)[1].parameters(recurse=False)}
    return [name for name in names if id(network.get_parameter(name)) not in of_head]


def hold_statistics(network: nn.Module) -> None:
    """Put frozen norms into evaluation mode: their running statistics belong to the weights.

    A norm without parameters is frozen if the layer before it is.
    """
    for norm in _frozen_norms(network):
        norm.eval()


def _frozen_norms(network: nn.Module) -> Iterator[nn.Module]:
    is_frozen = not next(network.parameters()).requires_grad
    for module in network.modules():
        own = [*module.parameters(recurse=False)]
        if own:
            is_frozen = not any(parameter.requires_grad for parameter in own)
        if is_frozen and getattr(module, "running_mean", None) is not None:
            yield module
