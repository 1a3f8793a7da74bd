"""The config groups and their choices: options and YAML files. Does not import Hydra."""

from collections.abc import Sequence
from pathlib import Path

from tinylab.config.folders import conf_folders
from tinylab.config.option import FOLDERS
from tinylab.config.options import options

# Sections without options, and the name of their default.
PLAIN = {"split": "default", "train": "default", "sweep": "default"}
ORDER = (
    "dataset", "split", "model", "optim", "schedule", "augment", "loss", "train", "experiment",
    "sweep",
)  # fmt: skip


def choices(group: str, more: Sequence[Path] = ()) -> list[str]:
    """Return the choices of a config group; ``more`` are the user's config folders."""
    names = {PLAIN[group]} if group in PLAIN else set()
    if group in FOLDERS:
        names |= set(options(group))
    for folder in conf_folders(more):
        names |= {path.stem for path in (folder / group).glob("*.yaml")}
    return sorted(names)


def groups(more: Sequence[Path] = ()) -> list[str]:
    """Return the config groups, in the order of the help."""
    folders = [path for folder in conf_folders(more) for path in folder.glob("*/")]
    names = {path.name for path in folders if path.name[0] != "."}
    return [*ORDER, *sorted(names - {*ORDER, "hydra"})]
