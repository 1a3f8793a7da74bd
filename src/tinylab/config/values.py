"""Values of config keys: as text, as numbers, in order."""

import json
from typing import TypeGuard


def shown(value: object) -> str:
    """A value as it is typed on the command line."""
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a value has a size; true and false have none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def order(value: object) -> tuple[bool, float, str]:
    """A key that sorts values: numbers by size, before words."""
    return (False, value, "") if is_number(value) else (True, 0.0, shown(value))
