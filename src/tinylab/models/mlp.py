"""Dense layers with ReLU and dropout."""

from torch import nn

from tinylab.config.schema import MlpConfig


def build(config: MlpConfig, image_shape: tuple[int, int, int], num_classes: int) -> nn.Sequential:
    """Images float32 (N, C, H, W) -> logits (N, num_classes)."""
    C, H, W = image_shape
    layers: list[nn.Module] = [nn.Flatten()]
    width = C * H * W
    for _ in range(config.layers):
        layers += [nn.Linear(width, config.hidden), nn.ReLU(), nn.Dropout(config.dropout)]
        width = config.hidden
    return nn.Sequential(*layers, nn.Linear(width, num_classes))
