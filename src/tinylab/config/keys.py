"""What the schema says about each config key: type, help, default, part of the identity or not."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tinylab.config.option import FOLDERS
from tinylab.config.options import kept, options
from tinylab.config.schema import Config

SPLIT_SEEDS = ("split.seed", "split.fold")
SEEDS = (*SPLIT_SEEDS, "seed")  # what is repeated within a setting
REPEATED = dict(zip(SEEDS, ("splits", "folds", "seeds"), strict=True))


@dataclass(frozen=True)
class Entry:
    """A key as typed; ``choice`` is the option that has it, empty if all configs have it."""

    name: str
    choice: str
    field: dataclasses.Field[Any]


@kept
def entries() -> tuple[Entry, ...]:
    """Return every key, for every option of its group (``optim.lr`` for adam, adamw, muon, sgd)."""
    return tuple(_entries())


def _entries() -> Iterator[Entry]:
    for section in dataclasses.fields(Config):
        if section.name in FOLDERS:
            records = {name: each.record for name, each in options(section.name).items()}
        elif dataclasses.is_dataclass(section.type):
            records = {"": section.type}  # type: ignore[dict-item]
        else:
            yield Entry(section.name, "", section)
            continue
        for choice, record in records.items():
            # Keys with a neutral default, which few need, come last.
            fields = dataclasses.fields(record)
            for field in sorted(fields, key=lambda each: bool(each.metadata.get("neutral"))):
                is_choice = section.name in FOLDERS and field.name == "name"
                name = section.name if is_choice else f"{section.name}.{field.name}"
                yield Entry(name, choice, field)


@kept
def without_effect() -> frozenset[str]:
    """Return the keys that cannot change a result, such as ``outputs``."""
    return frozenset(e.name for e in entries() if not e.field.metadata.get("identity", True))


@kept
def defaults() -> dict[tuple[str, str], Any]:
    """Return (key, choice) -> default: ``("optim.lr", "sgd")`` -> 0.1. The choice may be empty."""
    return {(entry.name, entry.choice): _default(entry.field) for entry in entries()}


def _default(field: dataclasses.Field[Any]) -> Any:
    stands_for = field.metadata.get("stands_for")
    return field.default if stands_for is None else stands_for


def completed(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a run by key; keys newer than the run have their neutral value."""
    neutral = _neutral()
    chosen = {key: value for (key, _), value in neutral.items() if key in FOLDERS} | dict(flat)
    newer = {
        key: value
        for (key, choice), value in neutral.items()
        if key not in chosen and choice in ("", chosen.get(key.partition(".")[0]))
    }
    return {**chosen, **newer}


@kept
def _neutral() -> dict[tuple[str, str], Any]:
    neutral = [entry for entry in entries() if entry.field.metadata.get("neutral")]
    return {(entry.name, entry.choice): entry.field.default for entry in neutral}


def unit(varied: Iterable[str]) -> str:
    """Return what differs between runs that differ in these keys: ``splits and seeds``."""
    keys = dict.fromkeys(varied)
    seeds = [words for key, words in REPEATED.items() if key in keys]
    return " and ".join([*seeds, *(key for key in keys if key not in REPEATED)]) or "runs"


@kept
def _helps() -> dict[tuple[str, str], str]:
    return {(e.name, e.choice): e.field.metadata.get("help", "") for e in entries()}


def help_of(key: str, configs: Iterable[Mapping[str, Any]]) -> str:
    """Return the description of a key by the options that the configs chose; empty if unknown.

    ``model.hidden`` of the baseline is another thing than that of an MLP.
    """
    group = key.partition(".")[0]
    chosen = [str(config.get(group, "")) for config in configs if key in config]
    known = _helps()
    texts = [known.get((key, choice)) or known.get((key, "")) for choice in chosen]
    return "; ".join(dict.fromkeys(filter(None, texts)))


@kept
def words_of() -> dict[str, Sequence[str]]:
    """Return key -> allowed words, if it is limited to some."""
    checks = {entry.name: entry.field.metadata.get("check") for entry in entries()}
    return {name: check.one_of for name, check in checks.items() if check and check.one_of}
