"""The identity of a run: the values that can change its result, and the name of its folder."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from tinylab.config.schema import Config
from tinylab.config.values import is_number


def identity(record: Any, by_path: bool = False) -> dict[str, Any]:
    """Return the values of a record that can change a run's result, nested as in the config.

    A key at its neutral value, which means "as before this key existed", is left out, so that new
    keys do not change ids. The location of data is not part of its identity, and counts as null;
    with ``by_path`` it counts, as in older ids.
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
            values[entry.name] = value if by_path else None
            continue
        if dataclasses.is_dataclass(value):
            if inner := identity(value, by_path):
                values[entry.name] = inner
        elif entry.metadata.get("identity", True):
            values[entry.name] = _canonical(value, entry.type)
    return values


def flatten(config: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten a nested config to ``{"model": "mlp", "model.layers": 2}``: keys as typed."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, dict):
            flat |= {name if k == "name" else f"{name}.{k}": inner for k, inner in value.items()}
        else:
            flat[name] = value
    return flat


def _canonical(value: Any, declared: Any) -> Any:
    """Convert 1 and -0.0 to 1.0 and 0.0 for float keys, so that equal values give equal hashes."""
    is_real = is_number(value) and declared in (float, float | None)
    return value + 0.0 if is_real else value


def run_id(config: Config, by_path: bool = False) -> str:
    """Return ``<dataset>-<model>-<hash>``: equal for equal identities, on every machine.

    The hash is the first 40 bits of SHA-256 over the identity as JSON with sorted keys. JSON writes
    a float as its shortest exact decimal, so 1e-3 and 0.001 are the same value.
    """
    canonical = json.dumps(identity(config, by_path), sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    parts = file_name(config.dataset.name), file_name(config.model.name)
    return f"{'-'.join(parts)}-{digest[:10]}"


def file_name(option: str) -> str:
    """Return an option as part of a folder name: ``torchvision.models:Net`` as ``models.Net``."""
    module, is_named, attribute = option.partition(":")
    if not is_named:
        return option
    short = f"{module.rpartition('.')[2]}.{attribute}"
    return re.sub(r"[^\w.]", "_", short, flags=re.ASCII)[:80]
