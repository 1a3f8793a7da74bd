"""The config groups and their options, which are the folders and files of ``conf``. No Hydra."""

from pathlib import Path


def conf_folder() -> Path:
    """The YAML files: inside an installed package, or beside ``src`` in a checkout."""
    installed = Path(__file__).parents[1] / "conf"
    return installed if installed.is_dir() else Path(__file__).parents[3] / "conf"


def choices(group: str) -> list[str]:
    """The options of a config group."""
    return sorted(path.stem for path in (conf_folder() / group).glob("*.yaml"))


def groups() -> list[str]:
    """The config groups, in the order in which an experiment is thought of."""
    order = ["dataset", "split", "model", "optim", "augment", "train", "experiment", "sweep"]
    found = {path.name for path in conf_folder().iterdir() if path.is_dir()}
    return [group for group in order if group in found] + sorted(found - set(order))
