"""What the schema says of a config key: its help, its default, whether it changes results."""

import dataclasses
from collections.abc import Iterator
from functools import cache
from typing import Any

from tinylab.config.schema import Config

SPLIT_SEEDS = ("split.seed", "split.fold")
SEEDS = (*SPLIT_SEEDS, "seed")  # what is repeated, and no setting


@cache
def without_effect() -> frozenset[str]:
    """The keys that cannot change a result, such as ``outputs``."""
    return frozenset(
        key for key, _, entry in _entries() if not entry.metadata.get("identity", True)
    )


@cache
def defaults() -> dict[tuple[str, str], Any]:
    """(key, choice) -> default: ``("optim.lr", "sgd")`` -> 0.1. The choice may be empty."""
    return {(key, choice): entry.default for key, choice, entry in _entries()}


@cache
def helps() -> dict[str, str]:
    """Key -> what it is, in the words of the schema."""
    return {key: entry.metadata.get("help", "") for key, _, entry in _entries()}


def _entries() -> Iterator[tuple[str, str, dataclasses.Field[Any]]]:
    """Every key, for every choice of its group (``optim.lr`` for adam, adamw, sgd)."""
    for section in dataclasses.fields(Config):
        if not dataclasses.is_dataclass(section.type):
            yield section.name, "", section
            continue
        for record in with_subclasses(section.type):  # type: ignore[arg-type]
            for entry in dataclasses.fields(record):
                key = section.name if entry.name == "name" else f"{section.name}.{entry.name}"
                yield key, getattr(record, "name", ""), entry


def with_subclasses(record: type[Any]) -> Iterator[type[Any]]:
    """A record of the schema, and all that are made from it."""
    yield record
    for each in record.__subclasses__():
        yield from with_subclasses(each)
