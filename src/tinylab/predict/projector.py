"""The features of a run's test images for TensorBoard's projector, in the run's folder."""

import numpy as np

from tinylab.data.cache import Decoded
from tinylab.data.folder import png_bytes
from tinylab.predict.feature_map import FeatureMap
from tinylab.store.folder import RunFolder
from tinylab.system.files import write_bytes, write_text
from tinylab.ui import projector


def write(files: RunFolder, decoded: Decoded, projected: FeatureMap) -> None:
    """Write vectors, t-SNE's points, labels and a sheet of thumbnails.

    Raises UserError where there is no room for them.
    """
    folder, dataset = files.projector_folder, decoded.dataset
    folder.mkdir(exist_ok=True)
    sheet = projector.sprite(dataset.pixels[projected.index])
    write_bytes(folder / "sprite.png", png_bytes(sheet))
    write_text(folder / "features.tsv", projector.rows(projected.features))
    write_text(folder / "tsne.tsv", projector.rows(projected.points))
    labels = dataset.labels[projected.index]
    known = {
        "class": [dataset.classes[label] for label in labels],
        "predicted": [dataset.classes[label] for label in projected.predicted],
        "right": np.where(labels == projected.predicted, "yes", "no").tolist(),
        "image": [dataset.names[n] if dataset.names else str(n) for n in projected.index],
    }
    write_text(folder / "metadata.tsv", projector.table(known))
    side = int(np.ceil(np.sqrt(len(labels))))
    size = sheet.shape[2] // side, sheet.shape[1] // side
    vectors = {name: f"{folder.name}/{name}.tsv" for name in ("features", "tsne")}
    paths = [f"{folder.name}/{name}" for name in ("metadata.tsv", "sprite.png")]
    text = projector.config(vectors, paths[0], paths[1], size)
    write_text(files.projector_config, text)
