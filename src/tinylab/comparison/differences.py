"""What two runs do not share, in plain words. An unfinished run has a config, too."""

from pathlib import Path
from typing import Any

import yaml

from tinylab.comparison.settings import varied
from tinylab.config.keys import helps, without_effect
from tinylab.config.schema import flatten
from tinylab.config.values import shown
from tinylab.errors import UserError
from tinylab.store import folder as runs

# What a result records beside its config -> its words.
RECORDED = {
    "dataset.fingerprint": "the images themselves",
    "environment.code_sha256": "tinylab's code",
    "environment.torch": "torch",
    "environment.device_name": "the device",
    "environment.threads": "CPU threads",
}
LONGEST = 20  # characters of a value that is not the config's, such as a hash


def differences(first: Path, second: Path) -> list[str]:
    """A line for each thing in which two runs differ. Raises UserError where one is no run."""
    configs = [_config(folder) for folder in (first, second)]
    changed = varied(configs)
    counting = [_in_words(key, *configs) for key in changed if key not in without_effect()]
    spared = [key for key in changed if key in without_effect()]
    return [
        f"A  {first}",
        f"B  {second}",
        *(counting or ["the same in every value that can change a result"]),
        *_recorded(first, second),
        *([f"without effect on results: {', '.join(spared)}"] if spared else []),
    ]


def _config(folder: Path) -> dict[str, Any]:
    """The flat config of a run, finished or not."""
    try:
        config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"--diff {folder}: expected the folder of a run ({reason})") from error
    if not isinstance(config, dict):
        raise UserError(f"--diff {folder}: expected the folder of a run; its config.yaml is empty")
    return flatten(config)


def _in_words(key: str, a: dict[str, Any], b: dict[str, Any]) -> str:
    what = f" ({helps()[key]})" if helps().get(key) else ""
    if key not in a or key not in b:
        name, value = ("A", a[key]) if key in a else ("B", b[key])
        return f"{key}: only {name} has it, {shown(value)}{what}"
    return f"{key}: {shown(a[key])} in A, {shown(b[key])} in B{what}"


def _recorded(first: Path, second: Path) -> list[str]:
    """Differences in where and from what two finished runs were made."""
    a, b = (_facts(runs.read_result(folder) or {}) for folder in (first, second))
    return [
        f"{RECORDED[key]}: {a[key][:LONGEST]} in A, {b[key][:LONGEST]} in B"
        for key in a
        if key in b and a[key] != b[key]
    ]


def _facts(result: dict[str, Any]) -> dict[str, str]:
    """What a result has of RECORDED."""
    found = {}
    for key in RECORDED:
        part, _, name = key.partition(".")
        inner = result.get(part)
        if isinstance(inner, dict) and name in inner:
            found[key] = str(inner[name])
    return found
