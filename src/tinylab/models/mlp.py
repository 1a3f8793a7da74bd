"""Dense layers with ReLU and dropout."""

from torch import nn

from tinylab.config.decorators import model
from tinylab.config.values import option


@model
def mlp(
    image_shape: tuple[int, int, int],
    num_classes: int,
    hidden: int = option(256, "width of each hidden layer", at_least=1),
    layers: int = option(2, "number of hidden layers", at_least=0),
    dropout: float = option(0.2, "dropout rate after each hidden layer", at_least=0, below=1),
) -> nn.Sequential:
    """Dense layers with ReLU and dropout.

    Images float32 (N, C, H, W) -> logits (N, num_classes).
    """
    C, H, W = image_shape
    parts: list[nn.Module] = [nn.Flatten()]
    width = C * H * W
    for _ in range(layers):
        parts += [nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout)]
        width = hidden
    return nn.Sequential(*parts, nn.Linear(width, num_classes))
