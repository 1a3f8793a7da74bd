"""The one table of options: what can be chosen as dataset, model and optimizer.

An option is a record of typed keys, and a function or class that makes the part. Built-in options
are declared where they are written, in the modules below ``FOLDERS``; Hydra's schema, help,
completion, docs, doctor, the image cache, predict and a run's identity all read this table.
"""

import dataclasses
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, TypeVar, overload

from tinylab.config import schema, signature
from tinylab.config.signature import Declaration, Key
from tinylab.config.values import did_you_mean
from tinylab.errors import UserError

C = TypeVar("C", bound=Callable[..., Any])
PACKAGE = Path(__file__).parents[1]
# Config group -> the folder whose modules declare its built-in options, and their common keys.
FOLDERS: dict[str, tuple[str, type]] = {
    "dataset": ("data", schema.DatasetConfig),
    "model": ("models", schema.ModelConfig),
    "optim": ("training/optimizers", schema.OptimConfig),
}
# Keys that say which dataset it is, where one option reads several.
WHICH_DATA = ("name", "set", "split")


@overload
def model(cls: C, /) -> C: ...
@overload
def model(**common: Any) -> Callable[[C], C]: ...
def model(cls: C | None = None, /, **common: Any) -> C | Callable[[C], C]:
    """Mark a network: called with ``image_shape`` (C, H, W), ``num_classes`` and its keys."""
    return _marked(cls)


@overload
def dataset(cls: C, /) -> C: ...
@overload
def dataset(**common: Any) -> Callable[[C], C]: ...
def dataset(cls: C | None = None, /, **common: Any) -> C | Callable[[C], C]:
    """Mark a dataset: called with its keys; see ``tinylab.data.Dataset`` for what it gives."""
    return _marked(cls)


@overload
def optimizer(cls: C, /) -> C: ...
@overload
def optimizer(**common: Any) -> Callable[[C], C]: ...
def optimizer(cls: C | None = None, /, **common: Any) -> C | Callable[[C], C]:
    """Mark an optimizer: called with parameter groups and its keys.

    ``common`` are its defaults of keys that every optimizer has, such as ``schedule``.
    """
    return _marked(cls)


def _marked(cls: C | None) -> C | Callable[[C], C]:
    return (lambda each: each) if cls is None else cls


@dataclass(frozen=True)
class Option:
    """One row of the table."""

    group: str
    name: str
    file: Path
    module: str
    declaration: Declaration

    @property
    def about(self) -> str:
        """The first line of its docstring."""
        return self.declaration.about

    @cached_property
    def record(self) -> type:
        """The typed record of its keys, for Hydra and for ``Config``."""
        base = FOLDERS[self.group][1]
        common = {entry.name: entry for entry in dataclasses.fields(base)}
        own = {key.name: key for key in self.declaration.keys}
        for name, value in self.declaration.common.items():
            own.setdefault(name, Key(name, common[name].type, value))
        fields = [_field(key, common.get(key.name)) for key in own.values()]
        name_field = ("name", str, dataclasses.field(default=self.name, metadata={"help": ""}))
        made = dataclasses.make_dataclass(
            f"{self.declaration.attribute}Config", [name_field, *fields], bases=(base,)
        )
        made.__doc__, made.__module__ = self.about, __name__
        return made

    @property
    def is_users_own(self) -> bool:
        """Whether a dataset is wherever the user says, and no data of one name and content."""
        return any(key.is_place and key.name in self.required for key in self.declaration.keys)

    @property
    def required(self) -> tuple[str, ...]:
        """The keys that must be given."""
        keys = self.declaration.keys
        return tuple(key.name for key in keys if key.check is not None and key.check.required)

    def place(self, record: Any) -> str | None:
        """Where the data of a record lies, as it was typed; None where that is not said."""
        places = [getattr(record, key.name) for key in self.declaration.keys if key.is_place]
        return next((str(place) for place in places if place is not None), None)

    def load(self) -> Any:
        """The function or class itself."""
        return getattr(importlib.import_module(self.module), self.declaration.attribute)

    def make(self, record: Any, *given: Any) -> Any:
        """Call it with what the data gives, and with the values of a record."""
        taken = self.declaration.takes[len(given) :]
        return self.load()(*given, **{key: getattr(record, key) for key in taken})

    def for_trained(self, record: Any) -> Any:
        """A record without what decides initial weights alone."""
        initial = {key.name: key.default for key in self.declaration.keys if key.initial}
        return dataclasses.replace(record, **initial)


def _field(key: Key, common: Any) -> tuple[str, Any, Any]:
    """A field of a record; where it is a common key, that one's help and check are the default."""
    metadata = {
        "help": key.help, "identity": key.identity and not key.is_place, "check": key.check,
        "neutral": key.neutral, "is_place": key.is_place,
    }  # fmt: skip
    declared = key.declared
    if common is not None:
        if common.type != declared | None:  # an option may refuse null where others take it
            declared = common.type
        metadata["help"] = key.help or common.metadata["help"]
        if key.check is None or not key.help:
            metadata["check"] = common.metadata["check"]
    return key.name, declared, dataclasses.field(default=key.default, metadata=metadata)


@cache
def options(group: str) -> dict[str, Option]:
    """The options of a config group by name, in alphabetical order."""
    folder = FOLDERS[group][0]
    files = sorted((PACKAGE / folder).glob("*.py"))
    read = [(file, each) for file in files for each in signature.read(file)]
    declared = [each for _, each in read]
    found = {
        each.name: Option(
            group,
            each.name,
            file,
            f"tinylab.{folder.replace('/', '.')}.{file.stem}",
            signature.inherited(each, declared),
        )
        for file, each in read
        if each.group == group
    }
    return dict(sorted(found.items()))


def which_data(record: Any) -> tuple[Any, ...]:
    """What tells a dataset that is the same for everyone from the others, however prepared."""
    return tuple(getattr(record, key, None) for key in WHICH_DATA)


def of(record: Any) -> Option:
    """The option that a record belongs to."""
    return options(record.section)[record.name]


def record(group: str, name: str, **values: Any) -> Any:
    """The record of an option with some values set. Raises UserError for an unknown name."""
    known = options(group)
    if name not in known:
        hint = did_you_mean(name, list(known))
        raise UserError(f"{group}={name}: no such option{hint}; there are {', '.join(known)}")
    return known[name].record(**values)


def restored(group: str, values: dict[str, Any]) -> Any:
    """A pickled or copied record again."""
    made: Any = object.__new__(options(group)[values["name"]].record)
    made.__dict__.update(values)
    return made
