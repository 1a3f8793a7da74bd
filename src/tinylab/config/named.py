"""Parts named by module, ``model=package.module:Class``, since they cannot be decorated.

Their signature is parsed from the source file that an import would find; nothing is executed.
"""

import ast
import contextlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tinylab.config import modules
from tinylab.config.signature import KINDS, Declaration, of_foreign, parameters
from tinylab.errors import UserError, did_you_mean
from tinylab.system.files import write_json
from tinylab.system.paths import cache_root

NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
PACKAGE = Path(__file__).parents[1]
# Parameters of a model that the data gives, by their usual names.
GIVEN = ("image_shape", "in_channels", "in_chans", "num_classes", "out_features")


def is_name(option: object) -> bool:
    """Return whether an option names a part by module, rather than a table entry."""
    return isinstance(option, str) and NAME.fullmatch(option) is not None


@dataclass(frozen=True)
class NamedPart:
    """A part named by module: its signature and location.

    ``file`` is the module's, ``defined_in`` that of the class or function. ``module`` is imported
    by name; it is empty if the file was named by ``code=``, which is executed directly.
    """

    declaration: Declaration
    file: Path
    defined_in: Path
    module: str


def find(
    group: str, option: str, files: Sequence[Path], num_given: int, taken: Sequence[str]
) -> NamedPart:
    """A named part, of one of the user's ``files``, of a module beside them, or of a library.

    ``num_given``: how many parameters a part of the group is given by position; a model by name.
    ``taken``: parameters that cannot be keys, and stay at their default. Raises UserError for a
    missing module or attribute, and for a signature that cannot be called.
    """
    name, _, attribute = option.partition(":")
    folders = list(dict.fromkeys(each for file in files for each in modules.roots(file)))
    own = next((file for file in files if _is_of(file, name)), None)
    file = own or modules.source(name, folders, last=True)
    if file is None:
        raise UserError(_missing(group, option, name, folders))
    if file.is_relative_to(PACKAGE):
        raise UserError(f"{group}={option}: built-in options are chosen by name, as in {group}=mlp")
    try:
        defined = modules.definitions(name, attribute, file, folders)
    except (SyntaxError, OSError, ValueError) as error:
        raise UserError(f"{group}={option}: {file}: cannot be read as Python: {error}") from error
    if not defined:
        hint = did_you_mean(attribute, modules.names(file))
        raise UserError(f"{group}={option}: no class or function {attribute}{hint} in\n  {file}")
    about = (ast.get_docstring(defined[0][0]) or "").partition("\n")[0]
    node, defined_in, _ = defined[-1]
    where = f"{defined_in}:{node.lineno}"
    is_class = isinstance(defined[0][0], ast.ClassDef)
    if is_class and group not in ("model", "optim"):
        num_given = 0  # an instance is called
    given = GIVEN if group == "model" else parameters(node)[:num_given]
    read, missing = of_foreign(node, group, option, given, (*taken, "section"), where)
    declaration = replace(read, attribute=attribute, about=about, is_class=is_class)
    if missing:
        kind = next(kind for kind, each in KINDS.items() if each == group)
        raise UserError(
            f"{group}={option}: {' and '.join(missing)} has no default and is not given by the "
            "data\n"
            f"  write a function decorated by @tinylab.{kind} that calls it with a value"
        )
    by_name = own is None or modules.is_library(file)
    return NamedPart(declaration, file, defined_in, name if by_name else "")


def _is_of(file: Path, module: str) -> bool:
    """Return whether a file can be that of a module, by its name and folders."""
    parts = file.with_suffix("").parts
    parts = parts[:-1] if file.name == "__init__.py" else parts
    wanted = tuple(module.split("."))
    return parts[-len(wanted) :] == wanted


def _missing(group: str, option: str, module: str, folders: Sequence[Path]) -> str:
    package, _, _ = module.rpartition(".")
    top = module.partition(".")[0]
    if package and modules.source(package, folders) is not None:
        hint = did_you_mean(module, modules.submodules(package, folders))
        return f"{group}={option}: no module {module}{hint}; expected package.module:Class"
    here = Path(f"{top}.py")
    remedy = f"add code={here}" if here.is_file() else f"install {top}, or pass its file by code="
    return (
        f"{group}={option}: no module {module}, neither installed nor next to a file of "
        f"code=\n  {remedy}"
    )


def given(group: str, values: dict[str, Any]) -> dict[str, Any]:
    """Return what the data provides, under all usual names."""
    if group != "model":
        return values
    channels, classes = values["image_shape"][0], values["num_classes"]
    more = {"in_channels": channels, "in_chans": channels, "out_features": classes}
    return values | more


# ---------------------------------------------------------------- trained here
#
# A run may come from anyone, and a library function may do anything with the values in the run's
# config. So library code named by a run is executed only if it was trained with here.


def keep(options: Iterable[str]) -> None:
    """Record in the cache that these parts were trained with on this machine."""
    known = _known()
    if new := sorted({*options}.difference(known)):
        with contextlib.suppress(UserError):
            write_json(_file(), [*known, *new])


def require_known(options: Iterable[str], files: Sequence[Path], folder: Path) -> None:
    """Raise UserError if a run uses library code that was never trained with here.

    Naming its module by ``code=`` is consent too: ``files`` are the user's.
    """
    for option in options:
        module = option.partition(":")[0]
        if option not in _known() and not any(_is_of(file, module) for file in files):
            raise UserError(
                f"{folder}: {option} was never trained on this machine\n"
                f"  to allow its execution with this run's config, add code={module}"
            )


def _known() -> list[str]:
    with contextlib.suppress(OSError, ValueError):
        known = json.loads(_file().read_text(encoding="utf-8"))
        if isinstance(known, list):
            return [str(each) for each in known]
    return []


def _file() -> Path:
    return cache_root() / "named.json"
