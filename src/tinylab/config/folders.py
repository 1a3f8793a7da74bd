"""The config folders, and the choices in their YAML files that are needed before Hydra.

PyYAML is imported only if a YAML file is named.
"""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from tinylab.system.project import project


def conf_folder() -> Path:
    """Return tinylab's YAML files: in an installed package, or next to ``src`` in a checkout."""
    installed = Path(__file__).parents[1] / "conf"
    return installed if installed.is_dir() else Path(__file__).parents[3] / "conf"


def conf_folders(more: Sequence[Path] = ()) -> list[Path]:
    """Return tinylab's folder, the project's, and ``more`` of a command; the first match wins."""
    own = project().conf
    return [conf_folder(), *([own] if own is not None else []), *more]


def config_folders(arguments: Sequence[str]) -> list[Path]:
    """Return the user's own config folders in the arguments: ``--config-dir FOLDER``."""
    folders = []
    for index, flag in enumerate(arguments):
        name, equals, given = flag.partition("=")
        if name in ("--config-dir", "-cd") and (equals or index + 1 < len(arguments)):
            folders.append(Path(given if equals else arguments[index + 1]))
    return folders


def file_of(group: str, choice: str, more: Sequence[Path] = ()) -> Path | None:
    """Return the YAML file of a choice; None if there is none."""
    paths = [folder / group / f"{choice}.yaml" for folder in conf_folders(more)]
    return next((path for path in paths if path.is_file()), None)


def content_of(file: Path) -> dict[str, Any]:
    """Read a YAML file; empty if it cannot be read, which Hydra will report."""
    import yaml

    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        content = yaml.load(file.read_text(encoding="utf-8"), loader)
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def defaults_of(file: Path) -> list[Any]:
    """Return the defaults list of a YAML file."""
    defaults = content_of(file).get("defaults")
    return defaults if isinstance(defaults, list) else []


def overridden(file: Path | None, more: Sequence[Path]) -> dict[str, str]:
    """Return group -> option, as chosen by the defaults list of a config or experiment."""
    chosen: dict[str, str] = {}
    for each in defaults_of(file) if file is not None else []:
        if isinstance(each, str) and each != "_self_" and file is not None:
            chosen |= overridden(file_of(file.parent.name, each, more), more)
        elif isinstance(each, dict):
            for key, option in each.items():
                chosen[str(key).removeprefix("override").strip().strip("/")] = str(option)
    return chosen


def base(group: str, option: str, more: Sequence[Path]) -> str:
    """Return the option that a user's YAML file is based on."""
    seen: set[str] = set()
    while (file := file_of(group, option, more)) is not None and option not in seen:
        seen.add(option)
        names = [each for each in defaults_of(file) if isinstance(each, str) and each != "_self_"]
        option = names[0] if names else option
    return option


# ---------------------------------------------------------------- before Hydra's parser


def typed_choices(arguments: Sequence[str], groups: Collection[str]) -> Iterator[tuple[str, str]]:
    """Return (group, option) for all that a command line may choose, directly or by its YAML.

    Includes all values of a sweep, without brackets and quotes.
    """
    more = config_folders(arguments)
    for word in arguments:
        key, _, value = word.lstrip("+").partition("=")
        if key in groups:
            for option in _split(value):
                yield key, base(key, option, more)
        elif key in ("experiment", "sweep"):
            for name in _split(value):
                for group, option in _in_file(file_of(key, name, more), more):
                    if group in groups:
                        yield group, base(group, option, more)


def _in_file(file: Path | None, more: Sequence[Path]) -> Iterator[tuple[str, str]]:
    yield from overridden(file, more).items()
    sweep = content_of(file) if file is not None else {}
    for values in (sweep, sweep.get("sweep")):
        space = values.get("space") if isinstance(values, dict) else None
        for key, value in (space if isinstance(space, dict) else {}).items():
            yield from ((str(key), option) for option in _split(str(value)))


def code_of_experiments(arguments: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """Return the files named by the ``code`` of the chosen experiments, each with its YAML file."""
    more = config_folders(arguments)
    for word in arguments:
        key, _, value = word.lstrip("+").partition("=")
        if key == "experiment":
            for name in _split(value):
                yield from _code_in(file_of("experiment", name, more), more)


def _code_in(file: Path | None, more: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    if file is None:
        return
    content = content_of(file)
    if (given := content.get("code")) is not None:
        listed = given if isinstance(given, list) else [given]
        yield from ((str(each), file) for each in listed)
        return
    for each in defaults_of(file):
        if isinstance(each, str) and each not in ("_self_", file.stem):
            yield from _code_in(file_of(file.parent.name, each, more), more)


def _split(value: str) -> list[str]:
    words = [word.strip().strip("'\"") for word in value.strip("[]").split(",")]
    return [word for word in words if word]
