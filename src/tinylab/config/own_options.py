"""The options that a user's own file declares, checked before they are registered."""

import dataclasses
import re
from dataclasses import replace
from pathlib import Path

from tinylab.config import metrics, signature
from tinylab.config.option import FOLDERS, GIVEN
from tinylab.config.signature import Declaration
from tinylab.errors import UserError

# Names of keys that user code cannot have, since built-in options use them.
TAKEN = {"dataset": ("name", "normalize", "content")}


def declared_in(file: Path) -> list[Declaration]:
    """Return what a user's file declares, checked. Raises UserError."""
    try:
        compile(file.read_bytes(), file, "exec", dont_inherit=True)
        declarations = signature.read(file)
    except SyntaxError as error:
        raise UserError(f"{file}:{error.lineno}: {error.msg}") from error
    except (OSError, ValueError) as error:
        raise UserError(f"code={file}: cannot be read as Python: {error}") from error
    for each in declarations:
        refuse = _refuse_unfit_metric if each.group == "metric" else _refuse_unfit
        refuse(each, f"{file}: {each.attribute}")
    return [
        # Images keep their size.
        replace(each, common={"image_size": None, **each.common})
        if each.group == "dataset"
        else each
        for each in declarations
    ]


def _refuse_unfit(own: Declaration, where: str) -> None:
    if not re.fullmatch(r"[A-Za-z_][\w-]*", own.name):
        raise UserError(
            f"{where}: name={own.name!r}: expected letters, digits, - and _, starting with a letter"
        )
    names = [key.name for key in own.keys]
    common = [entry.name for entry in dataclasses.fields(FOLDERS[own.group][1])]
    for name in names:
        if name in taken(own.group):
            raise UserError(
                f"{where}: {name}: expected another name for this parameter: {own.group}.{name} is "
                "a built-in key"
            )
    if unknown := [name for name in own.common if name not in common]:
        raise UserError(f"{where}: {unknown[0]}: expected one of {', '.join(common)}")
    if own.group == "dataset" and any(key.is_place for key in own.keys):
        raise UserError(
            f"{where}: is_place: not allowed, since the location of own data counts; leave it out"
        )
    _refuse_ungiven(own, [each for each in own.takes if each not in names], common, where)


def taken(group: str) -> tuple[str, ...]:
    """Return the names of keys that a user's part cannot have, since tinylab uses them."""
    if group == "augment":
        return ("name", *(entry.name for entry in dataclasses.fields(FOLDERS[group][1])))
    return TAKEN.get(group, ("name",))


def _refuse_ungiven(own: Declaration, without: list[str], common: list[str], where: str) -> None:
    """Raise UserError if the parameters without defaults are not those that tinylab provides."""
    is_instance_called = own.is_class and own.group not in ("model", "optim")
    given = () if is_instance_called else GIVEN[own.group]
    if own.group == "model":
        surplus = [each for each in without if each not in given]
    else:
        surplus = [each for each in without[len(given) :] if each not in common]
    if surplus:
        raise UserError(
            f"{where}: {surplus[0]}: expected a default, such as {surplus[0]}: int = 1\n"
            f"  (only {' and '.join(given) or 'none'}, which tinylab provides, may have none)"
        )
    if own.group != "model" and not own.is_class and len(without) < len(given):
        raise UserError(
            f"{where}({', '.join(own.takes)}): expected {' and '.join(given)} as the first "
            "parameters, without defaults"
        )


def _refuse_unfit_metric(own: Declaration, where: str) -> None:
    better = own.common.get("better")
    if better not in ("higher", "lower"):
        given = "" if better is None else f"better={better!r}: "
        raise UserError(
            f'{where}: {given}expected @tinylab.metric(better="higher"), or better="lower"'
        )
    if not re.fullmatch(r"[A-Za-z_]\w*", own.name) or own.name in metrics.TAKEN:
        raise UserError(
            f"{where}: name={own.name!r}: expected letters, digits and _, starting with a letter, "
            "and none of the built-in metrics"
        )
    if len(own.takes) != 2:
        raise UserError(
            f"{where}({', '.join(own.takes)}): expected a function of (labels, probabilities)\n"
            "  further parameters need defaults"
        )
