"""Augmentation against plain references, image by image, and the draws behind it."""

import math
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage, stats
from torch import Tensor

from tinylab.config.base_records import AugmentConfig
from tinylab.data import augment
from tinylab.data.augment import Draws

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
OFF: dict[str, Any] = dict.fromkeys(Draws._fields)
EVERYTHING: dict[str, Any] = {
    "flip": True, "shift": 0.2, "rotate": 30.0, "scale": 0.3, "shear": 20.0, "brightness": 0.3,
    "contrast": 0.4, "cutout": 0.5, "mixup": 0.7, "elastic": 0.1,
}  # fmt: skip
SCIPY_MODE = {"zeros": "grid-constant", "border": "nearest", "reflection": "reflect"}
every_kind = pytest.mark.parametrize("kind", EVERYTHING)
some_shapes = st.tuples(
    st.integers(1, 4), st.sampled_from([1, 3]), st.integers(1, 9), st.integers(1, 9)
)


def some_images(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def draw(config: AugmentConfig, count: int = 4000, seed: int = 0) -> Draws:
    return augment.draw(config, count, seed, CPU)


def apply(images: Tensor, draws: Draws, **options: Any) -> Tensor:
    return augment.apply(images, draws, AugmentConfig(**options))


def parameters(draws: Draws) -> dict[str, NDArray[Any]]:
    """What was drawn, by the key of the config, from whatever form it has in the draws."""
    assert draws.matrix is not None and draws.mirror is not None  # noqa: PT018
    assert draws.gain is not None and draws.shift is not None  # noqa: PT018
    assert draws.hole is not None and draws.keep is not None  # noqa: PT018
    assert draws.bend is not None
    a, b, c, d = (draws.matrix[:, i, j].double().numpy() for i in (0, 1) for j in (0, 1))
    angle, zoom = np.arctan2(c, a), np.hypot(a, c)
    return {
        "flip": draws.mirror.flatten().numpy(),
        "shift": draws.matrix[:, :, 2].numpy() / 2,
        "rotate": np.degrees(angle),
        "scale": 1 / zoom - 1,
        "shear": np.degrees(np.arctan((np.cos(angle) * b + np.sin(angle) * d) / zoom)),
        "brightness": draws.shift.flatten().numpy() / 255,
        "contrast": draws.gain.flatten().numpy() - 1,
        "cutout": draws.hole.numpy(),
        "mixup": draws.keep.flatten().numpy(),
        "elastic": draws.bend.numpy() / 2,
    }


# ---------------------------------------------------------------- draws


@pytest.mark.parametrize(
    "kind", ["shift", "rotate", "scale", "shear", "brightness", "contrast", "elastic"]
)
def test_draws_fill_their_bounds_evenly(kind: str) -> None:
    bound = EVERYTHING[kind]
    values = parameters(draw(AugmentConfig(**EVERYTHING)))[kind].flatten()
    assert np.abs(values).max() <= bound * (1 + 1e-5)
    assert stats.kstest(values, stats.uniform(-bound, 2 * bound).cdf).pvalue > 0.001


def test_holes_are_anywhere_in_the_image() -> None:
    holes = parameters(draw(AugmentConfig(**EVERYTHING)))["cutout"]
    for coordinate in holes.T:
        assert stats.kstest(coordinate, stats.uniform(-1, 2).cdf).pvalue > 0.001


def test_every_second_image_is_mirrored() -> None:
    mirrored = parameters(draw(AugmentConfig(**EVERYTHING)))["flip"]
    assert stats.binomtest(int(mirrored.sum()), len(mirrored)).pvalue > 0.001


@pytest.mark.parametrize("alpha", [0.5, 1.0, 4.0])
def test_mixup_keeps_the_larger_side_of_a_beta_draw(alpha: float) -> None:
    kept = draw(AugmentConfig(mixup=alpha)).keep
    assert kept is not None
    assert 0.5 <= kept.min() <= kept.max() <= 1.0
    beta = stats.beta(alpha, alpha)
    result = stats.kstest(kept.flatten().numpy(), lambda x: beta.cdf(x) - beta.cdf(1 - x))
    assert result.pvalue > 0.001


@every_kind
def test_each_image_has_draws_of_its_own(kind: str) -> None:
    values = parameters(draw(AugmentConfig(**EVERYTHING)))[kind]
    first = values.reshape(len(values), -1)[:, 0].astype(float)
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 0.06
    if kind != "flip":
        assert len(np.unique(first.round(9))) > 0.9 * len(first)


def test_kinds_are_drawn_independently_of_each_other() -> None:
    result = parameters(draw(AugmentConfig(**EVERYTHING)))
    columns = [values.reshape(len(values), -1).T for values in result.values()]
    correlation = np.corrcoef(np.concatenate(columns).astype(float))
    assert np.abs(correlation - np.eye(len(correlation))).max() < 0.07


@given(st.integers(0, 2**63 - 1))
def test_the_same_seed_gives_the_same_draws(seed: int) -> None:
    config = AugmentConfig(**EVERYTHING)
    first, same, other = (draw(config, 20, number) for number in (seed, seed, seed ^ 1))
    for kind in EVERYTHING:
        values = parameters(first)[kind]
        np.testing.assert_array_equal(values, parameters(same)[kind])
        assert (values != parameters(other)[kind]).any()


@every_kind
def test_switching_a_kind_off_leaves_the_draws_of_the_others_alone(kind: str) -> None:
    with_all = draw(AugmentConfig(**EVERYTHING), 50)
    without = draw(AugmentConfig(**{**EVERYTHING, kind: 0}), 50)
    missing = {name: getattr(with_all, name) for name in OFF if getattr(without, name) is None}
    result = parameters(without._replace(**missing))
    for other in set(EVERYTHING) - {kind}:
        expected = parameters(with_all)[other]
        np.testing.assert_allclose(result[other], expected, atol=1e-5, err_msg=other)


def test_nothing_is_drawn_for_what_is_off() -> None:
    assert draw(AugmentConfig(), 5)._asdict() == OFF
    forms = {
        "flip": ["mirror"], "rotate": ["matrix"], "cutout": ["hole"], "mixup": ["keep"],
        "cutmix": ["patch"], "elastic": ["matrix", "bend"],
    }  # fmt: skip
    for kind, form in forms.items():
        draws = draw(AugmentConfig(**{kind: {**EVERYTHING, "cutmix": 1.0}[kind]}), 5)
        assert [name for name in OFF if getattr(draws, name) is not None] == form


# ---------------------------------------------------------------- off


@pytest.mark.parametrize("C", [1, 3])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_off_means_exactly_the_same_pixels(C: int, dtype: torch.dtype) -> None:
    images = some_images((4, C, 5, 7)).to(dtype)
    result = apply(images, draw(AugmentConfig(), 4))
    assert result.dtype == torch.float32
    assert torch.equal(result, images.float())


@given(some_shapes, st.sets(st.sampled_from(sorted(EVERYTHING)), min_size=1), st.booleans())
def test_shape_memory_format_and_input_are_kept(
    shape: tuple[int, int, int, int], kinds: set[str], channels_last: bool
) -> None:
    wanted = torch.channels_last if channels_last else torch.contiguous_format
    images = some_images(shape).float().contiguous(memory_format=wanted)
    before = images.clone()
    options = {kind: EVERYTHING[kind] for kind in kinds}
    result = apply(images, draw(AugmentConfig(**options), len(images)), **options)
    assert result.shape == images.shape
    assert result.is_contiguous(memory_format=wanted)
    assert torch.equal(images, before)


def test_a_batch_takes_the_draws_of_its_place_in_the_epoch() -> None:
    config = AugmentConfig(**EVERYTHING)
    images, draws = some_images((9, 3, 6, 6)), draw(config, 9)
    parts = [augment.apply(images[a:b], draws.rows(a, b), config) for a, b in ((0, 4), (4, 9))]
    torch.testing.assert_close(torch.cat(parts), augment.apply(images, draws, config))


def test_larger_images_are_warped_at_their_size_and_averaged_down() -> None:
    config = AugmentConfig(**EVERYTHING)
    images = some_images((5, 3, 24, 24))
    draws = draw(config, 5)
    of_the_warp = Draws(**{**OFF, "matrix": draws.matrix, "bend": draws.bend})
    large = augment.apply(images, of_the_warp, config).numpy()
    small = torch.from_numpy(large.reshape(5, 3, 8, 3, 8, 3).mean(axis=(3, 5)))
    expected = augment.apply(small, draws._replace(matrix=None, bend=None), config)
    result = augment.apply(images, draws, config, shrink=3)
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-3)


@given(st.integers(1, 4))
def test_unchanged_larger_images_are_only_averaged(shrink: int) -> None:
    images = some_images((2, 1, 4 * shrink, 4 * shrink))
    blocks = images.double().numpy().reshape(2, 1, 4, shrink, 4, shrink)
    result = augment.apply(images, Draws(**OFF), AugmentConfig(), shrink)
    np.testing.assert_allclose(result, blocks.mean(axis=(3, 5)), atol=1e-4)


def test_the_number_of_unchanged_epochs_draws_nothing() -> None:
    assert draw(AugmentConfig(no_aug_epochs=2)) == Draws(**OFF)


# ---------------------------------------------------------------- geometry


def warped_by_scipy(image_CHW: Tensor, matrix: Tensor, fill: str) -> NDArray[np.float64]:
    """One image through SciPy, whose coordinates are (row, column) in pixels from a corner."""
    _, H, W = image_CHW.shape
    flipped = matrix.double().numpy()[::-1]  # rows for y, x
    linear = flipped[:, 1::-1]  # columns for y, x
    center, shift = (np.array([H, W]) - 1) / 2, flipped[:, 2] * [H / 2, W / 2]
    offset = center - linear @ center + shift
    planes = [
        ndimage.affine_transform(plane, linear, offset, order=1, mode=SCIPY_MODE[fill])
        for plane in image_CHW.double().numpy()
    ]
    return np.stack(planes)


@given(
    some_shapes,
    st.sampled_from(sorted(SCIPY_MODE)),
    st.sets(st.sampled_from(["shift", "rotate", "scale", "shear"]), min_size=1),
    st.integers(0, 99),
)
def test_geometry_is_that_of_scipy(
    shape: tuple[int, int, int, int], fill: str, kinds: set[str], seed: int
) -> None:
    options = {kind: EVERYTHING[kind] for kind in kinds}
    images, draws = some_images(shape, seed), draw(AugmentConfig(**options), shape[0], seed)
    assert draws.matrix is not None
    result = apply(images, draws, fill=fill)
    for image, matrix, actual in zip(images, draws.matrix, result, strict=True):
        expected = warped_by_scipy(image, matrix, fill)
        np.testing.assert_allclose(actual.numpy(), expected, atol=0.05)


def by_matrix(images: Tensor, rows: list[list[float]], fill: str = "zeros") -> Tensor:
    matrix = torch.tensor(rows, dtype=torch.float32).expand(len(images), 2, 3)
    return apply(images, Draws(**{**OFF, "matrix": matrix}), fill=fill)


def test_a_positive_angle_turns_the_image_against_the_clock() -> None:
    images = some_images((2, 3, 6, 6))
    turned = by_matrix(images, [[0, -1, 0], [1, 0, 0]])  # cos 90, -sin 90; sin 90, cos 90
    torch.testing.assert_close(turned, torch.rot90(images.float(), 1, (2, 3)), atol=1e-2, rtol=0)


def test_shifts_take_pixels_from_the_right_and_from_below() -> None:
    images = some_images((2, 1, 4, 8))
    moved = by_matrix(images, [[1, 0, 2 * 2 / 8], [0, 1, 2 * 1 / 4]])  # 2 columns, 1 row
    expected = torch.zeros(2, 1, 4, 8)
    expected[:, :, :3, :6] = images[:, :, 1:, 2:]
    torch.testing.assert_close(moved, expected, atol=1e-2, rtol=0)


@pytest.mark.parametrize(
    ("fill", "expected"),
    [("zeros", [3, 4, 0, 0]), ("border", [3, 4, 4, 4]), ("reflection", [3, 4, 4, 3])],
)
def test_what_lies_outside_is_filled(fill: str, expected: list[float]) -> None:
    row = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 1, 1, 4)
    moved = by_matrix(row, [[1, 0, 1], [0, 1, 0]], fill)
    torch.testing.assert_close(moved.flatten(), torch.tensor(expected).float(), atol=1e-3, rtol=0)


def test_a_zoom_of_two_shows_the_middle_half() -> None:
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    image = (rows + 10 * columns)[None, None]
    zoomed = by_matrix(image, [[0.5, 0, 0], [0, 0.5, 0]])
    middle = 3.5 + (torch.arange(8) - 3.5) / 2
    torch.testing.assert_close(zoomed[0, 0], middle[:, None] + 10 * middle[None, :])


def cubic(points: NDArray[np.float64], at: float) -> NDArray[np.float64]:
    """Cubic convolution (Keys, 1981, with a = -0.75) along the last axis, its ends repeated."""
    left, total = math.floor(at), np.zeros(points.shape[:-1])
    for near in range(left - 1, left + 3):
        d = abs(at - near)
        inner = 1.25 * d**3 - 2.25 * d**2 + 1
        weight = inner if d < 1 else -0.75 * (d**3 - 5 * d**2 + 8 * d - 4)
        total += weight * points[..., min(max(near, 0), points.shape[-1] - 1)]
    return total


@given(some_shapes, st.sampled_from(sorted(SCIPY_MODE)), st.integers(0, 99))
def test_bends_move_pixels_by_a_cubic_field(
    shape: tuple[int, int, int, int], fill: str, seed: int
) -> None:
    images, draws = some_images(shape, seed), draw(AugmentConfig(elastic=0.2), shape[0], seed)
    assert draws.bend is not None
    result = apply(images, draws, fill=fill, elastic=0.2)
    _, _, H, W = shape
    for image, bend, actual in zip(images, draws.bend.double().numpy(), result, strict=True):
        across = np.stack([cubic(bend, 3 * x / (W - 1) if W > 1 else 0) for x in range(W)], -1)
        columns = np.moveaxis(across, 1, -1)  # (2, W, 4)
        field = np.stack(
            [cubic(columns, 3 * y / (H - 1) if H > 1 else 0) for y in range(H)], axis=1
        )  # (2, H, W)
        rows, cols = np.mgrid[:H, :W]
        at = [rows + field[1] * H / 2, cols + field[0] * W / 2]
        for plane, moved in zip(image.double().numpy(), actual.numpy(), strict=True):
            expected = ndimage.map_coordinates(plane, at, order=1, mode=SCIPY_MODE[fill])
            np.testing.assert_allclose(moved, expected, atol=0.05)


@given(some_shapes, st.integers(0, 99))
def test_flip_is_exactly_that_of_torch(shape: tuple[int, int, int, int], seed: int) -> None:
    images, draws = some_images(shape, seed), draw(AugmentConfig(flip=True), shape[0], seed)
    assert draws.mirror is not None
    result = apply(images, draws, flip=True)
    for image, mirrored, actual in zip(images, draws.mirror.flatten(), result, strict=True):
        assert torch.equal(actual, (image.flip(2) if mirrored else image).float())


# ---------------------------------------------------------------- light


@given(some_shapes, st.floats(0, 1), st.floats(0, 0.99), st.integers(0, 99))
def test_light_is_scaled_about_the_mean_and_moved(
    shape: tuple[int, int, int, int], brightness: float, contrast: float, seed: int
) -> None:
    options: dict[str, Any] = {"brightness": brightness, "contrast": contrast}
    images, draws = some_images(shape, seed), draw(AugmentConfig(**options), shape[0], seed)
    result = apply(images, draws, **options)
    if draws.gain is None or draws.shift is None:
        assert torch.equal(result, images.float())
        return
    for image, gain, shift, actual in zip(images, draws.gain, draws.shift, result, strict=True):
        pixels = image.double().numpy()
        changed = gain.item() * (pixels - pixels.mean()) + pixels.mean() + shift.item()
        np.testing.assert_allclose(actual.numpy(), changed.clip(0, 255), atol=1e-3)


def test_brightness_is_a_fraction_of_white() -> None:
    gray = torch.full((1, 3, 2, 2), 100, dtype=torch.uint8)
    draws = Draws(
        **{**OFF, "gain": torch.ones(1, 1, 1, 1), "shift": torch.full((1, 1, 1, 1), 51.0)}
    )
    assert torch.equal(apply(gray, draws), torch.full((1, 3, 2, 2), 151.0))


# ---------------------------------------------------------------- cutout


@given(some_shapes, st.floats(0.05, 1), st.integers(0, 99))
def test_cutout_blanks_the_pixels_whose_center_is_in_the_square(
    shape: tuple[int, int, int, int], side: float, seed: int
) -> None:
    images, draws = some_images(shape, seed), draw(AugmentConfig(cutout=side), shape[0], seed)
    assert draws.hole is not None
    result = apply(images, draws, cutout=side)
    _, C, H, W = shape
    for image, (x, y), actual in zip(images.float(), draws.hole.tolist(), result, strict=True):
        expected = image.clone()
        for row in range(H):
            for column in range(W):
                away_x, away_y = (2 * column + 1) / W - 1 - x, (2 * row + 1) / H - 1 - y
                if max(abs(away_x), abs(away_y)) < side:
                    expected[:, row, column] = image.reshape(C, -1).mean(1)
        torch.testing.assert_close(actual, expected)


def test_the_side_of_the_square_is_a_fraction_of_the_side_of_the_image() -> None:
    images = some_images((1, 1, 8, 8))
    result = apply(images, Draws(**{**OFF, "hole": torch.zeros(1, 2)}), cutout=0.5)
    blank = result == images.float().mean()
    assert blank[0, 0, 2:6, 2:6].all()
    assert blank.sum() == 16


# ---------------------------------------------------------------- mixup


@given(some_shapes, st.floats(0.01, 10), st.integers(0, 99))
def test_mixup_blends_each_image_with_its_mirror_place(
    shape: tuple[int, int, int, int], alpha: float, seed: int
) -> None:
    N = shape[0]
    images, labels = some_images(shape, seed).float(), torch.arange(N) % 3
    draws = draw(AugmentConfig(mixup=alpha), N, seed)
    assert draws.keep is not None
    inputs, targets = augment.mix(images, labels, 3, draws)
    for i, keep in enumerate(draws.keep.flatten().tolist()):
        j = N - 1 - i
        torch.testing.assert_close(inputs[i], keep * images[i] + (1 - keep) * images[j])
        expected = torch.zeros(3)
        expected[labels[i]] += keep
        expected[labels[j]] += 1 - keep
        torch.testing.assert_close(targets[i], expected)


def test_mixup_takes_the_draws_of_the_batch() -> None:
    keep = torch.tensor([[0.5], [0.6], [0.7], [0.8]])
    draws = Draws(**{**OFF, "keep": keep})
    labels = torch.tensor([0, 1])
    _, targets = augment.mix(torch.zeros(2, 1, 2, 2), labels, 2, draws.rows(2, 4))
    torch.testing.assert_close(targets, torch.tensor([[0.7, 0.3], [0.2, 0.8]]))


@pytest.mark.parametrize("alpha", [1e-9, 1e9])
def test_extreme_alphas_give_fractions(alpha: float) -> None:
    keep = draw(AugmentConfig(mixup=alpha), 100).keep
    assert keep is not None
    assert math.isclose(keep.mean().item(), 1.0 if alpha < 1 else 0.5, abs_tol=1e-3)


# ---------------------------------------------------------------- cutmix


@given(some_shapes, st.floats(0.1, 4), st.integers(0, 99))
def test_cutmix_pastes_a_square_of_the_mirror_place(
    shape: tuple[int, int, int, int], alpha: float, seed: int
) -> None:
    N, _, H, W = shape
    images, labels = some_images(shape, seed).float(), torch.arange(N) % 3
    draws = draw(AugmentConfig(cutmix=alpha), N, seed)
    assert draws.patch is not None
    inputs, targets = augment.mix(images, labels, 3, draws)
    for i, (x, y, half) in enumerate(draws.patch.tolist()):
        expected, pasted = images[i].clone(), 0
        for row in range(H):
            for column in range(W):
                away_x, away_y = (2 * column + 1) / W - 1 - x, (2 * row + 1) / H - 1 - y
                if max(abs(away_x), abs(away_y)) < half:
                    expected[:, row, column] = images[N - 1 - i, :, row, column]
                    pasted += 1
        assert torch.equal(inputs[i], expected)
        fractions = torch.zeros(3)
        fractions[labels[i]] += 1 - pasted / (H * W)
        fractions[labels[N - 1 - i]] += pasted / (H * W)
        torch.testing.assert_close(targets[i], fractions)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 4.0])
def test_areas_of_patches_are_beta_draws_anywhere_in_the_image(alpha: float) -> None:
    patch = draw(AugmentConfig(cutmix=alpha), seed=1).patch
    assert patch is not None
    x, y, half = patch.double().numpy().T
    assert stats.kstest(half**2, stats.beta(alpha, alpha).cdf).pvalue > 0.001
    for coordinate in (x, y):
        assert stats.kstest(coordinate, stats.uniform(-1, 2).cdf).pvalue > 0.001
    assert np.abs(np.corrcoef([x, y, half]) - np.eye(3)).max() < 0.07


def test_with_mixup_every_second_image_has_a_patch_instead() -> None:
    both = draw(AugmentConfig(mixup=0.7, cutmix=1.0))
    alone = draw(AugmentConfig(mixup=0.7)), draw(AugmentConfig(cutmix=1.0))
    assert both.keep is not None and both.patch is not None  # noqa: PT018
    assert alone[0].keep is not None and alone[1].patch is not None  # noqa: PT018
    pasted = both.patch[:, 2:] > 0
    assert stats.binomtest(int(pasted.sum()), len(pasted)).pvalue > 0.001
    assert torch.equal(both.keep, torch.where(pasted, 1.0, alone[0].keep))
    assert torch.equal(both.patch[:, 2:], torch.where(pasted, alone[1].patch[:, 2:], 0.0))
    fractions = np.stack([alone[0].keep.flatten().numpy(), alone[1].patch[:, 2].numpy()])
    assert abs(np.corrcoef(fractions)[0, 1]) < 0.07


# ---------------------------------------------------------------- test-time views


@pytest.mark.parametrize(
    ("kind", "count"),
    [("none", 1), ("flip", 2), ("shift", 5), ("grid", 9), ("flip_grid", 18), ("flip_shift", 10),
     ("flip_shift_rotate", 14)],
)  # fmt: skip
def test_the_first_view_is_the_images_themselves(kind: str, count: int) -> None:
    images = some_images((3, 1, 5, 6))
    views = augment.views(images, kind)
    assert torch.equal(views[0], images)
    assert len(views) == count
    assert all(view.shape == images.shape and view.dtype == images.dtype for view in views)


def test_views_are_mirrored_and_moved_by_a_pixel() -> None:
    images = some_images((2, 3, 4, 5))
    assert torch.equal(augment.views(images, "flip")[1], images.flip(3))
    padded = torch.from_numpy(np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge"))
    down, up, right, left = augment.views(images, "shift")[1:]
    assert torch.equal(down, padded[:, :, :4, 1:-1])
    assert torch.equal(up, padded[:, :, 2:, 1:-1])
    assert torch.equal(right, padded[:, :, 1:-1, :5])
    assert torch.equal(left, padded[:, :, 1:-1, 2:])
    shifts = augment.views(images, "shift")
    both = augment.views(images, "flip_shift")
    for result, expected in zip(both, shifts + [view.flip(3) for view in shifts], strict=True):
        assert torch.equal(result, expected)


def test_a_grid_has_all_shifts_by_at_most_a_pixel() -> None:
    images = some_images((2, 1, 4, 5))
    padded = torch.from_numpy(np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge"))
    expected = [padded[:, :, top : top + 4, left : left + 5].numpy().tobytes()
                for top in range(3) for left in range(3)]  # fmt: skip
    views = augment.views(images, "grid")
    assert sorted(view.numpy().tobytes() for view in views) == sorted(expected)


def test_rotated_views_are_those_of_opencv() -> None:
    image = np.zeros((24, 24), np.uint8)
    image[6:18, 8:13], image[9:12, 8:20] = 200, 90
    views = augment.views(torch.from_numpy(image)[None, None], "flip_shift_rotate")
    for view, degrees in zip(views[5:7], (-10, 10), strict=True):
        matrix = cv2.getRotationMatrix2D((11.5, 11.5), degrees, 1.0)
        turned = cv2.warpAffine(image, matrix, (24, 24), borderMode=cv2.BORDER_REPLICATE)
        assert np.abs(view[0, 0].numpy().astype(float) - turned).mean() < 1
        assert np.abs(image.astype(float) - turned).mean() > 5


# ---------------------------------------------------------------- on a GPU


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("channels_last", [False, True])
def test_cuda_gives_the_pixels_of_the_cpu_deterministically(channels_last: bool) -> None:
    config, device = AugmentConfig(**EVERYTHING, cutmix=1.0), torch.device("cuda")
    wanted = torch.channels_last if channels_last else torch.contiguous_format
    images = some_images((8, 3, 16, 16)).contiguous(memory_format=wanted)
    torch.set_deterministic_debug_mode("error")
    try:
        draws = augment.draw(config, 8, 0, device)
        result = augment.apply(images.to(device), draws, config)
        again = augment.apply(images.to(device), draws, config)
        augment.mix(result, torch.arange(8, device=device) % 3, 3, draws)
    finally:
        torch.set_deterministic_debug_mode("default")
    assert torch.equal(result, again)
    expected = augment.apply(images, draw(config, 8), config)
    torch.testing.assert_close(result.cpu(), expected, atol=0.05, rtol=0)
