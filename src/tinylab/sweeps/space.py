"""What a sweep varies: the sweeps on the command line, and those of ``sweep.space``."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from tinylab.config.named import is_name
from tinylab.config.schema import SweepConfig
from tinylab.errors import UserError
from tinylab.sweeps.job import Composer


@dataclass(frozen=True)
class Interval:
    """All numbers, or all whole numbers, from ``low`` to ``high``, both included."""

    low: float
    high: float
    log: bool

    def __str__(self) -> str:
        shown = f"interval({self.low},{self.high})"
        return f"tag(log,{shown})" if self.log else shown


@dataclass(frozen=True)
class Axis:
    """One key that varies: over listed values, or over an interval.

    ``values``: the values as they are typed; of an interval its two ends.
    ``in_order``: whether the values are numbers of which neighbours are alike.
    """

    key: str
    values: tuple[str, ...]
    in_order: bool = False
    interval: Interval | None = None

    def __str__(self) -> str:
        return f"{self.key}={self.interval or ','.join(self.values)}"


@dataclass(frozen=True)
class Space:
    """What all jobs of a sweep share, what varies, and what the config says of the sweep."""

    fixed: list[str]
    axes: list[Axis]
    settings: SweepConfig

    def __str__(self) -> str:
        return ", ".join(axis.key for axis in self.axes) or "nothing"


def read(arguments: Sequence[str], composer: Composer) -> Space:
    """The space of ``arguments``. A key on the command line replaces that of ``sweep.space``.

    Raises UserError for an axis without values and for what cannot be varied.
    """
    typed = composer.parse(arguments)
    axes = [_axis(override) for override in typed if override.is_sweep_override()]
    fixed = [
        f"{override.get_key_element()}={override.get_value_element_as_str()}"
        for override in typed
        if not override.is_sweep_override()
    ]
    # With the first of the listed values: they may choose groups whose keys are fixed.
    listed_first = [f"{axis.key}={axis.values[0]}" for axis in axes if axis.interval is None]
    settings = composer.settings([*fixed, *listed_first])
    keys = {override.key_or_group for override in typed}
    listed = [f"{key}={text}" for key, text in settings.space.items() if key not in keys]
    axes = [*map(_axis, composer.parse(listed)), *axes]
    if settings.search != "grid":  # the order of listed values means nothing to a search
        axes = [each if each.in_order else _sorted(each) for each in axes]
    return Space(fixed, axes, settings)


def _sorted(axis: Axis) -> Axis:
    return dataclasses.replace(axis, values=tuple(sorted(axis.values)))


def _axis(override: Override) -> Axis:
    """The axis of one override. Raises UserError where it does not vary anything."""
    key, sweep = override.get_key_element(), override.value()
    if override.key_or_group.partition(".")[0].partition("/")[0] in ("sweep", "hydra"):
        raise UserError(f"{override.input_line}: this is for the whole sweep; expected one value")
    if not override.is_sweep_override():
        raise UserError(f"{override.input_line}: expected several values in sweep.space, as in 1,2")
    if isinstance(sweep, IntervalSweep):
        interval = _interval(sweep, override.input_line or key)
        return Axis(key, (str(interval.low), str(interval.high)), True, interval)
    if getattr(sweep, "tags", None):
        raise UserError(f"{override.input_line}: a tag is for an interval: tag(log,interval(1,9))")
    values = tuple(map(_as_typed, override.sweep_string_iterator()))
    if not values:
        raise UserError(f"{override.input_line}: no value to try")
    return Axis(key, values, in_order=isinstance(sweep, RangeSweep) and not sweep.shuffle)


def _as_typed(value: str) -> str:
    """A value without Hydra's backslash before the colon of ``package.module:Class``."""
    plain = value.replace("\\:", ":")
    return plain if is_name(plain) else value


def _interval(sweep: IntervalSweep, typed: str) -> Interval:
    low, high = sweep.start, sweep.end
    assert low is not None
    assert high is not None
    log = "log" in sweep.tags
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(f"{typed}: expected two numbers, the smaller one first")
    if sweep.tags - {"log"}:
        raise UserError(f"{typed}: the only tag there is is log")
    if log and low <= 0:
        raise UserError(f"{typed}: a logarithm needs numbers above 0")
    return Interval(low, high, log)
