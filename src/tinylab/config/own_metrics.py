"""The user's own metrics: what is recorded of their code, and when an edit matters.

A metric only describes, so editing it does not outdate runs, unless it selects: as
``train.monitor`` the tested epoch, as ``sweep.metric`` the best run.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from tinylab.config import code, options
from tinylab.config.metrics import is_own
from tinylab.config.option import Option
from tinylab.errors import UserError

Recorded = Mapping[str, Mapping[str, str]]  # name -> better, and sha256 of its code


def recorded() -> dict[str, dict[str, str]]:
    """Return what a result records about the metrics that the user's files declare."""
    return {name: {"better": option.declaration.common["better"], "sha256": _digest(option)}
            for name, option in options.options("metric").items()}  # fmt: skip


def changed(then: Recorded, config: Any) -> str | None:
    """Return which selecting metric has changed since a result, in words; or None."""
    chosen = _choosing(config)
    now = recorded() if chosen else {}
    for name in chosen:
        if name not in then:
            return f"metric {name} was not computed"
        if name in now and now[name]["sha256"] != then[name].get("sha256"):
            return f"metric {name} has changed since"
    return None


def notes(then: Recorded) -> Iterator[str]:
    """Return notes on the current metrics and the values of a finished run."""
    for name, each in recorded().items():
        if name not in then:
            yield f"metric {name}: not computed in this run; re-run it with fresh=true"
        elif each["sha256"] != then[name].get("sha256"):
            yield f"metric {name}: edited since; its values come from the earlier code"


def refuse_undeclared(config: Any) -> None:
    """Raise UserError if a selecting metric is not declared by any of the user's files."""
    for name in _choosing(config):
        if name not in options.options("metric"):
            raise UserError(
                f"{name}: none of your files declares this metric\n  pass the one that does: "
                "code=FILE"
            )


def _choosing(config: Any) -> list[str]:
    """Return the user's own metrics that a config selects by."""
    named = (config.train.monitor, config.sweep.metric.removeprefix("val_"))
    return [name for name in dict.fromkeys(named) if is_own(name)]


def _digest(option: Option) -> str:
    """Hash the function, and everything else in its file and in the modules next to it."""
    files = code.with_own_modules([option.file])
    own = code.facts(option.file).metrics.get(option.declaration.attribute, "")
    return code.joined(own, code.own_digest(files))
