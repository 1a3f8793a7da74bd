"""Exact metrics of a network on a part of the data."""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from tinylab.data import augment
from tinylab.data.batches import Batches
from tinylab.errors import UserError
from tinylab.training.metrics import Score, score
from tinylab.training.own import Loss
from tinylab.training.state import Recipe


@dataclass(frozen=True)
class Evaluation:
    """All metrics, and the predictions.

    own: the values of the user's own metrics, None if missing. predicted: int64 (N,).
    probabilities: float32 (N, num_classes). num_guessed: the number of images with non-finite
    outputs.
    """

    score: Score
    own: dict[str, float | None]
    predicted: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    num_guessed: int = 0

    def as_dict(self) -> dict[str, float | int | None]:
        """Return all metrics for ``result.json``."""
        return {**self.score.as_dict(), **self.own}


def mean_logits(model: nn.Module, images: Tensor, recipe: Recipe, tta: str) -> Tensor:
    """uint8 (N, C, H, W) -> logits float32 (N, num_classes), the mean over ``augment.views``."""
    with recipe.autocast():
        views = [recipe.normalization(view) for view in augment.views(images, tta)]
        return torch.stack([model(view).float() for view in views]).mean(0)


@torch.inference_mode()
def evaluate(
    model: nn.Module, batches: Batches, recipe: Recipe, tta: str = "none", is_final: bool = False
) -> Evaluation:
    """Return exact metrics over all images, in evaluation mode, without label smoothing.

    The loss is the user's if the recipe has one, otherwise the negative log-likelihood. With
    ``tta`` the logits are the mean over ``augment.views`` of each image. Raises UserError if the
    network's outputs are not finite; if ``is_final``, when no training remains, these images count
    as misclassified instead.
    """
    was_training = model.training
    model.eval()
    # Memory for all is allocated first: small results kept from each batch would fragment the
    # memory between freed activations: 22 GB instead of 1.6 for 864,000 images.
    outputs = torch.empty(len(batches), recipe.num_classes, device=recipe.device)
    done = 0
    for images, _ in batches.in_order(recipe.train.eval_batch_size):
        outputs[done : done + len(images)] = mean_logits(model, images, recipe, tta)
        done += len(images)
    model.train(was_training)
    logits = outputs.cpu().double()  # (N, num_classes)
    del outputs  # with 1,600 classes each such array is as large as the rest of the process
    labels = batches.labels.cpu()
    broken = (~logits.isfinite().all(dim=1)).nonzero()[:, 0]
    if len(broken) and not is_final:
        raise UserError(
            "the network's outputs are not finite\n"
            "  lower optim.lr, or limit the gradient with train.grad_clip=1"
        )
    logits[broken] = 0.0
    logits[broken, labels[broken]] = -1.0  # less probable than every other class
    log_probabilities = logits.log_softmax(1)
    if recipe.loss is not None:
        given = logits.float().to(recipe.device)
        loss = _own_loss(recipe.loss, given, batches.labels, recipe.train.eval_batch_size)
    else:  # bit-identical to F.cross_entropy of the logits, without a second softmax
        loss = float(F.nll_loss(log_probabilities, labels, reduction="sum")) / len(labels)
    predicted = logits.argmax(1).numpy()
    scored = score(labels.numpy(), predicted, log_probabilities.numpy(), loss)
    del log_probabilities
    probabilities = logits.softmax(1)
    own = recipe.metrics.of(labels.numpy(), probabilities.numpy())
    return Evaluation(scored, own, predicted, probabilities.float().numpy(), len(broken))


def _own_loss(loss: Loss, logits: Tensor, labels: Tensor, batch_size: int) -> float:
    """Return the mean over all images of a loss that averages over its batch. Raises UserError."""
    starts = range(0, len(labels), batch_size)
    parts = [slice(start, start + batch_size) for start in starts]
    sums = [float(loss(logits[part], labels[part])) * len(labels[part]) for part in parts]
    mean = math.fsum(sums) / len(labels)
    if not math.isfinite(mean):
        raise UserError(
            f"your loss gives {mean} in evaluation; expected a finite number for all logits"
        )
    return mean
