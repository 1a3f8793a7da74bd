"""tinylab: a laboratory for small-image experiments.

From Python: ``tinylab.train("model=mlp", seed=1)`` and what else ``PUBLIC`` lists. Nothing of it is
imported before it is asked for.
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
    """Import a public name when it is first asked for (PEP 562)."""
    if name not in PUBLIC:
        raise AttributeError(f"module 'tinylab' has no attribute {name!r}")
    from importlib import import_module

    module, _, attribute = PUBLIC[name].partition(":")
    value = globals()[name] = getattr(import_module(module), attribute)
    return value


def __dir__() -> list[str]:
    """The public names too, so that the TAB key completes them."""
    return sorted({*globals(), *PUBLIC})
