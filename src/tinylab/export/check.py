"""Check that an exported file computes the same as the run's own network, on real images."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinylab.errors import UserError
from tinylab.export.formats import Network
from tinylab.inference import Trained

# Largest difference of two logits, as a fraction of the largest logit. Both are float32 sums of the
# same products in different orders; a wrong pixel or weight shows in the leading digits.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Agreement:
    """The largest difference of the logits, and the number of images with equal predictions."""

    difference: float
    allowed: float
    equal: int
    num: int


def compare(trained: Trained, exported: Network, images: NDArray[np.uint8]) -> Agreement:
    """Compare both on all images, uint8 (N, C, H, W). The run's network computes in float32."""
    plain = dataclasses.replace(trained.recipe.train, precision="float32")
    original = dataclasses.replace(trained, recipe=dataclasses.replace(trained.recipe, train=plain))
    batches = _batches(images, plain.eval_batch_size)
    expected = np.concatenate([original.logits(batch).numpy() for batch in batches])
    actual = np.concatenate([exported(batch) for batch in batches])
    return Agreement(
        difference=float(np.abs(actual - expected).max()),
        allowed=TOLERANCE * float(np.abs(expected).max()),
        equal=int((actual.argmax(1) == expected.argmax(1)).sum()),
        num=len(images),
    )


def _batches(images: NDArray[np.uint8], size: int) -> list[NDArray[np.uint8]]:
    """Run all images, first in batches of 1, 2 and 7: the batch size must be dynamic."""
    starts = np.array([1, 3, *range(10, len(images), size)])
    return np.split(images, starts[starts < len(images)])


def refuse_difference(agreement: Agreement, path: Path) -> None:
    """Raise UserError if a file differs from the original by more than rounding."""
    # A NaN difference is not within the tolerance.
    if not agreement.difference <= agreement.allowed:
        raise UserError(
            f"{path}: not written: its logits differ from the original network's by up to "
            f"{agreement.difference:.2g}, more than {agreement.allowed:.2g}\n"
            "  choose another format with --to"
        )
