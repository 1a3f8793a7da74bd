"""tinylab: reproducible experiments on small images.

The Python API is ``tinylab.train("model=mlp", seed=1)`` and the other names in ``PUBLIC``, which
are imported lazily.
"""

__version__ = "0.1.0"

PUBLIC = {
    "UserError": "tinylab.errors:UserError",
    "augmentation": "tinylab.config.decorators:augmentation",
    "compare": "tinylab.api.functions:compare",
    "compose": "tinylab.api.functions:compose",
    "dataset": "tinylab.config.decorators:dataset",
    "load": "tinylab.api.functions:load",
    "loss": "tinylab.config.decorators:loss",
    "metric": "tinylab.config.decorators:metric",
    "model": "tinylab.config.decorators:model",
    "optimizer": "tinylab.config.decorators:optimizer",
    "option": "tinylab.config.values:option",
    "report": "tinylab.api.functions:report",
    "runs": "tinylab.api.functions:runs",
    "schedule": "tinylab.config.decorators:schedule",
    "sweep": "tinylab.api.functions:sweep",
    "train": "tinylab.api.functions:train",
}  # name -> "module:attribute"
__all__ = list(PUBLIC)


def __getattr__(name: str) -> object:
    """Import a public name on first access (PEP 562)."""
    if name not in PUBLIC:
        raise AttributeError(f"module 'tinylab' has no attribute {name!r}")
    from importlib import import_module

    module, _, attribute = PUBLIC[name].partition(":")
    value = globals()[name] = getattr(import_module(module), attribute)
    return value


def __dir__() -> list[str]:
    """List the public names too, for tab completion."""
    return sorted({*globals(), *PUBLIC})
