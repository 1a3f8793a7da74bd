"""Any classifier of torchvision, with input channels and classes adapted to the data."""

import re
from typing import Any

import torch
from torch import nn

from tinylab.config.base_records import ModelKeys
from tinylab.config.decorators import model
from tinylab.config.values import did_you_mean, option
from tinylab.config.weights import is_file
from tinylab.data.batches import IMAGENET, Statistics
from tinylab.errors import UserError
from tinylab.models import pretrained
from tinylab.models.fitting import refuse_unfit
from tinylab.system.torchvision import import_torchvision

# Models with their own preprocessing: transform_input, from ImageNet's mean and std.
INCEPTIONS = ("googlenet", "inception_v3")
HALF: Statistics = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@model
def torchvision(
    image_shape: tuple[int, int, int],
    num_classes: int,
    arch: str = option("resnet18", "a name from torchvision.models.list_models()"),
    weights: str | None = option(
        None,
        "pretrained weights by torchvision's name, such as DEFAULT, or a file of weights",
        initial=True,
        normalize="imagenet",
    ),
) -> nn.Module:
    """Any classifier of torchvision, adapted to the data.

    Images float32 (N, C, H, W) -> logits (N, num_classes). ``models.pretrained.load`` describes
    what is used of ``weights``. Raises UserError for an unknown name, missing weights, or images
    that are too small for the network.
    """
    models = import_torchvision("torchvision.models")
    _refuse_unknown(models, arch)
    network: nn.Module = models.get_model(
        arch, weights=None, num_classes=num_classes, **_without_tuples(arch)
    )
    _fit_input(network, image_shape[0])
    if weights is not None:
        state = _of_file(arch, weights) if is_file(weights) else _named(models, arch, weights)
        pretrained.load(network, state, weights)
    refuse_unfit(network, f"model.arch={arch}", image_shape, num_classes)
    return network


def full_name(record: ModelKeys) -> str:
    """Return the selected weights, with the hash from their URL."""
    entry = _entry(record)
    return f"{entry} {entry.url.rpartition('/')[2]}"


def statistics(record: ModelKeys) -> Statistics:
    """Return the per-channel mean and std that pretrained weights expect, for values 0 to 1."""
    if record.arch in INCEPTIONS:  # type: ignore[attr-defined]
        return HALF
    if record.weights is None:
        return IMAGENET
    name = "DEFAULT" if is_file(record.weights) else record.weights
    preset = _entry(record, name).transforms()
    return tuple(preset.mean), tuple(preset.std)


def _refuse_unknown(models: Any, arch: str) -> None:
    names = models.list_models(module=models)
    if arch not in names:
        raise UserError(
            f"model.arch={arch}: expected a classifier of torchvision, such as resnet18, "
            f"mobilenet_v3_small, efficientnet_b0{did_you_mean(arch, names)}"
        )


def _without_tuples(arch: str) -> dict[str, bool]:
    """Return keywords for the two networks that would return a tuple in training."""
    return {"aux_logits": False, "init_weights": True} if arch in INCEPTIONS else {}


def _entry(record: ModelKeys, name: str | None = None) -> Any:
    """Return torchvision's entry for the weights of a record's network. Raises UserError."""
    models = import_torchvision("torchvision.models")
    arch: str = record.arch  # type: ignore[attr-defined]
    _refuse_unknown(models, arch)
    known = models.get_model_weights(arch)
    wanted = name or str(record.weights)
    if wanted not in known.__members__:
        names = ", ".join(known.__members__) or "none"
        raise UserError(
            f"model.weights={wanted}: not available for {arch}; expected null, a file such as "
            f"net.pth, or one of its names: {names}"
        )
    return known[wanted]


def _named(models: Any, arch: str, weights: str) -> pretrained.State:
    """Return the state_dict of named torchvision weights, downloaded to torch.hub's folder."""
    try:
        donor: nn.Module = models.get_model(arch, weights=weights)
    except (KeyError, ValueError, AttributeError) as error:
        raise UserError(
            f"model.weights={weights}: not available for {arch}: {error}\n"
            "  expected null, DEFAULT, a file, or a name that torchvision lists for this network"
        ) from error
    except OSError as error:
        url = models.get_model_weights(arch)[weights].url
        raise UserError(
            f"model.weights={weights}: cannot be downloaded: {error}\n"
            f"  download {url} elsewhere, and put it into {torch.hub.get_dir()}/checkpoints"
        ) from error
    return donor.state_dict()


def _of_file(arch: str, weights: str) -> pretrained.State:
    state = pretrained.read(weights)
    if not arch.startswith("densenet"):
        return state
    # The published files predate torchvision's names of these layers.
    return {re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2", name): value
            for name, value in state.items()}  # fmt: skip


def _fit_input(network: nn.Module, channels: int) -> None:
    """Replace the first convolution if it expects another number of channels."""
    name, old = next((n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d))
    if old.in_channels == channels:
        return
    new = nn.Conv2d(
        channels, old.out_channels, old.kernel_size, old.stride, old.padding,  # type: ignore[arg-type]
        old.dilation, old.groups, old.bias is not None,  # type: ignore[arg-type]
    )  # fmt: skip
    with torch.no_grad():
        new.weight.copy_(pretrained.with_channels(old.weight, channels))
        if old.bias is not None and new.bias is not None:
            new.bias.copy_(old.bias)
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, new)
