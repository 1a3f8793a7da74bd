"""The decorators that mark a class or function as a model, dataset, optimizer and the like.

They give it back unchanged: what it declares is read from its source (``signature.py``). Built-in
options and the user's own are marked alike.
"""

from collections.abc import Callable
from typing import Any, Literal, TypeVar, overload

C = TypeVar("C", bound=Callable[..., Any])


@overload
def model(cls: C, /) -> C: ...
@overload
def model(**common: Any) -> Callable[[C], C]: ...
def model(cls: C | None = None, /, **common: Any) -> C | Callable[[C], C]:
    """Mark a network: called with ``image_shape`` (C, H, W), ``num_classes`` and its keys."""
    return _marked(cls)


@overload
def dataset(cls: C, /) -> C: ...
@overload
def dataset(**common: Any) -> Callable[[C], C]: ...
def dataset(cls: C | None = None, /, **common: Any) -> C | Callable[[C], C]:
    """Mark a dataset: called with its keys, it gives images, labels and perhaps class names.

    ``(images, labels)``: uint8 arrays or tensors (N, H, W), (N, H, W, C) or (N, C, H, W), C 1 or 3,
    or real numbers from 0 to 1, and whole numbers (N,). Or an object with ``len`` and ``[]`` that
    gives (image, label), and perhaps has ``classes``. Or a dict of these: ``train``, and official
    ``val`` and ``test``, with ``classes``. ``common`` are its defaults of keys that every dataset
    has: ``image_size``, ``normalize``.
    """
    return _marked(cls)


def metric(*, better: Literal["higher", "lower"], name: str = "") -> Callable[[C], C]:
    """Mark a metric: (labels, probabilities) -> float, and whether higher or lower is better.

    labels: int64 (N,). probabilities: float64 (N, num_classes), the rows sum to 1. It is computed
    on validation after each epoch and on the tested network, and called by its function's name
    unless ``name`` is given.
    """
    return lambda each: each


@overload
def optimizer(cls: C, /) -> C: ...
@overload
def optimizer(**common: Any) -> Callable[[C], C]: ...
def optimizer(cls: C | None = None, /, **common: Any) -> C | Callable[[C], C]:
    """Mark an optimizer: called with parameter groups and its keys.

    ``common`` are its defaults of keys that every optimizer has, such as ``schedule``.
    """
    return _marked(cls)


@overload
def schedule(cls: C, /) -> C: ...
@overload
def schedule(**common: Any) -> Callable[[C], C]: ...
def schedule(cls: C | None = None, /, **common: Any) -> C | Callable[[C], C]:
    """Mark a schedule: (step, steps) and its keys -> the factor of the peak learning rate.

    step: 0 to steps - 1, after those of ``optim.warmup``. The factor depends on nothing else.
    """
    return _marked(cls)


@overload
def augmentation(cls: C, /) -> C: ...
@overload
def augmentation(**common: Any) -> Callable[[C], C]: ...
def augmentation(cls: C | None = None, /, **common: Any) -> C | Callable[[C], C]:
    """Mark an augmentation: (images, generator) and its keys -> images.

    images: float32 (N, C, H, W), black 0 and white 1. generator: a torch.Generator on their device.
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
