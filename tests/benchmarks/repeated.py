"""``tinylab`` with an MNIST that has each training image several times over.

    python repeated.py TIMES train dataset=mnist ...

Only the reader is another one: cache, split, training and everything after are the product's own.
"""

import dataclasses
import sys

import numpy as np

from tinylab import cli
from tinylab.data.arrays import Dataset, Source
from tinylab.data.mnist import Mnist


def repeat_mnist(times: int) -> None:
    """From now on ``dataset=mnist`` is the repeated one, in this process."""
    find = Mnist.find

    def find_repeated(self: Mnist) -> Source:
        source = find(self)
        return dataclasses.replace(
            source,
            preparation={**source.preparation, "times": times},
            read=lambda: repeated(source.read(), times),
        )

    Mnist.find = find_repeated  # type: ignore[method-assign]


def repeated(once: Dataset, times: int) -> Dataset:
    """The training images ``times`` times over, and the official test set once."""
    num_train = len(once.labels) - once.num_official_test
    order = np.concatenate(
        [np.tile(np.arange(num_train), times), np.arange(num_train, len(once.labels))]
    )
    return dataclasses.replace(once, pixels=once.pixels[order], labels=once.labels[order])


if __name__ == "__main__":
    repeat_mnist(int(sys.argv[1]))
    sys.exit(cli.run(sys.argv[2:]))
