"""Checks what is typed after a command against the schema, before Hydra composes it.

Hydra parses each override; whether the group, option or key exists, and whether a value has the
key's type, is checked here, with messages that name the remedy.
"""

import re
import shlex
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, RangeSweep, Sweep
from hydra.errors import HydraException

from tinylab.config import slips, user_code
from tinylab.config.folders import base, config_folders, file_of, overridden
from tinylab.config.groups import choices, groups
from tinylab.config.keys import Entry, entries
from tinylab.config.option import FOLDERS
from tinylab.config.options import named_files, options, use
from tinylab.config.unknown import no_such
from tinylab.config.values import did_you_mean, is_nullable, shown
from tinylab.errors import UserError

# Hydra's own flags, long and short; those of the second set take a value.
FLAGS = {
    "--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r", "--multirun", "-m",
}  # fmt: skip
VALUE_FLAGS = {
    "--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn",
    "--config-dir", "-cd", "--info", "-i", "--experimental-rerun",
}  # fmt: skip
MULTIRUN = ("-m", "--multirun")
SHOWING = ("--cfg", "-c", "--info", "-i")  # show, and train nothing
WORDS_OF = {
    **dict.fromkeys(("--cfg", "-c"), ("job", "hydra", "all")),
    **dict.fromkeys(
        ("--info", "-i"), ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
    ),
}
IN_SHELL, IN_PYTHON = "-m {}", "tinylab.sweep({})"  # example override for each kind of list
# The lists and dicts that keys take -> what is expected of a key.
ITEMS = {
    list[list[str]]: "lists of swept keys, such as {}=[[model.hidden,optim.lr]]",
    list[dict[str, Any]]: "a list, such as '{}=[{{model.hidden: 64, optim.lr: 0.1}}]'",
    dict[str, str]: "a YAML file of conf/sweep with {}, or the keys themselves, as in -m "
    "optim.lr=0.01,0.1",
}
TRUTH = {"true", "false", "yes", "no", "on", "off", "y", "n", "1", "0"}  # OmegaConf's booleans
RESERVED = {"null", "true", "false", "inf", "nan"}  # words of the grammar that are not strings
WORDS = {int: "an integer", float: "a number", bool: "true or false", str: "a string"}


def divided(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split flags with their values from overrides: Hydra only accepts flags first.

    Raises UserError for an unknown flag.
    """
    flags: list[str] = []
    others: list[str] = []
    waiting = list(arguments)
    while waiting:
        word = waiting.pop(0)
        (flags if word.startswith("-") else others).append(word)
        if word.startswith("-"):
            _refuse_unknown_flag(word.partition("=")[0])
            _refuse_unknown_word(*word.split("=", 1))
        if word in VALUE_FLAGS:
            flags.append(_value_of(word, waiting))
            _refuse_unknown_word(word, flags[-1])
    return flags, others


def _refuse_unknown_word(flag: str, value: str = "") -> None:
    known = WORDS_OF.get(flag)
    if flag in FLAGS and value:
        raise UserError(f"{flag}={value}: expected {flag} alone, which takes no value")
    if known is not None and value and value not in known:
        hint = did_you_mean(value, known)
        raise UserError(f"{flag} {value}: expected one of {', '.join(known)}{hint}")


def _value_of(flag: str, waiting: list[str]) -> str:
    """Take the value of a flag from the remaining words. Raises UserError if there is none."""
    if flag in ("--info", "-i") and (not waiting or "=" in waiting[0]):
        return "all"  # as Hydra has it
    if not waiting or "=" in waiting[0]:
        example = {"--cfg": "job", "-c": "job", "--config-dir": "FOLDER", "-cd": "FOLDER"}
        raise UserError(f"{flag}: expected a value, as in {flag} {example.get(flag, 'VALUE')}")
    return waiting.pop(0)


def _refuse_unknown_flag(flag: str) -> None:
    known = sorted(FLAGS | VALUE_FLAGS)
    if flag in ("--shell-completion", "-sc"):
        raise UserError(
            f"{flag}: Hydra's completion does not know tinylab's commands; see tinylab completion"
        )
    if flag not in known:
        raise UserError(
            f"{flag}: no such flag{did_you_mean(flag, known)}; config keys have no "
            "dashes, as in optim.lr=0.01"
        )


def checked(arguments: Sequence[str], sweep: str = IN_SHELL) -> list[str]:
    """Return the arguments in Hydra's order. Raises UserError for the first invalid one.

    ``sweep`` is the remedy if several values are given for a single run. Registers the user's own
    files that the arguments name.
    """
    flags, others = divided(arguments)
    _refuse_showing_of_many(flags)
    use(arguments)
    overrides = [parse(word) for word in others]
    if not any(flag in flags for flag in MULTIRUN):
        for override in overrides:
            _refuse_sweep(override, sweep)
    folders = config_folders(flags)
    if absent := [folder for folder in folders if not folder.is_dir()]:
        raise UserError(f"--config-dir {absent[0]}: no such folder")
    check(overrides, folders, sweep)
    return [*flags, *others, *_code_of_experiments(arguments)]


def _refuse_showing_of_many(flags: Sequence[str]) -> None:
    showing = [flag for flag in flags if flag.partition("=")[0] in SHOWING]
    many = [flag for flag in flags if flag in MULTIRUN]
    if showing and many:
        raise UserError(
            f"{many[0]} with {showing[0]}: only a single config can be shown\n"
            f"  leave {many[0]} out, and give one value per key"
        )


def _code_of_experiments(arguments: Sequence[str]) -> list[str]:
    """Return ``code=`` with absolute paths if a chosen experiment names files.

    In its YAML they are relative to it, which the processes of a launcher do not know.
    """
    if any(map(user_code.is_key, arguments)) or not user_code.of_experiments(arguments):
        return []
    return [f"code={typed([str(file) for file in user_code.named(arguments)])}"]


def parse(typed: str, parser: OverridesParser | None = None) -> Override:
    """Parse one override as Hydra does. Raises UserError if invalid."""
    parser = parser or OverridesParser.create()
    key, equals, value = typed.partition("=")
    if not key:
        raise UserError(f"{typed}: expected key=value, such as optim.lr=0.01")
    if not equals and not typed.startswith("~"):
        meant = [f"{group}={typed}" for group in groups() if typed in choices(group)]
        example = (
            f"; did you mean {meant[0]}?" if meant else ", without spaces, such as optim.lr=0.01"
        )
        raise UserError(f"{typed}: expected key=value{example}")
    try:
        [override] = parser.parse_overrides([typed])
    except HydraException as error:
        if slip := slips.parentheses(key, value):
            raise slip from error
        if re.match(r"(tag|interval)\(", value):
            raise UserError(
                f"{typed}: expected '{key}=interval(LOW,HIGH)', or with a log scale "
                f"'{key}=tag(log,interval(LOW,HIGH))'"
            ) from error
        if re.match(rf"{slips.FUNCTION}\(.*\)$", value):
            raise UserError(f"{typed}: {error.__cause__ or error}".partition("\n")[0]) from error
        raise slips.unparsed(key, value, _quoted(value)) from error
    steps = override.value()
    if isinstance(steps, RangeSweep) and steps.step == 0:
        raise UserError(f"{typed}: expected a step other than 0")
    return override


def typed(value: object) -> str:
    """Format a value so that Hydra's grammar parses it back; plain strings stay unquoted.

    value: None, bool, int, float, str, or a list or dict of these. Raises TypeError for others.
    """
    if value is None or isinstance(value, bool):
        return shown(value)
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{','.join(map(typed, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{typed(each)}' for key, each in value.items())}}}"
    if not isinstance(value, str):
        raise TypeError(type(value).__name__)
    is_word = re.fullmatch(r"[A-Za-z_][\w./-]*|/[\w./-]*", value, re.ASCII)
    return value if is_word and value.lower() not in RESERVED else _quoted(value)


def _quoted(text: str) -> str:
    """Quote a string so that nothing in it is parsed as grammar."""
    # OmegaConf's mark of an interpolation; then Hydra's quotes. Both halve the backslashes that
    # stand before them, and no others.
    text = re.sub(r"(\\*)(\$\{)", r"\1\1\\\2", text)
    text = re.sub(r"(\\+)(?='|\Z)", r"\1\1", text)
    return "'" + text.replace("'", "\\'") + "'"


def _refuse_sweep(override: Override, sweep: str) -> None:
    name, line = override.key_or_group, override.input_line or ""
    if not override.is_sweep_override() or name.startswith("hydra"):
        return
    if name == "device":
        raise UserError(
            f"{line}: a run uses one device, such as device=cuda:0; the jobs of a sweep (-m) use "
            "all GPUs"
        )
    start = "add -m: tinylab train " if sweep == IN_SHELL else "expected "
    raise UserError(
        f"{line}: several values need a sweep, one run per value; {start}"
        f"{sweep.format(_quoted_in(sweep, line))}"
        f"{slips.decimal_comma(name, line.partition('=')[2])}"
    )


def _quoted_in(sweep: str, text: str) -> str:
    return shlex.quote(text) if sweep == IN_SHELL else repr(text)


def check(
    overrides: Sequence[Override], folders: Sequence[Path] = (), sweep: str = IN_SHELL
) -> None:
    """Raise UserError for the first override with an unknown name or a value of the wrong type."""
    chosen = _Chosen(overrides, folders)
    for override in overrides:
        name = override.key_or_group
        if name.partition(".")[0].partition("/")[0] == "hydra":
            continue
        if override.is_delete() and name != "experiment":
            raise _undeletable(override, chosen)
        if name in groups(folders):
            _check_choice(override, folders, sweep)
        elif not override.is_delete():
            entry = chosen.entry(override)
            for value in _values(override):
                _check_type(override, value, entry, sweep)


def _undeletable(override: Override, chosen: "_Chosen") -> UserError:
    """An experiment can be left out again; all else is in every config. Raises for an unknown."""
    name = override.key_or_group
    if name in groups():
        known = "|".join(choices(name))
    else:
        known = shown(chosen.entry(override).field.default)
    return UserError(
        f"{override.input_line}: every config has {name}, so it cannot be left out\n"
        f"  expected another value, such as {name}={known}"
    )


def _check_choice(override: Override, folders: Sequence[Path], sweep: str) -> None:
    group = override.key_or_group
    known = choices(group, folders)
    if override.is_add() and group in groups():
        line = override.input_line or ""
        raise UserError(f"{line}: a group is chosen without +: {line.lstrip('+')}")
    for value in _values(override):
        if value is None or override.is_delete():
            continue
        if isinstance(value, list):
            each = _as_sweep(override, sweep)
            raise UserError(f"{override.input_line}: expected one option; to try each: {each}")
        if str(value) not in known:
            hint = slips.option(group, str(value), known)
            raise UserError(no_such(group, str(value), known, named_files(), hint))
        file = file_of(group, str(value), folders)
        if group == "experiment" and file is not None and not _is_global(file):
            raise UserError(
                f"{group}={value}: {file}: expected '# @package _global_' as its first line, so "
                "that its keys apply to the whole config"
            )


def _is_global(file: Path) -> bool:
    head = file.read_text(encoding="utf-8", errors="replace").lstrip()
    lines = [line for line in head.splitlines() if line.startswith("#")]
    return any(re.fullmatch(r"#\s*@package\s+_global_\s*", line) for line in lines)


class _Chosen:
    """Return the options of the groups, as far as the command line and its experiment tell."""

    def __init__(self, overrides: Sequence[Override], folders: Sequence[Path]) -> None:
        self._folders = folders
        self._typed = {override.key_or_group for override in overrides}
        self._options: dict[str, set[str]] = {}
        experiments: list[str] = []
        for override in overrides:
            values = [str(value) for value in _values(override)]
            if override.key_or_group in FOLDERS:
                self._options[override.key_or_group] = {*values}
            elif override.key_or_group == "experiment":
                experiments = values
        files = [file_of("experiment", name, folders) for name in experiments]
        by_files = [overridden(file, folders) for file in files if file is not None]
        default = overridden(file_of(".", "config", ()), folders)
        for group in FOLDERS:
            of_files = {each.get(group, default.get(group, "")) for each in by_files or [default]}
            self._options.setdefault(group, of_files)

    def entry(self, override: Override) -> Entry:
        """Return the key that an override sets. Raises UserError if there is none."""
        key = override.key_or_group
        named = [entry for entry in entries() if entry.name == key]
        group = key.partition(".")[0]
        wanted = {base(group, option, self._folders) for option in self._options.get(group, ())}
        known = options(group).keys() if group in FOLDERS else set[str]()
        fitting = [entry for entry in named if entry.choice in ("", *wanted)]
        without = wanted & known - {entry.choice for entry in named}
        if named and group in FOLDERS and without:
            raise UserError(self._of_another(override, named, without))
        if (fitting and "." in key) or (named and group not in FOLDERS):
            return (fitting or named)[0]
        if named:
            return named[0]
        raise UserError(self._unknown(override, key, wanted))

    def _of_another(
        self, override: Override, named: Sequence[Entry], without: Iterable[str]
    ) -> str:
        key = override.key_or_group
        group = key.partition(".")[0]
        owners = ", ".join(f"{group}={entry.choice}" for entry in named)
        here = ", ".join(f"{group}={name}" for name in sorted(without))
        if settings := self._as_settings(override, {entry.choice for entry in named}):
            return (
                f"{key}: belongs to {owners}, not to {here}; expected, instead of {group}= and "
                f"{key}=,\n  {settings}"
            )
        keys = ", ".join(_keys_of(group, without)) or "no keys"
        return f"{key}: belongs to {owners}; {here} has {keys}"

    def _as_settings(self, override: Override, owners: Collection[str]) -> str:
        """Return the ``sweep.settings`` that replace the swept group of a key and the key itself;
        empty if the group is not swept on the command line, or has no option with the key.
        """
        key, group = override.key_or_group, override.key_or_group.partition(".")[0]
        chosen = sorted(self._options[group]) if group in self._typed else []
        fitting = [each for each in chosen if base(group, each, self._folders) in owners]
        values = _texts(override)
        if not fitting or not values:
            return ""
        pairs = [f"{{{group}: {each}, {key}: {value}}}" for each in fitting for value in values]
        others = [f"{{{group}: {each}}}" for each in chosen if each not in fitting]
        return shlex.quote(f"sweep.settings=[{', '.join([*pairs, *others])}]")

    def _unknown(self, override: Override, key: str, wanted: Iterable[str]) -> str:
        all_names = list(dict.fromkeys(entry.name for entry in entries()))
        group = key.partition(".")[0]
        plus = "; a leading + cannot add one" if override.is_add() else ""
        by_end = [name for name in all_names if name.endswith(f".{key.rpartition('.')[2]}")]
        if by_end:
            return f"{key}: unknown key (did you mean {' or '.join(by_end)}?){plus}"
        siblings = _keys_of(group, wanted)
        if "." in key and siblings:
            hint = slips.key(key, siblings)
            if not override.is_add() and any(map(partial(_takes_further, group), wanted)):
                plus = f"\n  to pass it on to its **kwargs: +{override.input_line}"
            return f"{key}: unknown key{hint}; valid here: {', '.join(siblings)}{plus}"
        hint = did_you_mean(key, [*groups(self._folders), *all_names])
        return (
            f"{key}: unknown key{hint}{plus}; the groups are {', '.join(groups(self._folders))}"
            if "." not in key
            else f"{key}: unknown key{hint}{plus}; see tinylab train --help"
        )


def _takes_further(group: str, option: str) -> bool:
    known = options(group).get(option) if group in FOLDERS else None
    return known is not None and known.declaration.takes_further


def _keys_of(group: str, wanted: Iterable[str]) -> list[str]:
    names = [e.name for e in entries() if "." in e.name and e.name.startswith(f"{group}.")
             and e.choice in ("", *wanted)]  # fmt: skip
    return list(dict.fromkeys(names))


# ---------------------------------------------------------------- values


def _values(override: Override) -> Iterator[Any]:
    """Return the value of an override, or all values of a sweep; none of an interval."""
    if not override.is_sweep_override():
        yield override.value()
        return
    sweep = override.value()
    if isinstance(sweep, Sweep) and hasattr(sweep, "list"):
        # ChoiceSweep: quoted strings are kept.
        yield from (getattr(each, "text", each) for each in sweep.list)
    elif isinstance(sweep, RangeSweep):
        yield from (end for end in (sweep.start,) if end is not None)


def _texts(override: Override) -> list[str]:
    """Return the value of an override, or all values of a sweep, as typed; none of an interval."""
    if not override.is_sweep_override():
        return [override.get_value_element_as_str()]
    is_listed = isinstance(override.value(), ChoiceSweep | RangeSweep)
    return list(override.sweep_string_iterator()) if is_listed else []


def _check_type(override: Override, value: Any, entry: Entry, sweep: str) -> None:
    """Raise UserError if a value does not have its key's type; limits are checked by records."""
    declared = entry.field.type
    alternatives = declared.__args__ if isinstance(declared, UnionType) else (declared,)
    kinds = [each for each in WORDS if each in alternatives]
    if isinstance(value, str) and "${" in value:
        return  # an interpolation
    _check_items(override.key_or_group, value, declared)
    if not kinds:
        return  # a section, a list or a dict
    [kind] = kinds
    if value is None and is_nullable(declared):
        return
    if value is None or not _fits(value, kind):
        null = "null or " if is_nullable(declared) else ""
        typed = str(value) if isinstance(value, list | dict) else shown(value)
        hint = slips.value(override.key_or_group, value, kind)
        if isinstance(value, list):
            hint = f"; to try each: {_as_sweep(override, sweep)}"
        raise UserError(f"{override.key_or_group}={typed}: expected {null}{WORDS[kind]}{hint}")


def _check_items(key: str, value: Any, declared: Any) -> None:
    """Raise UserError if a value is not the list or the dict that its key takes."""
    if declared not in ITEMS:
        return
    outer, inner = get_origin(declared), get_origin(get_args(declared)[0]) or object
    if not isinstance(value, outer) or not all(isinstance(each, inner) for each in value):
        raise UserError(f"{key}={_plain(value)}: expected {ITEMS[declared].format(key)}")


def _plain(value: Any) -> str:
    """Format any value as it is typed, without quotes that the shell takes."""
    try:
        return typed(value)
    except TypeError:
        return str(value)


def _as_sweep(override: Override, sweep: str) -> str:
    values: Any = override.value()
    text = f"{override.key_or_group}={','.join(map(str, values))}"
    return sweep.format(_quoted_in(sweep, text))


def _fits(value: Any, kind: type) -> bool:
    if isinstance(value, list | dict):
        return False
    if kind is str:
        return True
    if kind is bool:
        return str(value).lower() in TRUTH
    if isinstance(value, bool):
        return False
    try:
        kind(value if isinstance(value, str) or kind is float else repr(value))
    except ValueError:
        return False
    return True
