"""A small residual network for images of 8 to 64 pixels (He et al., 2016, on CIFAR's scale)."""

import torch.nn.functional as F
from torch import Tensor, nn

from tinylab.config.decorators import model
from tinylab.config.values import option
from tinylab.errors import UserError


class Squeeze(nn.Module):
    """Squeeze-and-excitation (Hu et al., 2018): scales each channel by a factor from all means.

    Maps (N, C, H, W) -> the same shape.
    """

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        hidden = max(channels // reduction, 1)
        self.down, self.up = nn.Linear(channels, hidden), nn.Linear(hidden, channels)

    def forward(self, maps: Tensor) -> Tensor:
        means = maps.mean(dim=(2, 3))  # (N, C)
        gate: Tensor = self.up(F.relu(self.down(means))).sigmoid()
        return maps * gate[:, :, None, None]


class Block(nn.Module):
    """Two 3x3 convolutions with batch norm, added to a shortcut.

    Maps (N, C, H, W) -> (N, C', H', W').
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, squeeze: int | None = None
    ) -> None:
        super().__init__()
        self.conv1 = _conv3x3(in_channels, out_channels, stride)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = _conv3x3(out_channels, out_channels, 1)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.squeeze = nn.Identity() if squeeze is None else Squeeze(out_channels, squeeze)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != out_channels:
            # The pooling takes every second pixel, and the convolution has no stride: for a 1x1
            # convolution with a stride, channels_last and fewer than 8 channels, oneDNN (torch
            # 2.15, AVX2) writes out of bounds.
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(1, stride),
                nn.Conv2d(in_channels, out_channels, 1, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, maps: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(maps)), inplace=True)
        out = self.squeeze(self.bn2(self.conv2(out)))
        return F.relu(out + self.shortcut(maps), inplace=True)


@model
class Resnet(nn.Module):
    """A small residual network for images of 8 to 64 pixels.

    Images float32 (N, C, H, W) -> logits (N, num_classes).
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int,
        width: int = option(
            32,
            "channels of the first stage; each further stage has growth times as many",
            at_least=1,
        ),
        growth: float = option(
            2.0,
            "channels of a stage, as a multiple of those before it",
            at_least=1,
            at_most=4,
            neutral=True,
        ),
        depth: int = option(1, "residual blocks per stage", at_least=1),
        stages: int = option(
            4, "number of stages; each after the first halves the image", at_least=1, at_most=8
        ),
        stem_stride: int = option(
            1,
            "2: the first convolution also halves the image, which is faster",
            at_least=1,
            at_most=2,
        ),
        squeeze: int | None = option(
            None, "squeeze-and-excitation: channels per hidden unit; null: none", at_least=1
        ),
        dropout: float = option(0.0, "dropout rate of the pooled features", at_least=0, below=1),
    ) -> None:
        super().__init__()
        C, H, W = image_shape
        most = (min(H, W) // stem_stride).bit_length()
        if stages > most:
            raise UserError(
                f"model.stages={stages}: each stage after the first halves the image, and "
                f"{H}x{W} pixels with model.stem_stride={stem_stride} allow {most} stages"
            )
        channels = width
        self.stem = nn.Sequential(
            _conv3x3(C, channels, stem_stride),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )
        blocks: list[nn.Module] = []
        for stage in range(stages):
            out_channels = round(width * growth**stage)
            for index in range(depth):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(Block(channels, out_channels, stride, squeeze))
                channels = out_channels
        self.blocks = nn.Sequential(*blocks)
        self.output = nn.Linear(channels, num_classes)
        self.dropout = dropout

    def forward(self, images_NCHW: Tensor) -> Tensor:
        maps = self.blocks(self.stem(images_NCHW))
        features = maps.mean(dim=(2, 3))  # (N, channels)
        logits: Tensor = self.output(F.dropout(features, self.dropout, self.training))
        return logits


def _conv3x3(in_channels: int, out_channels: int, stride: int) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv
