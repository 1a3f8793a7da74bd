"""The CNN of the MNIST and 15-Scene Keras tutorial.

Convolution without activation, max-pool 2, flatten, dense ReLU, dropout, dense classes.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from tinylab.config.decorators import model
from tinylab.config.values import option
from tinylab.errors import UserError
from tinylab.models.conv_pool import PooledConv2d
from tinylab.models.layers import DenseOverMap, dense


@model
class Baseline(nn.Module):
    """The Keras tutorial's CNN: convolution, max-pool 2, dense ReLU, dropout, dense classes.

    Images float32 (N, C, H, W) -> logits (N, num_classes).
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int,
        filters: int = option(28, "channels of the convolution", at_least=1),
        kernel_size: int = option(3, "side of the kernels, in pixels", at_least=1),
        hidden: int = option(128, "width of the dense layer", at_least=1),
        dropout: float = option(0.2, "dropout rate after the dense layer", at_least=0, below=1),
        init: str = option(
            "torch",
            "torch: PyTorch's initial weights; glorot: those of Keras",
            one_of=("torch", "glorot"),
        ),
    ) -> None:
        super().__init__()
        C, H, W = image_shape
        height, width = ((side - kernel_size + 1) // 2 for side in (H, W))
        if min(height, width) < 1:
            raise UserError(
                f"model.kernel_size={kernel_size}: too large for images of {H}x{W} pixels; "
                f"expected at most {min(H, W) - 1}"
            )
        self.conv = PooledConv2d(C, filters, kernel_size)
        self.hidden = DenseOverMap((filters, height, width), hidden)
        self.output = nn.Linear(hidden, num_classes)
        self.dropout = dropout
        if init == "glorot":
            _start_as_keras(self)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        maps = self.conv.pooled(images_NCHW)  # (N, filters, height, width)
        features = F.relu(self.hidden(maps))  # (N, hidden)
        features = F.dropout(features, self.dropout, self.training)
        return dense(features, self.output, self.conv.in_one_pass)  # (N, num_classes)


def _start_as_keras(network: Baseline) -> None:
    """Uniform initial weights of Glorot and Bengio (2010) and zero biases, Keras's defaults."""
    nn.init.xavier_uniform_(network.conv.weight)
    nn.init.xavier_uniform_(network.hidden.weight.flatten(1))  # a view: fan-in is the whole map
    nn.init.xavier_uniform_(network.output.weight)
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
