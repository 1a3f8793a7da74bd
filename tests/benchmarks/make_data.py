"""The images that tinylab trains and validates on, for the peers.

    python make_data.py OUT.npz TIMES dataset=mnist ...

A process of its own, because what its parent has in memory counts as a child's peak, too: the
benchmark's own process must stay small.
"""

import sys
from pathlib import Path

import numpy as np

from repeated import repeat_mnist
from tinylab import data
from tinylab.config.compose import run_hydra, to_config
from tinylab.config.schema import Config


def save(config: Config, path: Path) -> None:
    """uint8 (N, C, H, W) images and int64 (N,) labels of both parts, and the class count."""
    splits = data.load(config.dataset, config.split)
    images, labels = splits.data.pixels, splits.data.labels
    with path.open("wb") as file:
        np.savez(
            file,
            train_images=images[splits.split.train],
            train_labels=labels[splits.split.train],
            val_images=images[splits.split.val],
            val_labels=labels[splits.split.val],
            num_classes=len(splits.data.classes),
        )


if __name__ == "__main__":
    repeat_mnist(int(sys.argv[2]))
    run_hydra(lambda composed: save(to_config(composed), Path(sys.argv[1])), sys.argv[3:])
