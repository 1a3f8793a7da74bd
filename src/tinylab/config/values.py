"""Config values: how they are typed, and what a key declares about them.

A key's check, its error message, its help and its row in the docs come from one declaration:
``option(32, "channels of the first stage", at_least=1)``.
"""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeGuard, TypeVar

from tinylab.errors import UserError
from tinylab.errors import did_you_mean as did_you_mean  # shared with the system layer

T = TypeVar("T")


@dataclass(frozen=True)
class Check:
    """The constraints on a key's value; None means unconstrained.

    needs: another key of the section that must not be 0 or null if this one is true. required: what
    is expected if null is not allowed, though it is the default. pattern: what is expected of a
    string that must be a regular expression.
    """

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    one_of: Sequence[str] | None = None
    needs: str | None = None
    required: str | None = None
    pattern: str | None = None
    finite: bool = True

    def accepts(self, value: Any) -> bool:
        """Return whether a value other than null is within the limits."""
        if self.one_of is not None:
            return value in self.one_of
        if self.pattern is not None:
            return _compiles(value)
        if not is_number(value):
            return True
        return (
            (math.isfinite(value) or not self.finite)
            and (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
        )

    def expected(self) -> str:
        """Return the limits in words: ``1 or more``, ``0 to below 1``, ``one of torch, glorot``."""
        if self.one_of is not None:
            return f"one of {', '.join(self.one_of)}"
        if self.pattern is not None:
            return self.pattern
        low = self.at_least if self.above is None else self.above
        high = self.at_most if self.below is None else self.below
        if low is None and high is None:
            return "a finite number"
        if low is None or high is None:
            bound = f"{low:g}" if low is not None else f"{high:g}"
            more = {"above": self.above, "below": self.below, "up to": self.at_most}
            words = [f"{word} {bound}" for word, limit in more.items() if limit is not None]
            return f"a number {words[0]}" if words else f"{bound} or more"
        if self.above is not None and self.below is not None:
            return f"a number between {low:g} and {high:g}"
        start = f"above {low:g}" if self.above is not None else f"{low:g}"
        return f"{start} to {'below ' if self.below is not None else ''}{high:g}"


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


def key(
    default: Any,
    help: str = "",
    *,
    identity: bool = True,
    neutral: bool = False,
    initial: bool = False,
    counted_by: str | None = None,
    stands_for: Any = None,
    normalize: str | None = None,
    factory: Any = None,
    **limits: Any,
) -> Any:
    """A field of a section's record: default, help, part of the identity or not, constraints.

    ``neutral``: the default means "as before this key existed", and is not part of the identity.
    ``initial``: it only affects the initial weights. ``counted_by``: another key of the section; if
    that has a value, this one counts as null. ``stands_for``: what null means by default.
    ``normalize``: what a null ``dataset.normalize`` means if this key has a value. ``limits`` are
    those of ``Check``.
    """
    metadata = {
        "help": help, "identity": identity, "neutral": neutral, "initial": initial,
        "counted_by": counted_by, "stands_for": stands_for, "normalize": normalize,
        "check": Check(**limits),
    }  # fmt: skip
    if factory is not None:
        return field(default_factory=factory, metadata=metadata)
    return field(default=default, metadata=metadata)


def option(
    default: T,
    help: str = "",
    *,
    identity: bool = True,
    neutral: bool = False,
    initial: bool = False,
    is_place: bool = False,
    normalize: str | None = None,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    one_of: Sequence[str] | None = None,
    needs: str | None = None,
    required: str | None = None,
) -> T:
    """Declare a key in the signature of a model, dataset or optimizer; returns ``default``.

    The declaration is parsed from the source, so nothing needs to be imported for it.
    ``identity=False``: the key cannot change a result. ``neutral=True``: its default means "as
    before this key existed". ``initial=True``: it only affects the initial weights, and is ignored
    if trained weights are loaded. ``is_place=True``: it is the location of data, which is not part
    of its identity. ``normalize``: what a null ``dataset.normalize`` means if this key has a value.
    """
    return default


def check(record: Any, section: str) -> None:
    """Raise UserError for the first value of a record that its key does not allow."""
    for entry in fields(record):
        value, limits = getattr(record, entry.name), entry.metadata.get("check")
        name = f"{section}.{entry.name}" if section else entry.name
        if limits is None:
            continue
        if value is None and limits.required is not None:
            raise UserError(f"{name}=null: expected {limits.required}")
        if limits.needs is not None and value and not getattr(record, limits.needs):
            needed = f"{section}.{limits.needs}"
            raise UserError(
                f"{name}={shown(value)}: expected {needed} above 0 with it, or {name}=false"
            )
        if not (value is None and is_nullable(entry.type)) and not limits.accepts(value):
            null = "null or " if is_nullable(entry.type) and limits.required is None else ""
            hint = did_you_mean(str(value), limits.one_of) if limits.one_of else ""
            raise UserError(f"{name}={shown(value)}: expected {null}{limits.expected()}{hint}")


def is_nullable(declared: Any) -> bool:
    """Return whether a declared type, such as ``int | None``, allows null."""
    return type(None) in getattr(declared, "__args__", ())


def shown(value: object) -> str:
    """Format a value as it is typed on the command line."""
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def is_number(value: object) -> TypeGuard[int | float]:
    """Return whether a value is a number; true and false are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def order(value: object) -> tuple[bool, float, str]:
    """Return a key that sorts values: numbers by size, before words."""
    return (False, value, "") if is_number(value) else (True, 0.0, shown(value))
