"""Metrics of the user's own: what is recorded of their code, and when an edit of it counts.

A metric's values are looked at, and decide nothing, so an edit outdates no run. It does where the
metric chooses: as ``train.monitor`` the epoch that is tested, as ``sweep.metric`` the best run.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from tinylab.config import code, options
from tinylab.config.metrics import is_own
from tinylab.config.option import Option
from tinylab.errors import UserError

Recorded = Mapping[str, Mapping[str, str]]  # name -> better, and sha256 of its code


def recorded() -> dict[str, dict[str, str]]:
    """What a result records of the metrics that the user's files declare."""
    return {name: {"better": option.declaration.common["better"], "sha256": _digest(option)}
            for name, option in options.options("metric").items()}  # fmt: skip


def changed(then: Recorded, config: Any) -> str | None:
    """Which metric chooses in a config and is not that of a result any more, in words; or None."""
    chosen = _choosing(config)
    now = recorded() if chosen else {}
    for name in chosen:
        if name not in then:
            return f"metric {name} was not computed"
        if name in now and now[name]["sha256"] != then[name].get("sha256"):
            return f"metric {name} has changed since"
    return None


def notes(then: Recorded) -> Iterator[str]:
    """What there is to say of today's metrics and a finished run's values."""
    for name, each in recorded().items():
        if name not in then:
            yield f"metric {name}: not computed in this run; fresh=true trains it again, with it"
        elif each["sha256"] != then[name].get("sha256"):
            yield f"metric {name}: edited since; its values are those of the code of then"


def refuse_undeclared(config: Any) -> None:
    """Raise UserError where a metric is to choose that no file of the user's declares."""
    for name in _choosing(config):
        if name not in options.options("metric"):
            raise UserError(
                f"{name}: no file of yours declares this metric\n  name the one that does: "
                "code=FILE"
            )


def _choosing(config: Any) -> list[str]:
    """The user's own metrics that a config chooses by."""
    named = (config.train.monitor, config.sweep.metric.removeprefix("val_"))
    return [name for name in dict.fromkeys(named) if is_own(name)]


def _digest(option: Option) -> str:
    """Of the function, and of all else in its file and in the modules beside it."""
    files = code.with_own_modules([option.file])
    own = code.facts(option.file).metrics.get(option.declaration.attribute, "")
    return code.joined(own, code.own_digest(files))
