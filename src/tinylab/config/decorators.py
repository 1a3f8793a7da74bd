"""The decorators that mark a class or function as a model, dataset, optimizer etc.

They return it unchanged: what it declares is parsed from its source (``signature.py``). Built-in
options and the user's own are marked in the same way.
"""

from collections.abc import Callable
from typing import Any, Literal, TypeVar, overload

C = TypeVar("C", bound=Callable[..., Any])


@overload
def model(cls: C, /) -> C: ...
@overload
def model(**common: Any) -> Callable[[C], C]: ...
def model(cls: C | None = None, /, **common: Any) -> C | Callable[[C], C]:
    """Mark a model: called with ``image_shape`` (C, H, W), ``num_classes`` and its keys."""
    return _marked(cls)


@overload
def dataset(cls: C, /) -> C: ...
@overload
def dataset(**common: Any) -> Callable[[C], C]: ...
def dataset(cls: C | None = None, /, **common: Any) -> C | Callable[[C], C]:
    """Mark a dataset: called with its keys, it returns images, labels and optionally class names.

    ``(images, labels)``: uint8 arrays or tensors (N, H, W), (N, H, W, C) or (N, C, H, W), C 1 or 3,
    or floats from 0 to 1, and integers (N,). Or an object with ``len`` and ``[]`` that returns
    (image, label), and optionally has ``classes``. Or a dict of these: ``train``, and official
    ``val`` and ``test``, with ``classes``. ``common``: its defaults for keys of every dataset:
    ``image_size``, ``normalize``.
    """
    return _marked(cls)


def metric(*, better: Literal["higher", "lower"], name: str = "") -> Callable[[C], C]:
    """Mark a metric: (labels, probabilities) -> float, and whether higher or lower is better.

    labels: int64 (N,). probabilities: float64 (N, num_classes), rows sum to 1. It is computed on
    validation data after each epoch and for the tested network, and named after its function unless
    ``name`` is given.
    """
    return lambda each: each


@overload
def optimizer(cls: C, /) -> C: ...
@overload
def optimizer(**common: Any) -> Callable[[C], C]: ...
def optimizer(cls: C | None = None, /, **common: Any) -> C | Callable[[C], C]:
    """Mark an optimizer: called with parameter groups and its keys.

    ``common``: its defaults for keys of every optimizer, such as ``schedule``.
    """
    return _marked(cls)


@overload
def schedule(cls: C, /) -> C: ...
@overload
def schedule(**common: Any) -> Callable[[C], C]: ...
def schedule(cls: C | None = None, /, **common: Any) -> C | Callable[[C], C]:
    """Mark a schedule: (step, steps) and its keys -> the factor of the peak learning rate.

    step: 0 to steps - 1, after the steps of ``optim.warmup``. The factor must not depend on
    anything else.
    """
    return _marked(cls)


@overload
def augmentation(cls: C, /) -> C: ...
@overload
def augmentation(**common: Any) -> Callable[[C], C]: ...
def augmentation(cls: C | None = None, /, **common: Any) -> C | Callable[[C], C]:
    """Mark an augmentation: (images, generator) and its keys -> images.

    images: float32 (N, C, H, W), from 0 (black) to 1 (white). generator: a torch.Generator on their
    device.
    """
    return _marked(cls)


@overload
def loss(cls: C, /) -> C: ...
@overload
def loss(**common: Any) -> Callable[[C], C]: ...
def loss(cls: C | None = None, /, **common: Any) -> C | Callable[[C], C]:
    """Mark a loss: (logits, targets) and its keys -> a scalar tensor, the mean over the images.

    logits: float32 (N, num_classes). targets: int64 (N,); class probabilities float32
    (N, num_classes) with mixup or CutMix.
    """
    return _marked(cls)


def _marked(cls: C | None) -> C | Callable[[C], C]:
    return (lambda each: each) if cls is None else cls
