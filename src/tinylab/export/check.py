"""Whether an exported file computes what the run's own network does, on real images."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinylab.errors import UserError
from tinylab.export.formats import Network
from tinylab.inference import Trained

# Largest difference of two logits, as a share of the largest logit. Both are sums in float32, of
# the same products in another order; a wrong pixel or weight shows in the first digits.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Agreement:
    """How far apart the logits are at most, and on how many of the images the classes agree."""

    difference: float
    allowed: float
    equal: int
    num: int


def compare(trained: Trained, exported: Network, images: NDArray[np.uint8]) -> Agreement:
    """Ask both about all images, uint8 (N, C, H, W). The run's network answers in float32."""
    plain = dataclasses.replace(trained.recipe.train, precision="float32")
    original = dataclasses.replace(trained, recipe=dataclasses.replace(trained.recipe, train=plain))
    batches = _batches(images, plain.eval_batch_size)
    expected = np.concatenate([original.logits(batch).numpy() for batch in batches])
    found = np.concatenate([exported(batch) for batch in batches])
    return Agreement(
        difference=float(np.abs(found - expected).max()),
        allowed=TOLERANCE * float(np.abs(expected).max()),
        equal=int((found.argmax(1) == expected.argmax(1)).sum()),
        num=len(images),
    )


def _batches(images: NDArray[np.uint8], size: int) -> list[NDArray[np.uint8]]:
    """All images, first in batches of 1, 2 and 7: the file must take any number of them."""
    starts = np.array([1, 3, *range(10, len(images), size)])
    return np.split(images, starts[starts < len(images)])


def refuse_difference(agreement: Agreement, path: Path) -> None:
    """Raise UserError where a file is farther from the original than rounding takes it."""
    # A difference that is no number is none to be allowed.
    if not agreement.difference <= agreement.allowed:
        raise UserError(
            f"{path}: not written: its logits differ from the original network's by up to "
            f"{agreement.difference:.2g}, more than {agreement.allowed:.2g}\n"
            "  choose another format with --to"
        )
