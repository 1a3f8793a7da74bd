"""Hints for common mistakes in what is typed, appended to error messages."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from tinylab.config.groups import groups
from tinylab.config.keys import entries, words_of
from tinylab.config.values import did_you_mean, shown
from tinylab.errors import UserError


def option(group: str, value: str, known: Sequence[str]) -> str:
    """Suggest what ``group=value`` may mean, given the ``known`` options.

    A folder of images, an option's own word (``dataset=cifar10``, ``model=resnet50``), or a key
    (``augment=flip``).
    """
    if value.lower() in known:
        return did_you_mean(value, known)
    is_path = value and (re.search(r"[/\\~]", value) or Path(value).is_dir())
    if group == "dataset" and is_path:
        return f"; for a folder of images: dataset=folder dataset.root={value}"
    for entry in entries():
        if entry.name == f"{group}.{value}":
            return f" (did you mean {entry.name}=...?)"
        if entry.name.endswith(f".{group}") and value in words_of().get(entry.name, ()):
            return f" (did you mean {entry.name}={value}?)"
        if entry.name.startswith(f"{group}.") and entry.choice:
            words = {_plain(word): word for word in words_of().get(entry.name, ())}
            if _plain(value) in words:
                word = words[_plain(value)]
                return f" (did you mean {group}={entry.choice} {entry.name}={word}?)"
    if group == "model" and re.search(r"[a-z].*\d", value):
        return f"; for a torchvision network: model=torchvision model.arch={value}"
    return did_you_mean(value, known)


def _plain(word: str) -> str:
    return re.sub(r"[\W_]", "", word).lower()


def key(typed: str, siblings: list[str]) -> str:
    """Suggest the intended key: one of ``siblings``, a group, or one of another option."""
    group, _, last = typed.rpartition(".")
    names = {name.rpartition(".")[2]: name for name in siblings}
    others = {e.name.rpartition(".")[2]: e for e in entries() if e.name.startswith(f"{group}.")}
    words = {word: name for end, name in names.items() for word in end.split("_")} | names
    for end, name in names.items():
        if last == _initials(end) or end == _initials(last):  # learning_rate is lr
            return f" (did you mean '{name}'?)"
    if hint := did_you_mean(last, [*names, *others]) or did_you_mean(last, list(words)):
        near = hint.split("'")[1]
        if near in words:
            return f" (did you mean '{words[near]}'?)"
        return f" (did you mean {group}.{near}, which belongs to {group}={others[near].choice}?)"
    if last in groups():
        return f" (did you mean {last}=...?)"
    return ""


def _initials(words: str) -> str | None:
    """As in ``lr`` for ``learning_rate``; None for a single word."""
    return "".join(word[:1] for word in words.split("_")) if "_" in words else None


FUNCTION = r"(choice|range|interval|tag|glob|sort|shuffle|int|float)"  # of Hydra's sweeps
NUMBER = r"((?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
# As in scipy, ray and optuna, and with the words of mathematics.
SPANS = rf"{NUMBER}(?:\.\.\.?|-|:){NUMBER}|(?:\w*log\w*|\w*uniform|linspace)\({NUMBER}, *{NUMBER}\)"
WIDE = 10  # ratio of an interval's ends from which a log scale is suggested


def interval(name: str, typed: str) -> str:
    """Suggest the search over an interval that ``optim.lr=1e-4..1e-1`` or ``log(1e-4,1e-1)``
    means; empty if the value is none.
    """
    found = re.fullmatch(SPANS, typed)
    ends = list(filter(None, found.groups())) if found else []
    if not ends or not 0 <= float(ends[0]) < float(ends[1]):
        return ""
    text = f"interval({','.join(ends)})"
    is_wide = "(" not in typed and float(ends[1]) >= WIDE * float(ends[0])
    if float(ends[0]) > 0 and ("log" in typed or is_wide):
        text = f"tag(log,{text})"
    if any(entry.name == name and "int" in str(entry.field.type) for entry in entries()):
        text = f"int({text})"
    return f"to search an interval: -m sweep.search=tpe sweep.trials=20 '{name}={text}'"


def parentheses(name: str, typed: str) -> UserError | None:
    """Refuse a function of Hydra's sweeps whose parentheses are unbalanced, showing the right form;
    None if they are balanced.
    """
    missing = typed.count("(") - typed.count(")")
    if missing == 0 or not re.match(rf"{FUNCTION}\(.*[^(]$", typed):
        return None
    if missing > 0:
        words, right = "a closing parenthesis is missing", typed + ")" * missing
    else:
        words, right = "a closing parenthesis too many", typed.removesuffix(")" * -missing)
    return UserError(f"{name}={typed}: {words}; expected {shlex.quote(f'{name}={right}')}")


def value(name: str, typed: object, kind: type) -> str:
    """Suggest what a non-numeric value may mean: a range, an interval, or a percentage."""
    if kind is float and (search := interval(name, str(typed))):
        return f"; {search}"
    span = re.fullmatch(r"(\d+)(?:\.\.|-|:)(\d+)", str(typed))
    if span and kind is int:
        return f"; to try each: -m '{name}=range({span[1]},{int(span[2]) + 1})'"
    percent = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", str(typed))
    return f"; {typed} is {float(percent[1]) / 100:g}" if percent and kind is float else ""


def decimal_comma(name: str, typed: str) -> str:
    """Suggest what ``optim.lr=0,001`` may mean."""
    is_real = any(entry.name == name and "float" in str(entry.field.type) for entry in entries())
    if is_real and re.fullmatch(r"0,\d+", typed):
        return f"; or, with a decimal point: {name}={typed.replace(',', '.')}"
    return ""


def unparsed(name: str, typed: str, quoted: str) -> UserError:
    """Refuse ``name=typed``, which Hydra's grammar only accepts as ``quoted``."""
    line = f"{name}={typed}"
    if slip := _slip(name, typed):
        return UserError(f"{line}: {slip}")
    right = f"{name}={quoted}"
    # Between double quotes a shell keeps a backslash, except before itself, ", $ and `.
    is_plain = not re.search(r'["$`!]|\\\\', right)
    shown = f'"{right}"' if is_plain else shlex.quote(right)
    return UserError(f"{line}: this value needs its own quotes inside the shell's:\n  {shown}")


def _slip(name: str, typed: str) -> str:
    """Return what is wrong with ``name=typed``, if quotes are not the remedy."""
    if name != name.strip():
        return f"expected no spaces around =: {name.strip()}={typed.strip()}"
    if re.fullmatch(r"[\w.+-]+(,[\w.+-]+)*,", typed):
        return "ends with a comma; write the values of a sweep without spaces, as in -m seed=0,1,2"
    if re.fullmatch(r"=+[\w.+-]+", typed):
        return f"expected key=value (did you mean {name}={typed.lstrip('=')}?)"
    further = re.search(r"\s([\w./]+)=", typed)
    if further and further[1] in {*groups(), *(entry.name for entry in entries())}:
        return "expected one key=value per word: quote each on its own"
    if re.fullmatch(r"['\"][\w ./+-]*|[\w ./+-]*['\"]", typed):
        return "a quotation mark is missing: expected one at each end, or none"
    fields = [entry.field for entry in entries() if entry.name == name]
    if fields and not any("str" in str(each.type) for each in fields):
        example = f"{name}={shown(fields[0].default)}"
        search = interval(name, typed)
        return f"expected a plain number or word, such as {example}{f'; {search}' * bool(search)}"
    return ""
