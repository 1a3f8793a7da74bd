"""Translate Python arguments into the overrides of ``tinylab train``."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from tinylab.config.overrides import typed
from tinylab.errors import UserError

Overrides = str | Mapping[str, Any]
AXES = (list, tuple, range)


def arguments(
    overrides: Sequence[Overrides], values: Mapping[str, Any], with_axes: bool = False
) -> list[str]:
    """Translate ``("model=mlp", {"optim.lr": 0.01}), {"seed": 1}`` to ``model=mlp optim.lr=0.01
    seed=1``.

    Strings are passed as they are; values of dicts and keyword arguments are quoted, so that
    nothing in them is parsed as grammar. With ``with_axes``, a list means the values to sweep over,
    except for keys of ``sweep``. Raises UserError for an invalid override.
    """
    words: list[str] = []
    for given in (*overrides, values):
        if isinstance(given, Mapping):
            words += [_override(key, value, with_axes) for key, value in given.items()]
        elif isinstance(given, str):
            words.append(_checked(given))
        else:
            raise UserError(
                f"{given!r}: expected an override such as 'model=mlp', or a dict such as "
                "{'optim.lr': 0.01}"
            )
    return words


def _checked(override: str) -> str:
    if override.startswith("-"):
        remedy = (
            "; use tinylab.sweep(...) for several runs" if override in ("-m", "--multirun") else ""
        )
        raise UserError(f"{override}: expected an override, not a command-line flag{remedy}")
    return override


def _override(key: object, value: Any, with_axes: bool) -> str:
    if not isinstance(key, str):
        raise UserError(f"{key!r}: expected a key such as 'optim.lr'")
    if isinstance(value, Mapping) and value and "." not in key:
        raise UserError(f"{key}={value!r}: {_dotted(key, value, with_axes)}")
    is_axis = with_axes and isinstance(value, AXES) and not key.startswith(("sweep.", "+", "code"))
    if not is_axis:
        return f"{key}={_typed(key, value)}"
    if not len(value):
        raise UserError(f"{key}=[]: expected at least one value to sweep over")
    return f"{key}={','.join([_typed(key, each) for each in value])}"


def _dotted(section: str, values: Mapping[Any, Any], with_axes: bool) -> str:
    """Return the remedy for ``train={"epochs": 3}``."""
    first = {f"{section}.{name}": value for name, value in [*values.items()][:1]}
    [override] = arguments([first], {}, with_axes)
    return f'expected "{override}" or {first!r}'


def _typed(key: str, value: Any) -> str:
    if isinstance(value, str) and value == "???":
        raise UserError(
            f"{key}='???': expected another string; to Hydra, ??? means a missing value"
        )
    if callable(value):
        name = getattr(value, "__name__", type(value).__name__)
        option = name.lower() if name.isidentifier() else "mine"
        raise UserError(
            f"{key}={name}: expected a name, not a class or function, which other processes cannot "
            f"import\n  write it to a file (%%writefile {option}.py in a cell), then use "
            f'code="{option}.py", {key}="{option}"'
        )
    try:
        return typed(_plain(value))
    except TypeError as error:
        raise UserError(
            f"{key}={value!r}: expected a number, string, bool, None, or a list of these, not "
            f"{error}"
        ) from error


def _plain(value: Any) -> Any:
    """Convert to a type that ``typed`` supports: NumPy scalars and arrays, paths, ranges."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | range):
        return [_plain(each) for each in value]
    return value.tolist() if hasattr(value, "tolist") and hasattr(value, "dtype") else value
