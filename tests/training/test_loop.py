"""The loop against plain PyTorch, and everything that can happen in it."""

import copy
import dataclasses
import math
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, log_loss
from torch import Tensor, nn

from option_records import AdamConfig, MlpConfig, ResnetConfig, SgdConfig
from tinylab.config.metrics import MONITORED
from tinylab.data import augment
from tinylab.data.batches import Batches
from tinylab.data.split import permutation
from tinylab.errors import Stopped, UserError
from tinylab.system.runtime import derive_seed
from tinylab.training import checkpoint
from tinylab.training import loop as train
from tinylab.training.checkpoint import Checkpoints
from tinylab.training.evaluate import evaluate
from tinylab.training.metrics import Score
from tinylab.training.optim import learning_rate
from tinylab.training.state import Recipe, Training
from tinylab.training.step import training_loss
from training_kit import (
    NUM_CLASSES,
    RUN_ID,
    SIGTERM,
    Lab,
    Watch,
    changed,
    checkpoints_in,
    differences,
)

pytestmark = pytest.mark.costly

LAB = Lab()
BATCHES = [(0, 16), (16, 32), (32, 48), (48, 50)]


@pytest.fixture
def fit(tmp_path: Path) -> Callable[..., Training]:
    """Train a lab to the end in a folder of its own."""

    def fit_lab(lab: Lab, **options: Any) -> Training:
        return lab.run(tmp_path / f"run{len(list(tmp_path.iterdir()))}", **options)

    return fit_lab


# ---------------------------------------------------------------- evaluation


def logits_of(model: nn.Module, batches: Batches, lab: Lab) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model.eval()(lab.recipe().normalization(batches.images))
    return logits.double()


@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 9))
def test_evaluation_is_that_of_scikit_learn(N: int, batch_size: int, seed: int) -> None:
    lab = changed(LAB, train={"eval_batch_size": batch_size})
    model, batches = lab.build(seed), lab.batches(N, seed)
    evaluation = evaluate(model, batches, lab.recipe())
    probabilities = logits_of(model, batches, lab).softmax(1).numpy()
    labels, predicted = batches.labels.numpy(), probabilities.argmax(1)
    assert evaluation.score.num == N
    assert evaluation.score.accuracy == accuracy_score(labels, predicted)
    expected = log_loss(labels, probabilities, labels=range(NUM_CLASSES))
    assert evaluation.score.loss == pytest.approx(expected, rel=1e-5)
    assert evaluation.score.nll == pytest.approx(evaluation.score.loss, rel=1e-12)
    if batch_size >= N:  # then the logits are the same to the bit, and so is the loss
        logits = logits_of(model, batches, lab)
        loss_sum = F.cross_entropy(logits, batches.labels, reduction="sum")
        assert evaluation.score.loss == float(loss_sum) / N
    np.testing.assert_array_equal(evaluation.predicted, predicted)
    np.testing.assert_allclose(evaluation.probabilities, probabilities, atol=1e-5)


def test_evaluation_sees_no_dropout_and_leaves_the_mode_as_it_was() -> None:
    model, batches = LAB.build(), LAB.batches(20)
    assert model.training
    once, twice = (evaluate(model, batches, LAB.recipe()) for _ in range(2))
    assert model.training
    assert once.score == twice.score
    evaluate(model.eval(), batches, LAB.recipe())
    assert not model.training


def test_evaluation_draws_nothing_and_changes_nothing() -> None:
    lab = changed(LAB, model=ResnetConfig(width=4, stages=2, dropout=0.5))
    model = lab.build()
    before, position = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    evaluate(model, lab.batches(20), lab.recipe())
    assert torch.equal(torch.get_rng_state(), position)
    assert differences(dict(before), dict(model.state_dict())) == []


def test_evaluation_has_no_label_smoothing_and_no_augmentation() -> None:
    model, batches = LAB.build(), LAB.batches(20)
    smoothed = changed(LAB, train={"label_smoothing": 0.5}, augment={"rotate": 90.0})
    plain, other = (evaluate(model, batches, lab.recipe()) for lab in (LAB, smoothed))
    assert plain.score == other.score


@pytest.mark.parametrize("tta", ["flip", "grid", "flip_shift_rotate"])
def test_test_time_augmentation_is_the_mean_of_the_views(tta: str) -> None:
    model, batches = LAB.build(), LAB.batches(30)
    views = [Batches(view, batches.labels) for view in augment.views(batches.images, tta)]
    mean = torch.stack([logits_of(model, view, LAB) for view in views]).mean(0)
    evaluation = evaluate(model, batches, LAB.recipe(), tta)
    np.testing.assert_allclose(evaluation.probabilities, mean.softmax(1).numpy(), atol=1e-5)
    assert evaluation.score.loss == pytest.approx(
        float(F.cross_entropy(mean, batches.labels)), rel=1e-5
    )
    assert evaluation.score.loss != evaluate(model, batches, LAB.recipe()).score.loss


# 80 batches, each with 22 MB of activations and 0.3 MB of outputs.
MANY_BATCHES = """
import resource
import torch
from tinylab import models
from tinylab.system import runtime
from tinylab.training.evaluate import evaluate
from tinylab.training.state import Recipe
from tinylab.config.options import record
from tinylab.config.base_records import AugmentConfig
from tinylab.config.schema import TrainConfig
from tinylab.data.batches import Batches, fit_normalization

N, num_classes = 20_000, 300
runtime.keep_freed_memory()
torch.set_num_threads(1)
images = torch.zeros(N, 1, 28, 28, dtype=torch.uint8)
whole = Batches(images, torch.zeros(N, dtype=torch.int64)).part(torch.arange(N).numpy())
recipe = Recipe(
    TrainConfig(), record("optim", "adam"), AugmentConfig(), 0, num_classes,
    fit_normalization(whole, "unit"), torch.device("cpu"),
)
small = record("model", "baseline", hidden=8, kernel_size=1)
model = models.build(small, (1, 28, 28), num_classes)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
evaluate(model, whole, recipe)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.costly
@pytest.mark.skipif(sys.platform != "linux", reason="counts memory as Linux does")
def test_evaluation_takes_no_more_memory_for_more_batches() -> None:
    done = subprocess.run([sys.executable, "-c", MANY_BATCHES], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 400  # MB; 150 of them are all outputs, and what is made of them


def test_outputs_that_are_not_finite_are_refused() -> None:
    model: Any = LAB.build()
    nn.init.constant_(model.output.weight, math.inf)
    with pytest.raises(UserError, match="outputs are not finite"):
        evaluate(model, LAB.batches(20), LAB.recipe())


def test_when_training_is_over_such_outputs_count_as_wrong_guesses() -> None:
    recipe, batches = LAB.recipe(), LAB.batches(20)
    whole = evaluate(LAB.build(), batches, recipe, is_final=True)
    model: Any = LAB.build()
    model.register_forward_hook(broken_for(3))
    part = evaluate(model, batches, recipe, is_final=True)
    assert (whole.num_guessed, part.num_guessed) == (0, 3)
    assert (part.predicted[3:] == whole.predicted[3:]).all()
    assert (part.predicted[:3] != batches.labels[:3].numpy()).all()
    assert np.isfinite(part.probabilities).all()
    assert math.isfinite(part.score.loss)


def broken_for(count: int) -> Callable[..., Tensor]:
    """A hook that makes the first outputs NaN and infinite."""

    def broken(module: nn.Module, given: Any, outputs: Tensor) -> Tensor:
        outputs = outputs.clone()
        outputs[: count - 1] = math.nan
        outputs[count - 1, 0] = math.inf
        return outputs

    return broken


# ---------------------------------------------------------------- the loop


def plain_loop(lab: Lab, model: nn.Module) -> tuple[list[tuple[float, float]], nn.Module]:
    """The same training in plain PyTorch: losses and accuracies, and the averaged network."""
    recipe, train_set = lab.recipe(), lab.batches(lab.num_train)
    config = recipe.train
    total = config.epochs * len(BATCHES)
    if isinstance(lab.optim, SgdConfig):
        optimizer: torch.optim.Optimizer = torch.optim.SGD(
            model.parameters(), momentum=lab.optim.momentum, nesterov=True, fused=True
        )
    else:
        optimizer = torch.optim.Adam(model.parameters(), fused=True)
    averaged, curve, step = copy.deepcopy(model), [], 0
    for epoch in range(config.epochs):
        order = permutation(lab.num_train, derive_seed(lab.seed, "order", epoch))
        seed = derive_seed(lab.seed, "augment", epoch)
        draws = augment.draw(recipe.augment, lab.num_train, seed, lab.device)
        torch.manual_seed(derive_seed(lab.seed, "dropout", epoch))
        loss_sum, correct = 0.0, 0
        for start, end in BATCHES:
            chosen = torch.from_numpy(order[start:end])
            inputs = recipe.normalization(train_set.images[chosen])
            targets = labels = train_set.labels[chosen]
            if draws.keep is not None:
                part = draws.rows(start, end)
                inputs, targets = augment.mix(inputs, targets, NUM_CLASSES, part)
            optimizer.param_groups[0]["lr"] = learning_rate(lab.optim, step, total)
            optimizer.zero_grad()
            logits = model(inputs)
            smoothing, weights = config.label_smoothing, recipe.class_weights
            if weights is None:
                loss = F.cross_entropy(logits, targets, label_smoothing=smoothing)
            else:
                loss = F.cross_entropy(
                    logits, targets, weights, label_smoothing=smoothing, reduction="sum"
                ) / len(labels)
            correct += int((logits.argmax(1) == labels).sum())
            loss.backward()  # type: ignore[no-untyped-call]
            if config.grad_clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), config.grad_clip)
            optimizer.step()
            follow(averaged, model, min(config.ema or 0, (1 + step) / (10 + step)))
            loss_sum += loss.item() * (end - start)
            step += 1
        curve.append((loss_sum / lab.num_train, correct / lab.num_train))
    return curve, averaged


@given(
    seed=st.integers(0, 99),
    N=st.integers(1, 40),
    smoothing=st.sampled_from([0.0, 0.1, 0.9]),
    is_mixed=st.booleans(),
)
def test_the_weighted_loss_is_that_of_torch_but_for_its_denominator(
    seed: int, N: int, smoothing: float, is_mixed: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(N, NUM_CLASSES, generator=generator, dtype=torch.float64)
    labels = torch.randint(NUM_CLASSES, (N,), generator=generator)
    weights = torch.rand(NUM_CLASSES, generator=generator, dtype=torch.float64) + 0.1
    one_hot = F.one_hot(labels, NUM_CLASSES).double()
    fractions = torch.lerp(one_hot, one_hot.flip(0), 0.3) if is_mixed else None
    recipe = dataclasses.replace(
        changed(LAB, train={"label_smoothing": smoothing}).recipe(), class_weights=weights
    )
    result = training_loss(logits, labels if fractions is None else fractions, recipe)
    by_hand = one_hot if fractions is None else fractions
    by_hand = by_hand * (1 - smoothing) + smoothing / NUM_CLASSES
    expected = -(by_hand * weights * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(result, expected)
    if fractions is None:
        torchs = F.cross_entropy(logits, labels, weights, label_smoothing=smoothing)
        torch.testing.assert_close(result, torchs * weights[labels].mean())


def test_class_weights_are_in_no_figure_but_the_training_loss(fit: Callable[..., Training]) -> None:
    lab = changed(LAB, train={"class_weights": "balanced", "weights": "last"})
    training = fit(lab)
    plain = evaluate(training.model, lab.batches(20, seed=1), LAB.recipe()).score
    assert training.history[-1]["val_loss"] == plain.loss
    assert evaluate(training.model, lab.batches(20, seed=1), lab.recipe()).score == plain


def follow(averaged: nn.Module, model: nn.Module, decay: float) -> None:
    for mean, value in zip(
        averaged.state_dict().values(), model.state_dict().values(), strict=True
    ):
        if mean.is_floating_point():
            mean.mul_(decay).add_(value, alpha=1 - decay)
        else:
            mean.copy_(value)


LOOPS = {
    "plain": LAB,
    "sgd": changed(LAB, optim=SgdConfig(lr=0.1, weight_decay=0.0)),
    "cosine": changed(LAB, optim=AdamConfig(lr=0.01, schedule="cosine", warmup=0.3)),
    "smoothed": changed(LAB, train={"label_smoothing": 0.2}),
    "clipped": changed(LAB, train={"grad_clip": 0.05}),
    "mixed": changed(LAB, augment={"mixup": 0.5}),
    "weighted": changed(LAB, train={"class_weights": "balanced"}),
    "weighted, smoothed, mixed": changed(
        LAB, train={"class_weights": "balanced", "label_smoothing": 0.1}, augment={"mixup": 0.5}
    ),
    "batch norm": changed(LAB, model=ResnetConfig(width=4, stages=2)),
    "color": changed(LAB, channels=3, train={"channels_last": False}),
}


@pytest.mark.parametrize("lab", LOOPS.values(), ids=LOOPS.keys())
def test_training_is_a_plain_loop_to_the_last_bit(lab: Lab, fit: Callable[..., Training]) -> None:
    lab = changed(lab, train={**lab.train, "epochs": 2, "weights": "last"})
    training, model = fit(lab), lab.build()
    curve, _ = plain_loop(lab, model)
    assert differences(dict(training.model.state_dict()), dict(model.state_dict())) == []
    assert [(row["train_loss"], row["train_accuracy"]) for row in training.history] == curve
    assert differences(dict(lab.build().state_dict()), dict(model.state_dict())) != []


def test_each_option_makes_another_training(fit: Callable[..., Training]) -> None:
    lasts = [fit(lab).model.state_dict() for lab in LOOPS.values() if lab.model == LAB.model]
    weights = [state["output.weight"] for state in lasts]
    assert not any(torch.equal(a, b) for i, a in enumerate(weights) for b in weights[:i])


@pytest.mark.parametrize("model", [LAB.model, ResnetConfig(width=4, stages=2)])
def test_averaged_weights_follow_the_trained_ones(model: Any, fit: Callable[..., Training]) -> None:
    lab = changed(LAB, model=model, train={"ema": 0.8, "weights": "last"})
    training, own = fit(lab), lab.build()
    _, averaged = plain_loop(lab, own)
    assert training.averaged is not None
    assert training.tested() is training.averaged
    assert differences(dict(training.model.state_dict()), dict(own.state_dict())) == []
    for name, value in training.averaged.state_dict().items():
        torch.testing.assert_close(value, averaged.state_dict()[name], atol=1e-6, rtol=1e-4)


def test_the_averaged_network_is_the_one_that_is_evaluated(fit: Callable[..., Training]) -> None:
    lab = changed(LAB, train={"ema": 0.9, "weights": "last"})
    training = fit(lab)
    result = evaluate(training.averaged, lab.batches(20, seed=1), lab.recipe()).score  # type: ignore[arg-type]
    assert training.history[-1]["val_loss"] == result.loss


@pytest.mark.parametrize("options", [{"weights": "last"}, {"weights": "last", "ema": 0.9}])
def test_validation_does_not_change_training(
    options: dict[str, Any], fit: Callable[..., Training]
) -> None:
    lab = changed(LAB, train=options, model=MlpConfig(hidden=8, dropout=0.5))
    one, none, large = (fit(changed(lab, num_val=num)) for num in (7, 0, 40))
    for other in (none, large):
        assert differences(one.state_dict()["model"], other.state_dict()["model"]) == []
        assert differences(one.state_dict()["averaged"], other.state_dict()["averaged"]) == []


def test_the_same_seed_trains_the_same_and_another_one_does_not(
    fit: Callable[..., Training],
) -> None:
    one, same, other = (fit(changed(LAB, seed=seed)).state_dict() for seed in (0, 0, 1))
    assert differences(one, same) == []
    assert differences(one["model"], other["model"]) != []


def test_augmentation_changes_the_images_that_are_trained_on(
    fit: Callable[..., Training],
) -> None:
    plain, turned = (fit(changed(LAB, augment=a)) for a in ({}, {"rotate": 45.0}))
    assert plain.history[0]["train_loss"] != turned.history[0]["train_loss"]


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_mixed_precision_trains_nearly_the_same(
    precision: str, fit: Callable[..., Training]
) -> None:
    exact, mixed = (fit(changed(LAB, train={"precision": p})) for p in ("float32", precision))
    assert next(mixed.model.parameters()).dtype == torch.float32
    for row, other in zip(exact.history, mixed.history, strict=True):
        assert row["train_loss"] == pytest.approx(other["train_loss"], rel=0.03)
        assert row["train_loss"] != other["train_loss"]


# ---------------------------------------------------------------- the record


def test_a_row_holds_the_metrics_of_its_epoch(fit: Callable[..., Training]) -> None:
    lab = changed(LAB, optim=AdamConfig(lr=0.01, schedule="cosine"))
    watch = Watch()
    training = fit(lab, watch=watch)
    assert watch.rows == training.history
    assert [row["epoch"] for row in training.history] == [1, 2, 3]
    assert [row["step"] for row in training.history] == [4, 8, 12]
    rates = [learning_rate(lab.optim, step, 12) for step in (3, 7, 11)]
    assert [row["lr"] for row in training.history] == rates
    assert all(row["seconds"] > 0 and row["images_per_second"] > 0 for row in training.history)


def test_training_accuracy_counts_every_image_once(fit: Callable[..., Training]) -> None:
    row = fit(changed(LAB, optim=AdamConfig(lr=1e-12), model=MlpConfig(layers=0))).history[0]
    lab = changed(LAB, model=MlpConfig(layers=0))
    expected = evaluate(lab.build(), lab.batches(50), lab.recipe()).score
    assert row["train_accuracy"] == expected.accuracy
    assert row["train_loss"] == pytest.approx(expected.loss, rel=1e-5)


def test_the_gradient_norm_is_that_of_the_last_step(fit: Callable[..., Training]) -> None:
    lab = changed(LAB, model=MlpConfig(layers=0), train={"epochs": 1, "batch_size": 50})
    model, batches = lab.build(), lab.batches(50)
    loss = F.cross_entropy(model(lab.recipe().normalization(batches.images)), batches.labels)
    loss.backward()  # type: ignore[no-untyped-call]
    norm = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).norm()
    assert fit(lab).history[0]["grad_norm"] == pytest.approx(float(norm), rel=1e-4)


def test_a_row_without_validation_says_so(fit: Callable[..., Training]) -> None:
    training = fit(changed(LAB, num_val=0))
    assert all(training.history[0][f"val_{name}"] is None for name in MONITORED)
    assert training.best is None


# ---------------------------------------------------------------- the best epoch

# Validation accuracy and loss of each epoch.
CURVE = [(0.5, 0.9), (0.7, 0.6), (0.7, 0.5), (0.6, 0.4), (0.7, 0.5), (0.1, 0.9), (0.1, 0.9)]


def scripted_score(loss: float, accuracy: float) -> Score:
    """A score whose balanced accuracy and F1 say the contrary of its accuracy."""
    return Score(loss, accuracy, 20, 1 - accuracy, 1 - accuracy, None, loss, 0.0)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch, fit: Callable[..., Training]) -> Callable[..., Any]:
    """Train on the curve above: the training, and the weights that each epoch ended with."""

    def run(curve: list[tuple[float, float]] = CURVE, **options: Any) -> Any:
        weights: list[dict[str, Tensor]] = []

        def fake(model: nn.Module, batches: Batches, recipe: Recipe) -> Any:
            accuracy, loss = curve[len(weights)]
            weights.append(copy.deepcopy(dict(model.state_dict())))
            return type("Evaluation", (), {"score": scripted_score(loss, accuracy), "own": {}})

        monkeypatch.setattr(train, "evaluate", fake)
        return fit(changed(LAB, train={"epochs": len(curve), **options})), weights

    return run


@pytest.mark.parametrize(
    ("monitor", "best"),
    [("accuracy", 3), ("loss", 4), ("balanced_accuracy", 6), ("macro_f1", 6)],
)
@pytest.mark.parametrize("ema", [None, 0.9])
def test_the_best_epoch_is_tested(
    scripted: Callable[..., Any], monitor: str, best: int, ema: float | None
) -> None:
    training, weights = scripted(monitor=monitor, ema=ema)
    assert training.best["epoch"] == best
    assert differences(dict(training.tested().state_dict()), weights[best - 1]) == []


def test_the_last_epoch_is_tested_if_asked_for(scripted: Callable[..., Any]) -> None:
    training, weights = scripted(weights="last")
    assert training.best is None
    assert differences(dict(training.tested().state_dict()), weights[-1]) == []


@pytest.mark.parametrize(
    ("monitor", "patience", "epochs"),
    [("accuracy", 1, 4), ("accuracy", 2, 5), ("loss", 2, 6), ("loss", 9, 7), ("macro_f1", 1, 2)],
)
@pytest.mark.parametrize("weights", ["best", "last"])
def test_training_stops_when_patience_is_at_an_end(
    scripted: Callable[..., Any], monitor: str, patience: int, epochs: int, weights: str
) -> None:
    training, _ = scripted(monitor=monitor, patience=patience, weights=weights)
    assert len(training.history) == training.epoch == epochs


def test_the_first_of_equal_epochs_is_the_best(scripted: Callable[..., Any]) -> None:
    training, _ = scripted(curve=[(0.5, 0.5)] * 4, patience=2)
    assert (training.best["epoch"], training.epoch) == (1, 3)


@pytest.mark.parametrize("monitor", ["accuracy", "balanced_accuracy", "macro_f1"])
def test_of_epochs_with_equal_metrics_the_one_of_least_loss_is_the_best(
    scripted: Callable[..., Any], monitor: str
) -> None:
    training, _ = scripted(curve=[(0.5, 0.9), (0.5, 0.4), (0.5, 0.6)], monitor=monitor)
    assert training.best["epoch"] == 2


def test_of_epochs_with_equal_losses_the_most_accurate_is_the_best(
    scripted: Callable[..., Any],
) -> None:
    training, _ = scripted(curve=[(0.5, 0.9), (0.6, 0.9), (0.4, 0.9)], monitor="loss")
    assert training.best["epoch"] == 2


def test_a_row_holds_every_metric_of_validation_that_can_be_monitored(
    fit: Callable[..., Training],
) -> None:
    training = fit(LAB)
    result = evaluate(training.tested(), LAB.batches(LAB.num_val, seed=1), LAB.recipe()).score
    best = training.history[training.best["epoch"] - 1]  # type: ignore[index]
    for name in MONITORED:
        assert best[f"val_{name}"] == getattr(result, name)


def test_the_tested_weights_are_saved(tmp_path: Path) -> None:
    training = LAB.run(tmp_path)
    saved = checkpoint.load(tmp_path / "best.ckpt")
    assert saved["run_id"] == RUN_ID
    assert differences(dict(saved["model"]), dict(training.tested().state_dict())) == []
    assert training.best is not None
    assert training.best["val_accuracy"] == max(r["val_accuracy"] for r in training.history)


def test_patience_without_validation_is_refused(fit: Callable[..., Training]) -> None:
    with pytest.raises(UserError, match=r"train\.patience=2: early stopping needs validation"):
        fit(changed(LAB, num_val=0, train={"patience": 2}))


# ---------------------------------------------------------------- when it goes wrong


def test_a_loss_that_is_not_finite_is_refused_with_its_steps(tmp_path: Path) -> None:
    lab = changed(LAB, optim=SgdConfig(lr=1e30))
    with pytest.raises(UserError) as refusal:
        lab.run(tmp_path)
    assert "became non-finite in epoch 1 between steps 1 and 4\n" in str(refusal.value)
    assert "optim.lr" in str(refusal.value)
    assert list(tmp_path.glob("*.ckpt")) == []


def test_an_update_that_ruins_the_weights_is_refused_before_the_loss_shows_it(
    tmp_path: Path,
) -> None:
    lab = changed(LAB, optim=SgdConfig(lr=1e300), train={"batch_size": 50})
    with pytest.raises(UserError, match="in epoch 1 between steps 1 and 1"):
        lab.run(tmp_path)
    assert list(tmp_path.glob("*.ckpt")) == []


def test_no_checkpoint_in_an_epoch_holds_what_is_not_finite(tmp_path: Path) -> None:
    lab = changed(LAB, optim=SgdConfig(lr=1e15), train={"checkpoint_seconds": 1e-9})
    with pytest.raises(UserError, match="became non-finite"):
        lab.run(tmp_path)
    state = checkpoints_in(tmp_path).load_last()
    assert state is not None
    assert all(value.isfinite().all() for value in state["model"].values())


def test_a_stop_signal_saves_the_state_and_says_which(tmp_path: Path) -> None:
    with pytest.raises(Stopped) as stop:
        LAB.run(tmp_path, Watch(steps=6))
    assert stop.value.signum == SIGTERM
    state = checkpoints_in(tmp_path).load_last()
    assert state is not None
    assert (state["epoch"], state["step_in_epoch"], len(state["history"])) == (1, 2, 1)
    assert not (tmp_path / "best.ckpt").exists()


def test_a_stop_at_the_end_of_an_epoch_finds_it_saved(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        LAB.run(tmp_path, Watch(epochs=2))
    state = checkpoints_in(tmp_path).load_last()
    assert state is not None
    assert (state["epoch"], state["step_in_epoch"], len(state["history"])) == (2, 0, 2)


@pytest.mark.parametrize(("seconds", "saves"), [(1e-9, 12 + 3), (1e9, 3)])
def test_checkpoints_are_made_in_time(
    seconds: float, saves: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states: list[dict[str, Any]] = []
    monkeypatch.setattr(Checkpoints, "save_last", lambda self, state: states.append(state))
    changed(LAB, train={"checkpoint_seconds": seconds}).run(tmp_path)
    assert len(states) == saves


def test_the_seconds_of_an_interrupted_epoch_add_up(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        LAB.run(tmp_path, Watch(steps=2))
    checkpoints = checkpoints_in(tmp_path)
    checkpoints.save_last({**(checkpoints.load_last() or {}), "seconds": 1000.0})
    with pytest.raises(Stopped):
        LAB.run(tmp_path, Watch(steps=1))
    first, second, _ = LAB.run(tmp_path).history
    assert first["seconds"] > 1000 > second["seconds"]


def test_writing_a_checkpoint_is_no_training_and_other_time_between_steps_is() -> None:
    lab = changed(LAB, train={"epochs": 2, "patience": None})
    training = lab.start()
    for event in train.fit(training, lab.parts(), lab.recipe()):
        if isinstance(event, train.StepDone):
            if event.epoch == 0:
                assert training.resume_point()["seconds"] < 1
            time.sleep(0.3)
    first, second = training.history
    assert first["seconds"] < 0.6 < 1.2 <= second["seconds"]


def test_each_step_and_each_epoch_is_an_event_in_their_order() -> None:
    lab = changed(LAB, train={"epochs": 2})
    training = lab.start()
    seen: list[Any] = []
    for event in train.fit(training, lab.parts(), lab.recipe()):
        if isinstance(event, train.EpochDone):
            assert event.row is training.history[-1]
            assert (training.epoch, training.step_in_epoch) == (event.row["epoch"], 0)
            assert training.best is not None
            seen.append("epoch")
        else:
            assert (event.epoch, event.step) == (training.epoch, training.step_in_epoch)
            assert re.fullmatch(r"loss \S+  accuracy \S+%  [\d,]+ images/s", event.progress())
            seen.append((event.epoch, event.step, event.steps))
    assert seen == [
        (0, 1, 4), (0, 2, 4), (0, 3, 4), (0, 4, 4), "epoch",
        (1, 1, 4), (1, 2, 4), (1, 3, 4), (1, 4, 4), "epoch",
    ]  # fmt: skip


def test_a_training_that_is_left_can_be_gone_on_with_in_the_same_objects() -> None:
    lab = changed(LAB, model=MlpConfig(hidden=8, dropout=0.5))
    training, straight = lab.start(), lab.start()
    for event in train.fit(training, lab.parts(), lab.recipe()):
        if (event.epoch, event.step) == (0, 2):  # type: ignore[union-attr]
            break
    rng = torch.get_rng_state()
    list(train.fit(straight, lab.parts(), lab.recipe()))
    torch.set_rng_state(rng)
    list(train.fit(training, lab.parts(), lab.recipe()))
    assert differences(training.state_dict(), straight.state_dict()) == []


def test_a_finished_training_is_not_trained_again(tmp_path: Path) -> None:
    first, watch = LAB.run(tmp_path), Watch()
    again = LAB.run(tmp_path, watch)
    assert watch.rows == []
    assert differences(first.state_dict()["model"], again.state_dict()["model"]) == []


def test_the_recipe_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        LAB.recipe().seed = 1  # type: ignore[misc]
