"""The identity of a run: the values that can change its result, and the name of its folder."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from tinylab.config.schema import Config
from tinylab.config.values import is_number


def identity(record: Any, by_place: bool = False) -> dict[str, Any]:
    """The values of a config record that can change a run's result, nested as in the config.

    A key at its neutral value, which means "as before this key existed", is left out: a new key
    changes no id. Where data lies is no part of what it is, and counts as null; with ``by_place``
    it counts, as it did in older ids.
    """
    values: dict[str, Any] = {}
    for entry in dataclasses.fields(record):
        value = getattr(record, entry.name)
        counted_by = entry.metadata.get("counted_by")
        if counted_by is not None and getattr(record, counted_by) is not None:
            value = None
        if entry.metadata.get("neutral") and value == entry.default:
            continue
        if entry.metadata.get("is_place"):
            values[entry.name] = value if by_place else None
            continue
        if dataclasses.is_dataclass(value):
            if inner := identity(value, by_place):
                values[entry.name] = inner
        elif entry.metadata.get("identity", True):
            values[entry.name] = _canonical(value, entry.type)
    return values


def flatten(config: Mapping[str, Any]) -> dict[str, Any]:
    """A nested config as ``{"model": "mlp", "model.layers": 2}``: keys as they are typed."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, dict):
            flat |= {name if k == "name" else f"{name}.{k}": inner for k, inner in value.items()}
        else:
            flat[name] = value
    return flat


def _canonical(value: Any, declared: Any) -> Any:
    """1 and -0.0 as 1.0 and 0.0 where a real number is declared: equal values, equal texts."""
    is_real = is_number(value) and declared in (float, float | None)
    return value + 0.0 if is_real else value


def run_id(config: Config, by_place: bool = False) -> str:
    """``<dataset>-<model>-<hash>``: equal for equal identities, on every machine.

    The hash is the first 40 bits of SHA-256 over the identity as JSON with sorted keys. JSON
    writes a float by its shortest exact decimal, so 1e-3 and 0.001 are one value.
    """
    canonical = json.dumps(identity(config, by_place), sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    parts = file_name(config.dataset.name), file_name(config.model.name)
    return f"{'-'.join(parts)}-{digest[:10]}"


def file_name(option: str) -> str:
    """An option as a part of a folder's name: ``torchvision.models:Net`` as ``models.Net``."""
    module, is_named, attribute = option.partition(":")
    if not is_named:
        return option
    short = f"{module.rpartition('.')[2]}.{attribute}"
    return re.sub(r"[^\w.]", "_", short, flags=re.ASCII)[:80]
