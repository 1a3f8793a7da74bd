"""``tinylab`` with an MNIST that has each training image several times over.

    python repeated.py TIMES train dataset=mnist ...

Only the reader is another one: cache, split, training and everything after are the product's own.
"""

import dataclasses
import sys
from functools import partial

import numpy as np

from option_records import MnistConfig
from tinylab import cli, data
from tinylab.data import mnist, part_of
from tinylab.data.arrays import Images, Source


def repeat_mnist(times: int) -> None:
    """From now on ``dataset=mnist`` is the repeated one, in this process."""
    data.READERS["mnist"] = data.Reader(partial(find, times), mnist.fetch)


def find(times: int, config: MnistConfig) -> Source:
    """As ``mnist.find``."""
    source = part_of(config).find()
    return dataclasses.replace(
        source,
        preparation={**source.preparation, "times": times},
        read=lambda: repeated(source.read(), times),
    )


def repeated(once: Images, times: int) -> Images:
    """The training images ``times`` times over, and the official test set once."""
    num_train = len(once.labels) - once.num_official_test
    order = np.concatenate(
        [np.tile(np.arange(num_train), times), np.arange(num_train, len(once.labels))]
    )
    return dataclasses.replace(once, images=once.images[order], labels=once.labels[order])


if __name__ == "__main__":
    repeat_mnist(int(sys.argv[1]))
    sys.exit(cli.run(sys.argv[2:]))
