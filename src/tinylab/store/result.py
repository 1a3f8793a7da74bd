"""The result of a finished run: a typed record of ``result.json``; the only reader and writer.

Another version of tinylab, an editor or an incomplete copy may have left something else: what is
read successfully is complete and consistent, everything else is a Fault. Unknown keys are kept if
they are metrics or facts about the machine, and ignored elsewhere.
"""

import dataclasses
import math
import types
import typing
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

from tinylab.config.metrics import METRICS, TAKEN, join
from tinylab.config.schema import is_plain_name
from tinylab.config.values import is_number
from tinylab.system.files import read_json, write_json

FORMAT = 1  # of what is written; results without a format predate formats
# Config values that grouping and listing require.
CONFIG: dict[tuple[str, ...], type] = {
    ("dataset", "name"): str, ("model", "name"): str, ("optim", "name"): str,
    ("split", "seed"): int, ("split", "fold"): int, ("seed",): int,
}  # fmt: skip
Record = TypeVar("Record")


IF_KNOWN = {"is_left_out": True}  # metadata of fields that are written only if they have a value


@dataclass(frozen=True, kw_only=True)
class Part:
    """The metrics of one part of the data; the loss is a mean in nats, accuracies are fractions.

    extra: further metrics by name.
    """

    loss: float
    accuracy: float = field(metadata={"within": (0, 1)})
    num: int = 0
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TestPart(Part):
    """The metrics of the test set, with the 95% CI of the accuracy (Wilson)."""

    accuracy_ci95: tuple[float, float]
    per_class_recall: list[float | None] | None = field(default=None, metadata=IF_KNOWN)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """The data of a run. image_shape: (C, H, W)."""

    name: str
    fingerprint: str
    classes: list[str]
    num_train: int = field(metadata={"within": (1, math.inf)})
    num_val: int = 0
    num_test: int = field(metadata={"within": (1, math.inf)})
    image_shape: tuple[int, int, int]
    normalization: dict[str, list[float]] | None = None
    duplicates: str | None = None


@dataclass(frozen=True, kw_only=True)
class Seconds:
    """The durations of the parts of a run, in seconds."""

    data: float = 0.0
    train: float
    evaluate: float = 0.0
    total: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Environment:
    """Where, and with which code, a run was computed. extra: further facts by name."""

    python: str | None = None
    torch: str | None = None
    platform: str | None = None
    device: str | None = None
    device_name: str | None = None
    threads: int | None = None
    git_commit: str | None = None
    dirty: bool | None = None
    code_sha256: str  # of the core and the selected options
    core_sha256: str | None = None  # of the core, equal for all options; None in older runs
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def version(self) -> str:
        """Identifies versions of tinylab independently of the selected options."""
        return self.core_sha256 or self.code_sha256

    @property
    def cpu_threads(self) -> int | None:
        """The number of threads, which affects the bits; None on a GPU, or if unknown."""
        return self.threads if self.device in (None, "cpu") else None

    def facts(self) -> dict[str, Any]:
        """Return all facts by name."""
        known = {name: value for name, value in vars(self).items() if name != "extra"}
        return {**known, **self.extra}


@dataclass(frozen=True, kw_only=True)
class Result:
    """A finished run. ``val`` is None without validation images.

    ``num_trained_parameters`` is set if some are frozen. ``val_plain`` and ``test_plain`` are
    without test-time augmentation, if it was used. ``own_metrics`` has, for each of the user's own
    metrics, which values are ``better`` and the ``sha256`` of its code.
    """

    run_id: str = ""
    command: str = ""
    config: dict[str, Any]
    dataset: Dataset
    split_sha256: str
    train: Part | None = None
    val: Part | None
    test: TestPart
    confusion: list[list[int]] = field(default_factory=list)
    best_epoch: int
    epochs: int
    weights_sha256: str = ""
    seconds: Seconds
    images_per_second: float = 0.0
    num_parameters: int
    num_trained_parameters: int | None = field(default=None, metadata=IF_KNOWN)
    environment: Environment
    own_metrics: dict[str, Any] | None = field(default=None, metadata=IF_KNOWN)
    failures: list[dict[str, Any]] = field(default_factory=list)
    resumed_at: list[dict[str, Any]] = field(default_factory=list)
    val_plain: Part | None = field(default=None, metadata=IF_KNOWN)
    test_plain: Part | None = field(default=None, metadata=IF_KNOWN)

    @property
    def parameters(self) -> str:
        """The number of parameters in words, with that of trainable ones if some are frozen."""
        trained = self.num_trained_parameters
        of_them = "" if trained is None else f", {trained:,} of them trainable"
        return f"{self.num_parameters:,} parameters{of_them}"

    @property
    def tta(self) -> str:
        """The test-time augmentation of the run; none where its config does not say."""
        train = self.config.get("train")
        kind = train.get("tta") if isinstance(train, dict) else None
        return kind if isinstance(kind, str) else "none"

    def metric(self, name: str) -> float | None:
        """Return one of METRICS; None if missing or not finite."""
        value: Any = self
        for key in METRICS[name].path:
            value = getattr(value, key, getattr(value, "extra", {}).get(key))
        return value if _is_finite(value) else None


@dataclass(frozen=True)
class Fault:
    """Why a result cannot be read by this version; ``is_newer``: written by a newer version."""

    reason: str
    is_newer: bool = False


class _WrongError(Exception):
    """The value at this path is missing or wrong."""


def read(path: Path) -> Result | Fault | None:
    """Read a result; None if the file is not JSON, or not of a finished run."""
    values = read_json(path)
    return parse(values) if values is not None and values.get("status") == "finished" else None


def write(path: Path, result: Result) -> None:
    """Write a result atomically."""
    write_json(path, {"format": FORMAT, "status": "finished", **_plain(result)})


def parse(values: dict[str, Any]) -> Result | Fault:
    """Build the result from these values, or return what is wrong with them."""
    version = values.get("format", 0)
    if not isinstance(version, int) or version > FORMAT:
        words = f"its result has format {version}, and this tinylab reads up to {FORMAT}"
        return Fault(f"{words}: it was written by a newer version", is_newer=True)
    try:
        result = _record(Result, values, "")
        _refuse_wrong_config(result.config)
        _join_own_metrics(result)
        if result.run_id and not is_plain_name(result.run_id):
            raise _WrongError("run_id")  # files are called by it
    except _WrongError as error:
        return Fault(f"its result.json is invalid: {error} is missing or wrong")
    return result


def _join_own_metrics(result: Result) -> None:
    """Register the user's own metrics from a result; declarations in files take precedence."""
    for name, each in (result.own_metrics or {}).items():
        better = each.get("better") if isinstance(each, dict) else None
        if better not in ("higher", "lower") or not name.isidentifier() or name in TAKEN:
            raise _WrongError(f"own_metrics.{name}")
        if f"val_{name}" not in METRICS:
            join(name, better)


def _refuse_wrong_config(config: dict[str, Any]) -> None:
    for keys, kind in CONFIG.items():
        value: Any = config
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        _value(kind, value, ".".join(("config", *keys)))


def _record(kind: type[Record], values: Any, where: str) -> Record:
    """Build the record of this kind at a path. Raises _WrongError for the first invalid value."""
    if not isinstance(values, dict):
        raise _WrongError(where)
    types_of, known = _types(kind), {}  # type: ignore[arg-type]
    for entry in dataclasses.fields(kind):  # type: ignore[arg-type]
        path = f"{where}.{entry.name}" if where else entry.name
        if entry.name in values:
            known[entry.name] = _value(types_of[entry.name], values[entry.name], path)
            within = entry.metadata.get("within")
            if within and not within[0] <= known[entry.name] <= within[1]:
                raise _WrongError(path)
        elif entry.default is entry.default_factory is dataclasses.MISSING:
            raise _WrongError(path)
    if "extra" in types_of:
        known["extra"] = {key: value for key, value in values.items() if key not in types_of}
    return kind(**known)


@cache
def _types(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _value(kind: Any, value: Any, path: str) -> Any:
    """Convert a JSON value to the type of the record."""
    if isinstance(kind, types.UnionType):
        kind, _ = typing.get_args(kind)  # or None
        if value is None:
            return None
    if dataclasses.is_dataclass(kind):
        return _record(kind, value, path)  # type: ignore[arg-type]
    if typing.get_origin(kind) is tuple:
        numbers = typing.get_args(kind)
        if not isinstance(value, list | tuple) or len(value) != len(numbers):
            raise _WrongError(path)
        return tuple(_value(each, one, path) for each, one in zip(numbers, value, strict=True))
    if kind is float:
        is_right = _is_finite(value)
    else:
        is_right = isinstance(value, typing.get_origin(kind) or kind)
        is_right = is_right and (kind is bool or not isinstance(value, bool))
    if not is_right:
        raise _WrongError(path)
    return value


def _is_finite(value: Any) -> TypeGuard[int | float]:
    return is_number(value) and math.isfinite(value)


def _plain(record: Any) -> dict[str, Any]:
    """Convert a record to JSON, in the order of its fields."""
    values: dict[str, Any] = {}
    for entry in dataclasses.fields(record):
        value = getattr(record, entry.name)
        if entry.name == "extra":
            values |= value
        elif value is not None or "is_left_out" not in entry.metadata:
            values[entry.name] = _plain(value) if dataclasses.is_dataclass(value) else value
    return values
