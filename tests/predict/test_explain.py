"""`tinylab explain`: Grad-CAM against class activation maps, neighbors against brute force."""

import html.parser
import re
import types
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from option_records import DigitsConfig
from tinylab import cli, data
from tinylab.config.schema import SplitConfig
from tinylab.inference import load_ensemble, the_run
from tinylab.predict import explain
from tinylab.predict.explain import Learnt
from tinylab.predict.feature_map import tsne
from tinylab.ui import projector

FILES = {name: [f"{name}.tsv", "metadata.tsv", "sprite.png"] for name in ("features", "tsne")}
Capture = pytest.CaptureFixture[str]


class Pooling(nn.Module):
    """Convolutions, an activation in place, the mean over positions, a dense layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.last = nn.Conv2d(4, 5, 3, padding=1)
        self.dense = nn.Linear(5, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.last(torch.relu_(self.first(images)))
        return self.dense(maps.mean((2, 3)))


def as_trained(model: nn.Module) -> Any:
    recipe = types.SimpleNamespace(device=torch.device("cpu"), normalization=lambda x: x / 255)
    return types.SimpleNamespace(model=model.eval(), recipe=recipe)


def test_before_a_mean_and_a_dense_layer_it_is_the_class_activation_map() -> None:
    torch.manual_seed(0)
    model = Pooling()
    for parameter in model.parameters():
        parameter.requires_grad_(False)  # as in a frozen network
    images = np.random.default_rng(0).integers(0, 256, (6, 1, 8, 8), dtype=np.uint8)
    labels = np.array([0, 1, 2, 0, 1, 2])
    result = explain.grad_cam(as_trained(model), images, labels)
    assert result is not None
    maps = model.last(torch.relu(model.first(torch.from_numpy(images) / 255)))
    expected = torch.einsum("nkhw,nk->nhw", maps, model.dense.weight[labels]).relu()
    largest = expected.amax((1, 2), keepdim=True).clamp_min(1e-12)
    assert result == pytest.approx((expected / largest).numpy(), abs=1e-5)
    assert not any(each._forward_hooks for each in model.modules())


def test_without_convolution_there_is_no_map_and_no_filter() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    images = np.zeros((2, 1, 8, 8), np.uint8)
    assert explain.grad_cam(as_trained(model), images, np.zeros(2, np.int64)) is None
    assert explain.first_filters(as_trained(model)) is None


def test_filters_span_black_to_white() -> None:
    result = explain.first_filters(as_trained(Pooling()))
    assert result is not None
    assert (result.shape, result.min(), result.max()) == ((4, 1, 3, 3), 0, 255)


def test_neighbors_are_the_nearest_by_brute_force() -> None:
    rng = np.random.default_rng(0)
    points, others = (rng.normal(size=(n, 4)) for n in (5, 30))
    points, others = (each / np.linalg.norm(each, axis=1)[:, None] for each in (points, others))
    known = Learnt(None, np.arange(30) + 100, others, 30)  # type: ignore[arg-type]
    indices, distances = known.nearest(points)
    far = np.linalg.norm(points[:, None] - others, axis=2)
    assert np.array_equal(indices - 100, far.argsort(axis=1)[:, : explain.NEIGHBORS])
    assert distances == pytest.approx(np.sort(far, axis=1)[:, : explain.NEIGHBORS])


def test_red_is_laid_where_the_heat_is() -> None:
    image = np.full((1, 2, 2), 100, np.uint8)
    heat = np.array([[0, 1], [0, 0]], np.float32)
    result = explain.overlaid(image, heat)
    assert result[:, 0, 0].tolist() == [100, 100, 100]
    assert result[0, 0, 1] > 150
    assert result[2, 0, 1] < 50


@pytest.mark.costly
def test_groups_of_features_stay_groups_on_the_plane() -> None:
    rng = np.random.default_rng(0)
    group = np.arange(24) % 2
    features = (rng.normal(0, 0.05, (24, 6)) + np.eye(6)[group]).astype(np.float32)
    points = tsne(features)
    assert np.array_equal(points, tsne(features))
    middles = np.stack([points[group == k].mean(axis=0) for k in (0, 1)])
    nearest = np.linalg.norm(points[:, None] - middles, axis=2).argmin(axis=1)
    assert np.array_equal(nearest, group)
    assert tsne(np.ones((6, 1), np.float32)).shape == (6, 2)


def test_large_images_are_thinned_out_in_a_square_sheet() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 100, 130), dtype=np.uint8)
    sheet = projector.sprite(images)
    assert sheet.shape == (3, 3 * 34, 3 * 44)
    assert np.array_equal(sheet[:, 34:68, 44:88], images[4, :, ::3, ::3])
    assert not sheet[:, 68:].any()


def test_a_cell_of_the_table_breaks_no_line() -> None:
    result = projector.table({"class": ["a\tb", "c\nd"], "image": ["1", "2"]})
    assert result == "class\timage\na b\t1\nc d\t2\n"


class Page(html.parser.HTMLParser):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.images: list[dict[str, str | None]] = []
        self.words: list[str] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.images.append(dict(attrs))

    def handle_data(self, data: str) -> None:
        self.words += data.split()


def test_a_training_image_resembles_itself(
    digits_run: Path, tmp_path: Path, capsys: Capture
) -> None:
    splits = data.load(DigitsConfig(), SplitConfig())
    place = splits.split.train[5]
    cv2.imwrite(str(tmp_path / "seen.png"), splits.data.pixels[place, 0])
    out = tmp_path / "page.html"
    words = [str(digits_run), str(tmp_path / "seen.png"), "--out", str(out)]
    assert cli.run(["explain", *words]) == 0
    page = Page(out)
    assert all(each["alt"] and each["src"].startswith("data:image/png") for each in page.images)
    neighbors = [each["alt"] for each in page.images if "training image" in str(each["alt"])]
    assert len(neighbors) == explain.NEIGHBORS
    assert neighbors[0] == f"training image {place}"
    said = " ".join(page.words)
    assert "seen.png:" in said
    assert "Grad-CAM" in said
    assert "First layer" in said


def test_without_images_the_worst_mistakes_are_explained(copied_run: Path, capsys: Capture) -> None:
    assert cli.run(["explain", str(copied_run), "--projector"]) == 0
    said = " ".join(Page(copied_run / "explain.html").words)
    trained = load_ensemble([the_run(copied_run)], "cpu").first
    assert "labeled" in said
    assert said.count("evidence for") == round(
        (1 - trained.result.test.accuracy) * trained.result.test.num
    )
    assert "179 test images by the input of the last layer" in said
    config = (copied_run / "projector_config.pbtxt").read_text()
    named = re.findall(r'_path: "(.*)"', config)
    assert named == [f"projector/{name}" for name in FILES["features"] + FILES["tsne"]]
    folder = copied_run / "projector"
    features, points = (np.loadtxt(folder / f"{name}.tsv") for name in FILES)
    assert (features.shape[0], points.shape) == (179, (179, 2))
    known = [line.split("\t") for line in (folder / "metadata.tsv").read_text().splitlines()]
    assert known[0] == ["class", "predicted", "right", "image"]
    right = sum(row[2] == "yes" for row in known[1:]) / 179
    assert right == pytest.approx(trained.result.test.accuracy)
    sheet = cv2.imread(str(folder / "sprite.png"), cv2.IMREAD_GRAYSCALE)
    assert sheet is not None
    images = data.load(DigitsConfig(), SplitConfig()).data.pixels
    cell = sheet[8:16, 16:24]  # of 14 in a row the 17th image
    assert np.array_equal(cell, images[int(known[1 + 14 + 2][3]), 0])


def test_what_cannot_be_explained_is_refused(
    digits_run: Path, tmp_path: Path, capsys: Capture
) -> None:
    assert cli.run(["explain", str(digits_run), str(tmp_path)]) == 1
    assert "no image files to explain" in capsys.readouterr().err
    assert cli.run(["explain", str(digits_run), "absent.png"]) == 1
    assert "absent.png: cannot be read: No such file" in capsys.readouterr().err
