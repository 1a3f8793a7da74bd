"""An option of a config group: the record of its keys, and the function or class that builds it."""

import dataclasses
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from tinylab.config import base_records, modules, named, user_code
from tinylab.config.signature import Declaration, Key

PACKAGE = Path(__file__).parents[1]
# Config group -> the package whose modules declare its built-in options, and their common keys.
# Without a package there is one built-in option, the record of the common keys itself.
FOLDERS: dict[str, tuple[str, type]] = {
    "dataset": ("data", base_records.DatasetConfig),
    "model": ("models", base_records.ModelKeys),
    "optim": ("training/optimizers", base_records.OptimConfig),
    "schedule": ("", base_records.ScheduleConfig),
    "augment": ("", base_records.AugmentConfig),
    "loss": ("", base_records.LossConfig),
}
# Config group -> what user code is given besides its keys: a model by parameter name, the others in
# this order. For a class, an instance is called with it; an optimizer's class itself is called with
# it.
GIVEN = {
    "model": ("image_shape", "num_classes"), "dataset": (), "optim": ("params",),
    "schedule": ("step", "steps"), "augment": ("images", "generator"),
    "loss": ("logits", "targets"),
}  # fmt: skip
# Config group -> the module that wraps what user code returns.
OWN = {"dataset": "tinylab.data.own"}


@dataclass(frozen=True)
class Option:
    """An entry of the table."""

    group: str
    name: str
    file: Path
    module: str
    declaration: Declaration
    defined_in: Path | None = None  # of a part named by module

    @property
    def is_plain(self) -> bool:
        """Whether it is the built-in option that needs no code of its own."""
        return not FOLDERS[self.group][0] and self.is_builtin

    @property
    def about(self) -> str:
        """The first line of its docstring."""
        return self.declaration.about

    @cached_property
    def record(self) -> type:
        """The typed record of its keys, for Hydra and for ``Config``."""
        base = FOLDERS[self.group][1]
        if self.is_plain:
            return base
        common = {e.name: e for e in dataclasses.fields(base) if self.shares(e.name)}
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
    def is_builtin(self) -> bool:
        """Whether it is built-in, not from a user's file or another library."""
        return self.file.is_relative_to(PACKAGE)

    def shares(self, name: str) -> bool:
        """Return whether a key is the group's common key in this option.

        A user's own model may have a parameter of that name, which then replaces the key.
        """
        is_own = not self.is_builtin and self.group == "model" and name in self.declaration.takes
        return not is_own

    def shared(self, record: Any, name: str) -> Any:
        """Return the value of a common key of the group; its default if this option lacks it."""
        holder = record if self.shares(name) else FOLDERS[self.group][1]
        return getattr(holder, name)

    @property
    def maker(self) -> Path | None:
        """Return tinylab's module that wraps what user code returns, if any."""
        if self.is_builtin or self.group not in OWN:
            return None
        return PACKAGE.joinpath(*OWN[self.group].split(".")[1:]).with_suffix(".py")

    @property
    def is_of_library(self) -> bool:
        """Whether it is named by module in an installed library, identified by its version."""
        return self.defined_in is not None and modules.is_library(self.file)

    @property
    def is_of_file(self) -> bool:
        """Whether it is from a user's file."""
        return not self.is_builtin and not self.is_of_library

    @property
    def is_users_own(self) -> bool:
        """Whether a dataset is at a location given by the user, without fixed name and content."""
        return any(key.is_place and key.name in self.required for key in self.declaration.keys)

    @property
    def required(self) -> tuple[str, ...]:
        """The keys that must be given."""
        keys = self.declaration.keys
        return tuple(key.name for key in keys if key.check is not None and key.check.required)

    def location(self, record: Any) -> str | None:
        """Return the location of a record's data as typed; None if not given."""
        values = [getattr(record, key.name) for key in self.declaration.keys if key.is_place]
        return next((str(value) for value in values if value is not None), None)

    def load(self) -> Any:
        """Return the function or class. Raises UserError if a user's file cannot be imported."""
        if self.is_builtin:
            module = importlib.import_module(self.module)
        else:
            from tinylab.config import code, options

            files = code.with_own_modules([self.file]) if self.is_of_file else []
            folders = [each for file in options.users_files() for each in modules.roots(file)]
            user_code.watch(self.defined_in or self.file)
            module = (
                user_code.load_module(self.module, folders, files, code.content(files))
                if self.module
                else user_code.load(self.file, files, code.content(files))
            )
        return getattr(module, self.declaration.attribute)

    def make(self, record: Any, *given: Any) -> Any:
        """Call it with what is given, and with the values of a record."""
        taken = self.declaration.takes
        if self.group == "model" and not self.is_builtin:  # in any order, not necessarily all
            by_name = dict(zip(GIVEN[self.group], given, strict=True))
            if self.defined_in is not None:
                by_name = named.given(self.group, by_name)
            values = {key: by_name[key] if key in by_name else getattr(record, key)
                      for key in taken}  # fmt: skip
            further = {key: getattr(record, key, None) for key in self.declaration.further}
            more = {key: value for key, value in further.items() if value is not None}
            return self.load()(**values, **more)
        return self.load()(*given, **{key: getattr(record, key) for key in taken[len(given) :]})

    def function(self, record: Any) -> Callable[..., Any]:
        """Return the callable for what is given: itself with its keys, or a class's instance."""
        made, keys = self.load(), [key.name for key in self.declaration.keys]
        values = {key: getattr(record, key) for key in keys}
        return made(**values) if self.declaration.is_class else partial(made, **values)

    def for_trained(self, record: Any) -> Any:
        """Return a record without the keys that only affect initial weights."""
        entries = [each for each in dataclasses.fields(record) if each.metadata.get("initial")]
        return dataclasses.replace(record, **{each.name: each.default for each in entries})

    def companion(self, name: str) -> Any:
        """Return another function of a built-in option's module; None if there is none of this
        name.
        """
        module = importlib.import_module(self.module) if self.is_builtin else None
        return getattr(module, name, None)


def _field(key: Key, common: Any) -> tuple[str, Any, Any]:
    """Return a field of a record; for a common key, the group's help and check are the default."""
    metadata = {
        "help": key.help, "identity": key.identity and not key.is_place, "check": key.check,
        "neutral": key.neutral, "is_place": key.is_place, "initial": key.initial,
        "normalize": key.normalize,
    }  # fmt: skip
    declared = key.declared
    if common is not None:
        if common.type != declared | None:  # an option may refuse null where others accept it
            declared = common.type
        metadata["help"] = key.help or common.metadata["help"]
        metadata["counted_by"] = common.metadata["counted_by"]
        metadata["stands_for"] = common.metadata["stands_for"]
        if key.check is None or not key.help:
            metadata["check"] = common.metadata["check"]
    return key.name, declared, dataclasses.field(default=key.default, metadata=metadata)
