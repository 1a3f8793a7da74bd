"""From command line and YAML to a checked Config: the schema in Hydra, its mistakes in words."""

import contextlib
import dataclasses
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tinylab.config import schema
from tinylab.config.groups import choices, conf_folder, groups
from tinylab.config.schema import Config, did_you_mean
from tinylab.errors import UserError

# Group -> its option -> the record that types it. Groups of one record have one schema, "".
RECORDS: dict[str, dict[str, type]] = {
    "dataset": {
        "digits": schema.DigitsConfig,
        "mnist": schema.MnistConfig,
        "scene15": schema.Scene15Config,
        "folder": schema.FolderConfig,
    },
    "model": {
        "baseline": schema.BaselineConfig,
        "mlp": schema.MlpConfig,
        "resnet": schema.ResnetConfig,
        "torchvision": schema.TorchvisionConfig,
    },
    "optim": {
        "adam": schema.AdamConfig,
        "adamw": schema.AdamwConfig,
        "muon": schema.MuonConfig,
        "sgd": schema.SgdConfig,
    },
    "split": {"": schema.SplitConfig},
    "augment": {"": schema.AugmentConfig},
    "train": {"": schema.TrainConfig},
    "sweep": {"": schema.SweepConfig},
}


def register_schema() -> None:
    """Tell Hydra the types of all config groups, and which sweeper runs ``-m``."""
    store = ConfigStore.instance()
    store.store(group="schema", name="config", node=Config, package="_global_")
    for group, records in RECORDS.items():
        for name, record in records.items():
            if name:
                store.store(group=f"schema/{group}", name=name, node=record)
            else:
                store.store(group="schema", name=group, node=record)
    sweeper = {"_target_": "hydra_plugins.tinylab_sweeper.TinylabSweeper"}
    store.store(group="hydra/sweeper", name="tinylab", node=sweeper)


def run_hydra(task: Callable[[DictConfig], Any], arguments: Sequence[str]) -> None:
    """Compose the config from ``arguments`` and call ``task`` for every job.

    Raises UserError for whatever is wrong with them, HydraException for what tinylab did not
    foresee.
    """
    register_schema()
    _refuse_unknown_flags(arguments)
    # Hydra refuses this flag between two overrides.
    arguments = sorted(arguments, key=lambda argument: argument not in ("-m", "--multirun"))
    with _explained():
        if any(argument.startswith(("-", "hydra", "+hydra", "~hydra")) for argument in arguments):
            _hydra_main(task, arguments)
            return
        # A plain run needs no more than this; hydra.main would compose twice, 0.2 s each.
        with initialize_config_dir(str(conf_folder()), version_base="1.3"):
            composed = compose("config", list(arguments))
    task(composed)


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Mistakes that Hydra finds become UserErrors; HYDRA_FULL_ERROR=1 shows them whole."""
    try:
        yield
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        if "HYDRA_FULL_ERROR" in os.environ:
            raise
        raise explain(error) from error


def _hydra_main(task: Callable[[DictConfig], Any], arguments: Sequence[str]) -> None:
    """Hydra's own entry, for its flags and for sweeps."""
    mistakes: list[UserError] = []

    def guarded(composed: DictConfig) -> Any:
        # Hydra prints what a job raises, in words of its own.
        try:
            return task(composed)
        except UserError as error:
            mistakes.append(error)
            return None

    configured = hydra.main(
        version_base="1.3", config_path=str(conf_folder()), config_name="config"
    )
    saved_argv = sys.argv
    sys.argv = [saved_argv[0], *arguments]
    # Hydra prints its exceptions itself, unless it is asked for the whole of them.
    asked = "HYDRA_FULL_ERROR" in os.environ
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        configured(guarded)()
    finally:
        sys.argv = saved_argv
        HydraConfig.instance().cfg = None  # a plain run after this one is no job of a sweep
        if not asked:
            del os.environ["HYDRA_FULL_ERROR"]
    if mistakes:
        raise mistakes[0]


def to_config(composed: DictConfig) -> Config:
    """The composed config as checked records.

    Raises UserError for values out of range, and for keys added past the schema with ``+``.
    """
    _refuse_extra_keys(composed, Config, "")
    try:
        config = OmegaConf.to_object(composed)
    except OmegaConfBaseException as error:
        raise explain(error) from error
    assert isinstance(config, Config)
    return config


def replay(folder: Path, saved: dict[str, Any], overrides: Sequence[str]) -> list[str]:
    """The command line that repeats the run in ``folder``, with ``overrides`` on top.

    ``saved`` are the values of its config. A group that is chosen anew in ``overrides`` starts
    from its own defaults. Raises UserError for values that are no config of tinylab's.
    """
    _refuse_foreign(saved, folder)
    chosen = {override.partition("=")[0] for override in overrides if "." not in override}
    if "experiment" in chosen:
        raise UserError("--from with experiment=: both say what to run; keep one of them")
    here = {entry.name for entry in dataclasses.fields(Config) if not _counts(entry)}
    here.add("sweep")  # that the run was one of many is not repeated
    repeated: list[str] = []
    for name, value in saved.items():
        if name in here or name in chosen:
            continue
        if isinstance(value, dict):
            if "name" in value:
                repeated.append(f"{name}={value['name']}")
            inner = {key: each for key, each in value.items() if key != "name"}
            repeated += [f"{name}.{key}={_typed(each)}" for key, each in inner.items()]
        else:
            repeated.append(f"{name}={_typed(value)}")
    return [*repeated, *overrides]


def _refuse_foreign(saved: dict[str, Any], folder: Path) -> None:
    """A saved config may come from anyone: nothing in it reaches Hydra but what the schema has."""
    known = {entry.name for entry in dataclasses.fields(Config)}
    for name, value in saved.items():
        if name not in known:
            raise UserError(f"--from {folder}: no key of tinylab's in its config: {name}")
        option = value.get("name", "") if isinstance(value, dict) else ""
        if option not in RECORDS.get(name, {option: None}):
            raise UserError(f"--from {folder}: {name}={option} in its config: no such option")


def restore(values: dict[str, Any]) -> Config:
    """The Config of a finished run, from what its ``result.json`` holds; nothing is composed.

    A key that the run's tinylab did not have yet gets its default. Raises KeyError, TypeError or
    ValueError for what is not known any more, UserError for a value out of range.
    """
    chosen = dict(values)
    for group in RECORDS.keys() & values.keys():
        name = values[group].get("name", "")
        structured = OmegaConf.structured(RECORDS[group][name])
        try:
            chosen[group] = OmegaConf.to_object(OmegaConf.merge(structured, values[group]))
        except OmegaConfBaseException as error:
            raise ValueError(str(explain(error))) from error
    return Config(**chosen)


def _counts(entry: dataclasses.Field[Any]) -> bool:
    return bool(entry.metadata.get("identity", True))


def _typed(value: object) -> str:
    """A value as Hydra's override grammar reads it back."""
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return json.dumps(value)


def keys(record: type, prefix: str = "") -> list[str]:
    """The dotted keys of a record and of the records in it, with every option of each group."""
    found: list[str] = []
    for entry in dataclasses.fields(record):
        name = prefix + entry.name
        if prefix == "" and entry.name in RECORDS:
            for option in RECORDS[entry.name].values():
                found += keys(option, f"{name}.")
        else:
            found.append(name)
    return list(dict.fromkeys(found))


def explain(error: BaseException) -> UserError:
    """A mistake that Hydra or OmegaConf found, as one or two lines that name the remedy."""
    chain = [error]
    while (inner := chain[-1].__cause__) is not None:
        chain.append(inner)
    for each in chain:
        if isinstance(each, UserError):
            return each
    message = str(error).strip()
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    for each in reversed(chain):
        key = getattr(each, "full_key", None)
        if key:
            return _explain_key(str(key), each)
    return UserError(_explain_text(lines))


def _explain_key(key: str, error: BaseException) -> UserError:
    record: Any = getattr(error, "object_type", None)
    if "not in" in str(error) or "Key" in type(error).__name__ or "Attribute" in str(type(error)):
        known = keys(Config) + groups()
        section = key.rpartition(".")[0]
        if dataclasses.is_dataclass(record) and section:
            siblings = [f"{section}.{entry.name}" for entry in dataclasses.fields(record)]
            shown = ", ".join(name for name in siblings if not name.endswith(".name"))
            hint = did_you_mean(key, siblings)
            return UserError(f"{key}: no such key{hint}; here there is {shown}")
        return UserError(f"{key}: no such key{did_you_mean(key, known)}; see tinylab train --help")
    reason = str(error).splitlines()[0]
    return UserError(f"{key}: {reason}")


def _explain_text(lines: list[str]) -> str:
    first = lines[0] if lines else "the command line cannot be understood"
    if first.startswith("Could not override"):
        key = first.split("'")[1]
        hint = did_you_mean(key, groups() + keys(Config))
        return f"{key}: no such config group or key{hint}; there are {', '.join(groups())}"
    if "Could not find '" in first:
        wanted = first.split("Could not find '")[1].split("'")[0]
        group, _, option = wanted.rpartition("/")
        if group == "hydra/launcher":
            return (
                f"hydra/launcher={option}: not installed; jobs=N runs N jobs at once on this "
                "machine\n  for a cluster: pip install 'tinylab[slurm]' or 'tinylab[ray]'"
            )
        hint = did_you_mean(option, choices(group))
        return f"{group}={option}: no such option{hint}; there are {', '.join(choices(group))}"
    return "\n  ".join(lines[:2]) if lines else first


def _refuse_extra_keys(node: DictConfig, record: type, prefix: str) -> None:
    known = {entry.name for entry in dataclasses.fields(record)}
    for key in map(str, node):
        name = f"{prefix}{key}"
        if key not in known:
            hint = did_you_mean(name, keys(Config))
            raise UserError(f"{name}: no such key{hint}; a + before it does not make one")
        child = node._get_node(key)
        if isinstance(child, DictConfig) and dataclasses.is_dataclass(OmegaConf.get_type(child)):
            _refuse_extra_keys(child, OmegaConf.get_type(child), f"{name}.")  # type: ignore[arg-type]


# Hydra's own flags, long and short, of which those of the second set take a value.
FLAGS = {
    "--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r", "--multirun", "-m",
}  # fmt: skip
VALUE_FLAGS = {
    "--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn",
    "--config-dir", "-cd", "--info", "-i", "--experimental-rerun",
}  # fmt: skip


def _refuse_unknown_flags(arguments: Sequence[str]) -> None:
    known = sorted(FLAGS | VALUE_FLAGS)
    for argument in arguments:
        flag = argument.partition("=")[0]
        if flag in ("--shell-completion", "-sc"):
            raise UserError(f"{flag}: Hydra's completion knows no commands; see tinylab completion")
        if flag.startswith("-") and flag not in known:
            raise UserError(
                f"{flag}: no such flag{did_you_mean(flag, known)}; values are given without "
                "dashes, as in optim.lr=0.01"
            )
