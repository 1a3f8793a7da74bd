"""SVG from small pure functions: elements, scales with round ticks, axes.

Lengths are in units of the viewBox, which the page shows at one CSS pixel or more. Colors are
classes and variables of the page's style sheet, so that figures work in light and dark mode.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

Point = tuple[float, float]


def element(tag: str, *children: str, **attributes: object) -> Markup:
    """Return an element. Children and values are escaped unless they are Markup.

    ``class_`` stands for ``class`` and ``text_anchor`` for ``text-anchor``; lengths are rounded to
    a tenth.
    """
    listed = Markup("").join(
        Markup(' {}="{}"').format(name.rstrip("_").replace("_", "-"), _shown(value))
        for name, value in attributes.items()
    )
    return Markup("<{0}{1}>{2}</{0}>").format(tag, listed, Markup("").join(children))


def _shown(value: object) -> object:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else value


def figure(width: float, height: float, title: str, description: str, *children: str) -> Markup:
    """Return a whole figure; title and description are its text alternative."""
    return element(
        "svg",
        element("title", title),
        element("desc", description),
        *children,
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        role="img",
        style=f"--width:{width:.0f}px",
    )


def line(start: Point, end: Point, class_: str) -> Markup:
    """Return a straight line."""
    return element("line", x1=start[0], y1=start[1], x2=end[0], y2=end[1], class_=class_)


def text(at: Point, words: str, anchor: str = "middle", class_: str = "") -> Markup:
    """Return a text on one line; ``anchor`` is start, middle or end."""
    return element("text", words, x=at[0], y=at[1], text_anchor=anchor, class_=class_)


def path(points: Iterable[Point]) -> str:
    """Return the ``d`` of a line through all points."""
    return "M" + "L".join(f"{_shown(float(x))},{_shown(float(y))}" for x, y in points)


@dataclass(frozen=True)
class Scale:
    """Maps values from ``low`` to ``high`` to positions from ``start`` to ``end``.

    ``least`` is the smallest step between two ticks: 1 if only integers make sense.
    """

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False
    least: float = 0.0

    def __call__(self, value: float) -> float:
        """Return the position of a value."""
        low, high, value = (self._linear(number) for number in (self.low, self.high, value))
        fraction = (value - low) / (high - low) if high > low else 0.5
        return self.start + fraction * (self.end - self.start)

    def _linear(self, value: float) -> float:
        return math.log10(value) if self.is_log else value

    def ticks(self, most: int = 5) -> list[float]:
        """Return round values inside the scale, at most ``most``, but at least one."""
        if self.is_log:
            choices = _decades(self.low, self.high)
        else:
            choices = _multiples(self.low, self.high, self.least)
        return next((ticks for ticks in choices if 0 < len(ticks) <= most), [self.low])


def fit(values: Sequence[float], start: float, end: float, may_be_log: bool = True) -> Scale:
    """Return a scale over all values with a margin of a twentieth at either end.

    It is logarithmic if positive values span more than a factor of 20.
    """
    low, high = min(values), max(values)
    is_log = may_be_log and low > 0 and high / low > 20
    free = (end - start) / 20
    tight = Scale(low, high, start + free, end - free, is_log)
    return tight if low < high else Scale(low - 0.5, high + 0.5, start, end)


def _multiples(low: float, high: float, least: float) -> Iterable[list[float]]:
    """Multiples of 1, 2 and 5 times powers of ten, from many to few."""
    first = math.floor(math.log10((high - low) / 20)) if high > low else 0
    for power in range(first, first + 4):
        for factor in (1, 2, 5):
            step = max(factor * 10.0**power, least)
            numbers = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
            yield [round(number * step, 12 - power) for number in numbers]


def _decades(low: float, high: float) -> Iterable[list[float]]:
    """1, 2, 5 times every power of ten; then 1 and 3; then every, every second, ... power."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors, every in (((1, 2, 5), 1), ((1, 3), 1), *(((1,), n) for n in range(1, 100))):
        ticks = [factor * 10.0**power for power in powers[::every] for factor in factors]
        yield [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]


def x_axis(scale: Scale, y: float, top: float, name: str, label: Callable[[float], str]) -> Markup:
    """Return ticks below ``y`` with grid lines up to ``top``, and the axis label."""
    parts = []
    for tick in scale.ticks():
        parts += [line((scale(tick), y), (scale(tick), top), "grid")]
        parts += [text((scale(tick), y + 15), label(tick))]
    middle = (scale.start + scale.end) / 2
    return Markup("").join([*parts, text((middle, y + 32), name, class_="name")])


def y_axis(scale: Scale, x: float, right: float, label: Callable[[float], str]) -> Markup:
    """Return ticks left of ``x`` with grid lines up to ``right``."""
    parts = []
    for tick in scale.ticks():
        parts += [line((x, scale(tick)), (right, scale(tick)), "grid")]
        parts += [text((x - 6, scale(tick) + 4), label(tick), "end")]
    return Markup("").join(parts)


def percent(fraction: float) -> str:
    """Format 0.985 as 98.5%, with as many decimals as needed."""
    return f"{fraction * 100:.6g}%"


def plain(value: float) -> str:
    """Format 0.0010 as 0.001."""
    return f"{value:.6g}"
