"""What a sweep varies: sweeps on the command line and in the ``sweep`` section."""

import dataclasses
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from tinylab.config.keys import SEEDS
from tinylab.config.named import is_name
from tinylab.config.overrides import typed as as_typed
from tinylab.config.schema import SweepConfig
from tinylab.config.slips import NUMBER
from tinylab.config.values import did_you_mean
from tinylab.errors import UserError
from tinylab.sweeps.combinations import is_value, repeats_in_order
from tinylab.sweeps.job import Composer, label


@dataclass(frozen=True)
class Interval:
    """All floats, or all integers, from ``low`` to ``high``, both inclusive."""

    low: float
    high: float
    log: bool

    def __str__(self) -> str:
        shown = f"interval({self.low},{self.high})"
        return f"tag(log,{shown})" if self.log else shown


Assignments = tuple[tuple[str, str], ...]  # keys with values, as typed


@dataclass(frozen=True)
class Axis:
    """A key that varies over listed values or an interval; or keys that vary together.

    ``key``: comma-separated if several keys vary together. ``values``: as typed; for an interval
    its two ends. ``in_order``: whether the values are numbers. ``together``: the overrides of each
    value, if keys vary together.
    """

    key: str
    values: tuple[str, ...]
    in_order: bool = False
    interval: Interval | None = None
    together: tuple[Assignments, ...] = ()

    def __str__(self) -> str:
        return f"{self.key}={self.interval or ','.join(self.values)}"

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that it sets."""
        listed = dict.fromkeys(key for each in self.together for key, _ in each)
        return tuple(listed) or (self.key,)

    def assigns(self, value: str) -> dict[str, str]:
        """Return the overrides of one of its values."""
        if not self.together:
            return {self.key: value}
        return dict(self.together[self.values.index(value)])

    def value_in(self, varied: dict[str, str]) -> str | None:
        """Return the value of the axis in a combination; None if it is not a value of this axis."""
        if not self.together:
            return varied.get(self.key)
        wanted = {key: varied[key] for key in self.keys if key in varied}
        pairs = zip(self.values, self.together, strict=True)
        return next((value for value, each in pairs if dict(each) == wanted), None)


@dataclass(frozen=True)
class Space:
    """What all jobs of a sweep share, what varies, and the sweep's own settings.

    ``axes``: the keys of a setting. ``repeats``: the seeds over which a search repeats each
    setting, most informative order first; in a grid, seeds are axes.
    """

    fixed: list[str]
    axes: list[Axis]
    settings: SweepConfig
    repeats: tuple[dict[str, str], ...] = ({},)

    def __str__(self) -> str:
        keys = ", ".join(" with ".join(axis.keys) for axis in self.axes) or "nothing"
        return (
            keys if len(self.repeats) == 1 else f"{keys}, each repeated {len(self.repeats)} times"
        )

    def meant(self) -> str | None:
        """Return an interval as typed, if an axis lists just its two ends; None if none does."""
        for axis in self.axes:
            if len(axis.values) == 2 and axis.interval is None and _are_floats(axis.values):
                return f"'{axis.key}=interval({','.join(axis.values)})'"
        return None

    def varied(self, point: dict[str, str]) -> dict[str, str]:
        """Return the overrides of a combination of the axes' values."""
        set_by_axis = [axis.assigns(point[axis.key]) for axis in self.axes]
        return {key: value for each in set_by_axis for key, value in each.items()}

    def is_excluded(self, varied: dict[str, str]) -> bool:
        """Return whether ``sweep.exclude`` excludes a combination."""
        return any(
            all(key in varied and is_value(varied[key], value) for key, value in each.items())
            for each in self.settings.exclude
        )


def _are_floats(texts: Sequence[str]) -> bool:
    are_numbers = all(re.fullmatch(NUMBER, each) for each in texts)
    return are_numbers and not all(each.isdigit() for each in texts)


def read(arguments: Sequence[str], composer: Composer) -> Space:
    """Parse the space of ``arguments``. A key on the command line replaces that of ``sweep.space``.

    Raises UserError for an axis without values and for keys that cannot vary.
    """
    typed = composer.parse(arguments)
    axes = [_axis(override) for override in typed if override.is_sweep_override()]
    fixed = [
        f"{override.get_key_element()}={override.get_value_element_as_str()}"
        for override in typed
        if not override.is_sweep_override()
    ]
    # With the first listed values: they may choose groups with their own keys.
    listed_first = [f"{axis.key}={axis.values[0]}" for axis in axes if axis.interval is None]
    settings = composer.settings([*fixed, *listed_first])
    keys = {override.key_or_group for override in typed}
    listed = [f"{key}={text}" for key, text in settings.space.items() if key not in keys]
    axes = _joined([*map(_axis, composer.parse(listed)), *axes], settings.zip)
    if settings.settings:
        axes = [
            _of_settings(settings, {*keys, *(key for axis in axes for key in axis.keys)}),
            *axes,
        ]
    _refuse_wrong_exclusion(settings, axes)
    if settings.search == "grid":
        return Space(fixed, axes, settings)
    seeds = [axis for axis in axes if set(axis.keys) <= set(SEEDS)]
    others = [axis for axis in axes if axis not in seeds]
    _refuse_mixed_seeds(seeds, others, settings)
    # Searches ignore the order of listed values.
    sought = [each if each.in_order else _sorted(each) for each in others]
    return Space(fixed, sought, settings, repeats_in_order([_each_set(axis) for axis in seeds]))


def _each_set(axis: Axis) -> list[dict[str, str]]:
    return [axis.assigns(value) for value in axis.values]


def _sorted(axis: Axis) -> Axis:
    order = sorted(range(len(axis.values)), key=lambda index: axis.values[index])
    values = tuple(axis.values[index] for index in order)
    together = tuple(axis.together[index] for index in order) if axis.together else ()
    return dataclasses.replace(axis, values=values, together=together)


# ---------------------------------------------------------------- keys that vary together


def _joined(axes: list[Axis], groups: list[list[str]]) -> list[Axis]:
    """Join the axes of ``sweep.zip``. Raises UserError for invalid groups."""
    by_key = {axis.key: axis for axis in axes}
    for group in groups:
        shown = f"sweep.zip=[[{','.join(group)}]]"
        if len(group) < 2 or len({*group}) < len(group):
            raise UserError(f"{shown}: expected two or more different keys that vary together")
        for key in group:
            if key not in by_key:
                swept = ", ".join(axis.key for axis in axes) or "none"
                hint = did_you_mean(key, list(by_key))
                raise UserError(f"{shown}: {key} is not swept{hint}; the swept keys: {swept}")
            if by_key[key].together:
                raise UserError(f"{shown}: {key} is already in another group of sweep.zip")
            if by_key[key].interval is not None:
                raise UserError(f"{shown}: {by_key[key]} has no list of values to iterate over")
        joined = _zipped([by_key[key] for key in group], shown)
        by_key |= dict.fromkeys(group, joined)
    return list(dict.fromkeys(by_key.values()))


def _zipped(axes: list[Axis], shown: str) -> Axis:
    if len({len(axis.values) for axis in axes}) > 1:
        lengths = ", ".join(f"{axis.key} has {len(axis.values)}" for axis in axes)
        raise UserError(f"{shown}: expected equally many values per key; {lengths}")
    values = zip(*(axis.values for axis in axes), strict=True)
    keys = [axis.key for axis in axes]
    return _together(",".join(keys), [dict(zip(keys, each, strict=True)) for each in values])


def _together(key: str, assignments: Sequence[dict[str, str]]) -> Axis:
    values = tuple(label(each) for each in assignments)
    return Axis(key, values, together=tuple(tuple(each.items()) for each in assignments))


def _of_settings(settings: SweepConfig, taken: set[str]) -> Axis:
    """Return the axis of ``sweep.settings``. Raises UserError if a key is also set elsewhere."""
    listed = [{key: _text(key, each[key]) for key in each} for each in settings.settings]
    for each in listed:
        if not each:
            raise UserError("sweep.settings: {} is empty; expected {optim.lr: 0.1}, ...")
        for key in each:
            if key in taken:
                raise UserError(
                    f"sweep.settings: {key} is also set outside the list; expected only one of them"
                )
            if key.partition(".")[0] in ("sweep", "hydra"):
                raise UserError(f"sweep.settings: {key} applies to the whole sweep")
    keys = dict.fromkeys(key for each in listed for key in each)
    return _together(",".join(keys), listed)


def _text(key: str, value: object) -> str:
    """Return a YAML value as it is typed."""
    try:
        return as_typed(value)
    except TypeError as error:
        raise UserError(f"{key}={value}: expected a plain value") from error


# ---------------------------------------------------------------- checks


def _refuse_wrong_exclusion(settings: SweepConfig, axes: list[Axis]) -> None:
    """Raise UserError for an exclusion that excludes nothing, or is not allowed."""
    by_key = {key: axis for axis in axes for key in axis.keys}
    for each in settings.exclude:
        if not each:
            raise UserError("sweep.exclude: {} would exclude everything; expected {key: value}")
        for key, value in each.items():
            shown = f"sweep.exclude: {key}={_text(key, value)}"
            if key not in by_key:
                hint = did_you_mean(key, list(by_key))
                raise UserError(f"{shown}: not swept{hint}; the swept keys: {', '.join(by_key)}")
            if settings.search != "grid" and key in SEEDS:
                raise UserError(f"{shown}: a search repeats every setting over the same seeds")
            axis = by_key[key]
            texts = {axis.assigns(each)[key] for each in axis.values if key in axis.assigns(each)}
            if axis.interval is None and not any(is_value(text, value) for text in texts):
                raise UserError(f"{shown}: expected one of its values {', '.join(sorted(texts))}")


def _refuse_mixed_seeds(seeds: list[Axis], others: list[Axis], settings: SweepConfig) -> None:
    """Raise UserError if a seed would distinguish settings."""
    for axis in others:
        if mixed := [key for key in axis.keys if key in SEEDS]:
            raise UserError(
                f"sweep.search={settings.search}: {axis.key} vary together, but a search repeats "
                f"each setting over {mixed[0]}; take it out of the group"
            )
    for axis in seeds:
        if axis.interval is not None:
            raise UserError(f"{axis}: repeats need a list of values, such as {axis.key}=0,1,2")


def _axis(override: Override) -> Axis:
    """Return the axis of one override. Raises UserError if it varies nothing."""
    key, sweep = override.get_key_element(), override.value()
    if override.key_or_group.partition(".")[0].partition("/")[0] in ("sweep", "hydra"):
        raise UserError(f"{override.input_line}: applies to the whole sweep; expected one value")
    if not override.is_sweep_override():
        raise UserError(f"{override.input_line}: expected several values in sweep.space, as in 1,2")
    if isinstance(sweep, IntervalSweep):
        interval = _interval(sweep, override.input_line or key)
        return Axis(key, (str(interval.low), str(interval.high)), True, interval)
    if getattr(sweep, "tags", None):
        raise UserError(f"{override.input_line}: tags need an interval: tag(log,interval(1,9))")
    values = tuple(map(_as_typed, override.sweep_string_iterator()))
    if not values:
        raise UserError(f"{override.input_line}: no values to try")
    return Axis(key, values, in_order=isinstance(sweep, RangeSweep) and not sweep.shuffle)


def _as_typed(value: str) -> str:
    """Remove Hydra's backslash before the colon of ``package.module:Class``."""
    plain = value.replace("\\:", ":")
    return plain if is_name(plain) else value


def _interval(sweep: IntervalSweep, typed: str) -> Interval:
    low, high = sweep.start, sweep.end
    assert low is not None
    assert high is not None
    log = "log" in sweep.tags
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(f"{typed}: expected two numbers, the smaller first")
    if sweep.tags - {"log"}:
        raise UserError(f"{typed}: the only tag is log")
    if log and low <= 0:
        raise UserError(f"{typed}: log needs numbers above 0")
    return Interval(low, high, log)
