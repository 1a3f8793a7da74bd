"""The differences between two runs, in words. Unfinished runs have a config, too."""

from pathlib import Path
from typing import Any

from tinylab.comparison.settings import varied
from tinylab.config.identity import flatten
from tinylab.config.keys import completed, help_of, without_effect
from tinylab.config.values import shown
from tinylab.store.folder import RunFolder
from tinylab.store.result import Result

# Fact recorded in a result -> its description.
RECORDED = {
    "fingerprint": "the images themselves",
    "core_sha256": "tinylab's code",
    "code_sha256": "the code of the core and of the selected options",
    "own_code_sha256": "your own code",
    "torch": "torch",
    "device_name": "the device",
    "threads": "CPU threads",
}
LONGEST = 20  # maximum number of characters of a recorded value, such as a hash


def differences(first: Path, second: Path) -> list[str]:
    """Return one line per difference between two runs. Raises UserError if one is not a run."""
    a, b = RunFolder(first), RunFolder(second)
    configs = [completed(flatten(files.config())) for files in (a, b)]
    changed = varied(configs)
    counting = [_in_words(key, *configs) for key in changed if key not in without_effect()]
    spared = [key for key in changed if key in without_effect()]
    return [
        f"A  {first}",
        f"B  {second}",
        *(counting or [_same_config(a, b)]),
        *_recorded(a, b),
        *([f"not part of a run's identity: {', '.join(spared)}"] if spared else []),
    ]


def _same_config(first: RunFolder, second: RunFolder) -> str:
    a, b = first.result(), second.result()
    bits = a is not None and b is not None and a.weights_sha256 != b.weights_sha256
    return f"equal in every value that affects the result{', but with other bits' if bits else ''}"


def _in_words(key: str, a: dict[str, Any], b: dict[str, Any]) -> str:
    description = help_of(key, (a, b))
    what = f" ({description})" if description else ""
    if key not in a or key not in b:
        name, value = ("A", a[key]) if key in a else ("B", b[key])
        return f"{key}: only in {name}, {shown(value)}{what}"
    return f"{key}: {shown(a[key])} in A, {shown(b[key])} in B{what}"


def _recorded(first: RunFolder, second: RunFolder) -> list[str]:
    """Return the differences in environment and code of two finished runs."""
    a, b = (_facts(files.result()) for files in (first, second))
    return [
        f"{RECORDED[key]}: {a[key][:LONGEST]} in A, {b[key][:LONGEST]} in B"
        for key in a
        if key in b and a[key] != b[key]
    ]


def _facts(result: Result | None) -> dict[str, str]:
    """Return the values of RECORDED in a result."""
    if result is None:
        return {}
    known = {**result.environment.facts(), "fingerprint": result.dataset.fingerprint}
    return {key: str(known[key]) for key in RECORDED if known.get(key) is not None}
