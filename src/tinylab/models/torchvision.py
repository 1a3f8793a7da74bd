"""Any classifier of torchvision, its input channels and classes fitted to the data."""

import torch
from torch import nn

from tinylab.config.options import model
from tinylab.config.values import did_you_mean, option
from tinylab.errors import UserError
from tinylab.system.torchvision import import_torchvision


@model
def torchvision(
    image_shape: tuple[int, int, int],
    num_classes: int,
    arch: str = option("resnet18", "a name from torchvision.models.list_models()"),
    weights: str | None = option(
        None, "pretrained weights by torchvision's name, such as DEFAULT", initial=True
    ),
) -> nn.Module:
    """Any classifier of torchvision, its input channels and classes fitted to the data.

    Images float32 (N, C, H, W) -> logits (N, num_classes). With ``weights`` the first
    convolution's kernels are averaged over the input channels where their number differs, and the
    last dense layer starts anew. Raises UserError for an unknown name, absent weights, or images
    that are too small for the network.
    """
    models = import_torchvision("torchvision.models")
    names = models.list_models(module=models)
    if arch not in names:
        raise UserError(
            f"model.arch={arch}: expected a classifier of torchvision, such as resnet18, "
            f"mobilenet_v3_small, efficientnet_b0{did_you_mean(arch, names)}"
        )
    network = _construct(models, arch, weights, num_classes)
    _fit_input(network, image_shape[0])
    _try(network, arch, image_shape, num_classes)
    return network


def _construct(models: object, arch: str, weights: str | None, num_classes: int) -> nn.Module:
    get_model = getattr(models, "get_model")  # noqa: B009 (torchvision has no types)
    # These two would give a tuple in training.
    extra = {"aux_logits": False} if arch in ("googlenet", "inception_v3") else {}
    if extra:
        extra["init_weights"] = True
    if weights is None:
        network: nn.Module = get_model(arch, weights=None, num_classes=num_classes, **extra)
        return network
    try:
        network = get_model(arch, weights=weights)
    except (KeyError, ValueError, OSError, AttributeError) as error:
        raise UserError(
            f"model.weights={weights}: not available for {arch}: {error}\n"
            "  expected null, DEFAULT, or a name that torchvision lists for this network"
        ) from error
    if hasattr(network, "AuxLogits"):  # Inception's second output
        network.aux_logits = False  # type: ignore[assignment]
        network.AuxLogits = None  # type: ignore[assignment]
    _fit_output(network, num_classes)
    return network


def _fit_output(network: nn.Module, num_classes: int) -> None:
    """Replace the last layer, which is dense, or a 1x1 convolution in SqueezeNet."""
    dense = [(n, m) for n, m in network.named_modules() if isinstance(m, nn.Linear)]
    if dense:
        name, last = dense[-1]
        _replace(network, name, nn.Linear(last.in_features, num_classes))
        return
    name, conv = [(n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d)][-1]
    _replace(network, name, nn.Conv2d(conv.in_channels, num_classes, 1))


def _fit_input(network: nn.Module, channels: int) -> None:
    """Replace the first convolution where it expects another number of channels."""
    name, old = next((n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d))
    if old.in_channels == channels:
        return
    new = nn.Conv2d(
        channels, old.out_channels, old.kernel_size, old.stride, old.padding,  # type: ignore[arg-type]
        old.dilation, old.groups, old.bias is not None,  # type: ignore[arg-type]
    )  # fmt: skip
    with torch.no_grad():
        # Averaged kernels times C / C' give a grey image the response its colour copy would have.
        mean = old.weight.mean(dim=1, keepdim=True) * (old.in_channels / channels)
        new.weight.copy_(mean.expand_as(new.weight))
        if old.bias is not None and new.bias is not None:
            new.bias.copy_(old.bias)
    _replace(network, name, new)
    if hasattr(network, "transform_input"):  # it shifts red, green and blue of ImageNet
        network.transform_input = False  # type: ignore[assignment]


def _replace(network: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, layer)


def _try(
    network: nn.Module,
    arch: str,
    image_shape: tuple[int, int, int],
    num_classes: int,
) -> None:
    """Refuse a network that does not take images of this size."""
    network.eval()
    try:
        with torch.inference_mode():
            shape = network(torch.zeros(2, *image_shape)).shape
        if shape != (2, num_classes):
            raise RuntimeError(f"its output is {tuple(shape)}")
    except (RuntimeError, AssertionError, ValueError) as error:
        C, H, W = image_shape
        first_line = str(error).partition("\n")[0]
        raise UserError(
            f"model.arch={arch}: does not take images of {C}x{H}x{W}: {first_line}\n"
            "  choose a larger dataset.image_size or another model.arch"
        ) from error
    finally:
        network.train()
