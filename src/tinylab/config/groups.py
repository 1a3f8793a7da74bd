"""The config groups and what can be chosen in them: the options, and the YAML files. No Hydra."""

from collections.abc import Sequence
from pathlib import Path

from tinylab.config.folders import conf_folders
from tinylab.config.option import FOLDERS
from tinylab.config.options import options

# The sections that have no options, and the name of their plain form.
PLAIN = {"split": "default", "train": "default", "sweep": "default"}
ORDER = (
    "dataset", "split", "model", "optim", "schedule", "augment", "loss", "train", "experiment",
    "sweep",
)  # fmt: skip


def choices(group: str, more: Sequence[Path] = ()) -> list[str]:
    """What can be chosen in a config group; ``more`` are config folders of the user's."""
    found = {PLAIN[group]} if group in PLAIN else set()
    if group in FOLDERS:
        found |= set(options(group))
    for folder in conf_folders(more):
        found |= {path.stem for path in (folder / group).glob("*.yaml")}
    return sorted(found)


def groups(more: Sequence[Path] = ()) -> list[str]:
    """The config groups, in the order in which an experiment is thought of."""
    folders = [path for folder in conf_folders(more) for path in folder.glob("*/")]
    names = {path.name for path in folders if path.name[0] != "."}
    return [*ORDER, *sorted(names - {*ORDER, "hydra"})]
