"""Any classifier of the timm library, with input channels and classes adapted to the data."""

import importlib
from typing import Any

from torch import nn

from tinylab.config.base_records import ModelKeys
from tinylab.config.decorators import model
from tinylab.config.values import did_you_mean, option
from tinylab.config.weights import is_file
from tinylab.data.batches import IMAGENET, Statistics
from tinylab.errors import UserError
from tinylab.models import pretrained
from tinylab.models.fitting import refuse_unfit


@model
def timm(
    image_shape: tuple[int, int, int],
    num_classes: int,
    arch: str = option("resnet18", "a name from timm.list_models()"),
    weights: str | None = option(
        None,
        "pretrained weights: DEFAULT, a tag of timm's such as a1_in1k, or a file of weights",
        neutral=True,
        initial=True,
        normalize="imagenet",
    ),
) -> nn.Module:
    """Any classifier of timm (pip install 'tinylab[timm]'), adapted to the data.

    Images float32 (N, C, H, W) -> logits (N, num_classes). Named weights are downloaded by timm, a
    file is read by ``models.pretrained.load``. Raises UserError if timm is not installed, for an
    unknown name, missing weights, or images that do not fit the network.
    """
    library = _library()
    named = weights is not None and not is_file(weights)
    config = _pretrained_config(library, arch, weights)
    keywords: dict[str, Any] = {"in_chans": image_shape[0], "num_classes": num_classes}
    if config.fixed_input_size:
        keywords["img_size"] = image_shape[1:]
    name = f"{arch}.{config.tag}" if named and config.tag else arch
    key, remedy = f"model.arch={arch}", "choose another dataset.image_size or model.arch"
    if named:
        key = f"model.weights={weights}"
        remedy = f"download {_source(config)} elsewhere, and pass the file as model.weights"
    try:
        network: nn.Module = library.create_model(name, pretrained=named, **keywords)
    except Exception as error:  # of the hub's client, or of a network that is too large
        first_line = str(error).strip().partition("\n")[0]
        raise UserError(f"{key}: {first_line}\n  {remedy}") from error
    if weights is not None and not named:
        pretrained.load(network, pretrained.read(weights), weights)
    refuse_unfit(network, f"model.arch={arch}", image_shape, num_classes)
    return network


def full_name(record: ModelKeys) -> str:
    """Return the selected weights, and where timm has them."""
    arch: str = record.arch  # type: ignore[attr-defined]
    config = _pretrained_config(_library(), arch, record.weights)
    return f"timm {arch}.{config.tag} {_source(config)}"


def statistics(record: ModelKeys) -> Statistics:
    """Return the per-channel mean and std that pretrained weights expect, for values 0 to 1."""
    if record.weights is None:
        return IMAGENET
    arch: str = record.arch  # type: ignore[attr-defined]
    config = _pretrained_config(_library(), arch, record.weights)
    return tuple(config.mean), tuple(config.std)


def _library() -> Any:
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        raise UserError(
            f"model=timm: timm cannot be imported: {error}\n  pip install 'tinylab[timm]'"
        ) from error


def _pretrained_config(library: Any, arch: str, weights: str | None) -> Any:
    """Return timm's record of pretrained weights: by tag, or the network's default."""
    known = library.list_models()
    if arch not in known:
        raise UserError(
            f"model.arch={arch}: expected a network of timm, such as resnet18, "
            f"convnext_atto{did_you_mean(arch, known)}"
        )
    if weights is None or is_file(weights):
        return library.get_pretrained_cfg(arch)
    tags = [name.partition(".")[2] for name in library.list_pretrained(f"{arch}.*")]
    if (weights != "DEFAULT" and weights not in tags) or not tags:
        raise UserError(
            f"model.weights={weights}: not available for {arch}; expected null, a file such as "
            f"net.pth, or one of its names: {', '.join(['DEFAULT', *tags] if tags else ['none'])}"
        )
    return library.get_pretrained_cfg(arch if weights == "DEFAULT" else f"{arch}.{weights}")


def _source(config: Any) -> str:
    return f"https://huggingface.co/{config.hf_hub_id}" if config.hf_hub_id else str(config.url)
