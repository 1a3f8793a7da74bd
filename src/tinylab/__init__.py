"""tinylab: a laboratory for small-image experiments."""

import importlib
from typing import Any

__version__ = "0.1.0"
# What ``import tinylab`` offers -> where it is; imported when it is asked for (PEP 562).
API = {
    "model": "tinylab.config.options:model",
    "option": "tinylab.config.values:option",
}


def __getattr__(name: str) -> Any:
    if name not in API:
        raise AttributeError(f"module 'tinylab' has no attribute '{name}'")
    module, _, attribute = API[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *API})
