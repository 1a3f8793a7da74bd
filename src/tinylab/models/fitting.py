"""Shared by models of other libraries: a trial run before training."""

import torch
from torch import nn

from tinylab.errors import UserError


def refuse_unfit(
    network: nn.Module, said: str, image_shape: tuple[int, int, int], num_classes: int
) -> None:
    """Raise UserError, starting with ``said``, if images (C, H, W) do not fit."""
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
            f"{said}: does not take images of {C}x{H}x{W}: {first_line}\n"
            "  choose a larger dataset.image_size or another model.arch"
        ) from error
    finally:
        network.train()
