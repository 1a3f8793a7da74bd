"""The two networks in plain PyTorch, as their users write them; the same as tinylab's models."""

import torch.nn.functional as F
from torch import nn


def build(network, channels, side, num_classes):
    """``baseline`` or ``resnet``, from float32 (N, channels, side, side) to logits."""
    if network == "resnet":
        return resnet(channels, num_classes)
    pooled = (side - 2) // 2
    return nn.Sequential(
        nn.Conv2d(channels, 28, 3),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(28 * pooled * pooled, 128),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(128, num_classes),
    )


def resnet(channels, num_classes):
    """Four stages of one block, 32 to 256 channels."""
    layers = [nn.Conv2d(channels, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU()]
    before = 32
    for width in (32, 64, 128, 256):
        layers.append(Block(before, width, 1 if width == 32 else 2))
        before = width
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, num_classes)]
    return nn.Sequential(*layers, *head)


class Block(nn.Module):
    def __init__(self, before, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if stride != 1 or before != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, maps):
        out = F.relu(self.bn1(self.conv1(maps)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(maps))
