"""The test images by their features: a two-dimensional map."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinylab import data
from tinylab.data.cache import Decoded
from tinylab.inference import Trained, evenly, in_batches

MOST = 500  # images; t-SNE takes 0.4 s for 180 and 1 s for 500 on one core
FEWEST = 5
PERPLEXITY = 30.0
SEED = 0


@dataclass(frozen=True)
class FeatureMap:
    """Some test images. index: int64 (N,), in the data. features: float32 (N, D), of unit length.

    points: float32 (N, 2), close to each other where the features are. predicted: int64 (N,).
    """

    index: NDArray[np.int64]
    features: NDArray[np.float32]
    points: NDArray[np.float32]
    predicted: NDArray[np.int64]


def feature_map(trained: Trained, decoded: Decoded) -> FeatureMap | None:
    """Return the map of at most MOST test images, evenly spaced; None if there are too few.

    Raises UserError if the network has no features.
    """
    test = data.divide(decoded, trained.config.split, trained.config.dataset).test
    index = evenly(test, MOST)
    if len(index) < FEWEST:
        return None
    images = decoded.dataset.pixels[index]
    features = in_batches(trained, trained.features, images)
    predicted = in_batches(trained, trained.probabilities, images).argmax(axis=1)
    return FeatureMap(index, features, tsne(features), predicted)


def tsne(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Features (N, D) -> points (N, 2), for N of 5 or more; equal features give equal points.

    Van der Maaten, Hinton: Visualizing Data using t-SNE (JMLR 2008), by scikit-learn, from the
    principal components and with one thread: with two, one busy process made 180 points take 25 s
    instead of 0.4 s.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    init = "pca" if features.shape[1] >= 2 and np.ptp(features, axis=0).any() else "random"
    perplexity = min(PERPLEXITY, (len(features) - 1) / 3)
    with threadpool_limits(1):
        method = TSNE(init=init, perplexity=perplexity, max_iter=500, random_state=SEED)
        points: NDArray[np.float32] = method.fit_transform(features)
    return points
