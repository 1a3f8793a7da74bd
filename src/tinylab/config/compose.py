"""From command line and YAML to a checked Config: the schema in Hydra, and error messages."""

import contextlib
import copy
import dataclasses
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.errors import HydraException, MissingConfigException
from hydra.version import VersionBase
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationResolutionError,
    OmegaConfBaseException,
)

from tinylab.config import code, options, user_code
from tinylab.config.base_records import AugmentConfig
from tinylab.config.folders import conf_folder
from tinylab.config.groups import PLAIN, choices, groups
from tinylab.config.keys import entries
from tinylab.config.option import FOLDERS
from tinylab.config.overrides import IN_PYTHON, checked, typed
from tinylab.config.schema import Config
from tinylab.config.unknown import no_such
from tinylab.config.values import did_you_mean
from tinylab.errors import UserError
from tinylab.system.project import default_outputs, project

SECTIONS = {
    entry.name: entry.type
    for entry in dataclasses.fields(Config)
    if entry.name in PLAIN and isinstance(entry.type, type)
}


FILLED_IN = (
    "name",
    "content",
    "weights_content",
)  # keys of a section that are set by a choice, or by the data itself


def register_schema() -> None:
    """Register the types and options of all config groups with Hydra, and tinylab's sweeper."""
    store = ConfigStore.instance()
    whole = OmegaConf.structured(Config)
    whole.outputs = default_outputs()
    store.store(group="schema", name="config", node=whole, package="_global_")
    store.repo.update(_copied(_groups()))  # what another program stores there stays its own
    sweeper = {"_target_": "hydra_plugins.tinylab_sweeper.TinylabSweeper"}
    store.store(group="hydra/sweeper", name="tinylab", node=sweeper)


@options.kept  # 0.03 s for each config that a program composes
def _groups() -> dict[str, Any]:
    """The groups of the schema as they are in Hydra's store."""
    store = copy.copy(ConfigStore.instance())
    store.repo = {}
    for group in FOLDERS:
        for name, option in options.options(group).items():
            store.store(group=group, name=name, node=option.record)
    for group, record in SECTIONS.items():
        store.store(group=group, name=PLAIN[group], node=record)
    return store.repo


def run_hydra(task: Callable[[DictConfig], Any], arguments: Sequence[str]) -> None:
    """Compose the config from ``arguments`` and call ``task`` for every job.

    Raises UserError for errors in the arguments, HydraException for errors that tinylab does not
    anticipate.
    """
    arguments = checked(arguments)
    register_schema()
    with _explained():
        if any(argument.startswith(("-", "hydra", "+hydra", "~hydra")) for argument in arguments):
            _hydra_main(task, arguments)
            return
        composed = _compose(arguments)
    task(composed)


def compose_plain(overrides: Sequence[str]) -> Config:
    """Compose the config of one run, without Hydra's flags; global state is restored.

    Raises UserError for errors in the arguments.
    """
    overrides = checked(overrides, IN_PYTHON)
    with _explained(), _hydra_apart():
        register_schema()
        composed = _compose(overrides)
    return to_config(composed)


def _compose(overrides: Sequence[str]) -> DictConfig:
    # A plain run needs no more than this; hydra.main would compose twice, 0.2 s each.
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        return compose("config", [*overrides, *_search_path(overrides)])


def _search_path(arguments: Sequence[str]) -> list[str]:
    """Return the project's config folder as an override, unless another one is given."""
    folder = project().conf
    if folder is None or any("hydra.searchpath=" in argument for argument in arguments):
        return []
    return [f"hydra.searchpath=[{typed(f'file://{folder}')}]"]


@contextlib.contextmanager
def _hydra_apart() -> Iterator[None]:
    """Isolate Hydra's global state, which another program in the process may use: inside the block
    it contains only tinylab's.
    """
    Plugins.instance()  # takes 0.1 s, once
    before = Singleton._instances
    own = {GlobalHydra, HydraConfig, VersionBase}  # each program's; created on first use
    ours: Any = {kind: one for kind, one in before.items() if kind not in own}
    ours[ConfigStore] = store = copy.copy(ConfigStore.instance())
    store.repo = {"hydra": _copied(store.repo["hydra"])}
    Singleton._instances = ours
    try:
        yield
    finally:
        Singleton._instances = before


def _copied(group: dict[str, Any]) -> dict[str, Any]:
    """Copy a group of the config store; Hydra never modifies the entries themselves."""
    return {name: _copied(one) if isinstance(one, dict) else one for name, one in group.items()}


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Convert Hydra's errors to UserErrors; HYDRA_FULL_ERROR=1 shows them in full."""
    try:
        yield
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError) as error:
        if "HYDRA_FULL_ERROR" in os.environ:
            raise
        raise explain(error) from error


def _hydra_main(task: Callable[[DictConfig], Any], arguments: Sequence[str]) -> None:
    """Call Hydra's entry point, for its flags and for sweeps."""
    mistakes: list[UserError] = []

    def guarded(composed: DictConfig) -> Any:
        # Hydra prints the exceptions of a job in its own words.
        try:
            return task(composed)
        except UserError as error:
            mistakes.append(error)
            return None

    configured = hydra.main(
        version_base="1.3", config_path=str(conf_folder()), config_name="config"
    )
    saved_argv = sys.argv
    sys.argv = [saved_argv[0], *arguments, *_search_path(arguments)]
    # Hydra prints its exceptions itself unless the full error is requested.
    asked = "HYDRA_FULL_ERROR" in os.environ
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        configured(guarded)()
    finally:
        sys.argv = saved_argv
        HydraConfig.instance().cfg = None  # a plain run after this one is not a job of a sweep
        if not asked:
            del os.environ["HYDRA_FULL_ERROR"]
    if mistakes:
        raise mistakes[0]


def to_config(composed: DictConfig) -> Config:
    """Convert the composed config to checked records.

    Raises UserError for values out of range, and for keys added with ``+``.
    """
    # A job in a launcher's process knows the user's files only from its config.
    options.add_files(user_code.paths(composed.code) or user_code.named(()))
    for group in FOLDERS:
        if not OmegaConf.is_missing(composed, group):
            options.add_saved(group, composed[group])
    _refuse_extra_keys(composed, Config, "")
    try:
        config = OmegaConf.to_object(composed)
    except OmegaConfBaseException as error:
        raise explain(error) from error
    assert isinstance(config, Config)
    return dataclasses.replace(config, code=_own_files(config))


def _own_files(config: Config) -> str | list[str] | None:
    """Return the files of a config's own options and metrics, as its ``code``."""
    chosen = [*options.chosen(config), *options.options("metric").values()]
    files = list(dict.fromkeys(str(each.file) for each in chosen if each.is_of_file))
    return files[0] if len(files) == 1 else files or None


def replay(
    folder: Path, saved: dict[str, Any], overrides: Sequence[str], threads: int | None = None
) -> list[str]:
    """Return the command line that repeats the run in ``folder``, followed by ``overrides``.

    ``saved``: the values of its config; ``threads``: its number of threads, if known, since its
    bits depend on it. A group chosen again in ``overrides`` starts from its own defaults. Raises
    UserError for values that are not a tinylab config.
    """
    of_code = _code_of(saved, folder, overrides)
    chosen = {override.partition("=")[0] for override in overrides if "." not in override}
    _refuse_foreign(saved, folder, chosen)
    if "experiment" in chosen:
        raise UserError("--from with experiment=: both set the config; use one of them")
    here = {entry.name for entry in dataclasses.fields(Config) if not _counts(entry)}
    here.add("sweep")  # membership in a sweep is not repeated
    repeated: list[str] = []
    for name, value in saved.items():
        if name in here or name in chosen:
            continue
        if isinstance(value, dict):
            if "name" in value:
                repeated.append(f"{name}={value['name']}")
            further = _further(name, value)
            inner = {key: each for key, each in value.items() if key not in FILLED_IN}
            words = [f"{'+' * (key in further)}{name}.{key}={typed(each)}"
                     for key, each in inner.items()]  # fmt: skip
            again = {override.partition("=")[0] for override in overrides if override[0] == "+"}
            repeated += [word for word in words if word.partition("=")[0] not in again]
        else:
            repeated.append(f"{name}={typed(value)}")
    if threads is not None:
        repeated.append(f"threads={threads}")
    return [*repeated, *of_code, *overrides]


def _further(group: str, values: dict[str, Any]) -> tuple[str, ...]:
    """Return the keys of a saved section that were given with ``+`` for a ``**kwargs``."""
    known = options.options(group) if group in FOLDERS else {}
    option = known.get(str(values.get("name")))
    return () if option is None else option.declaration.further


def _code_of(saved: dict[str, Any], folder: Path, overrides: Sequence[str]) -> list[str]:
    """Return a run's own files as an override, unless ``overrides`` or TINYLAB_CODE name some.

    This registers their options. Raises UserError if they are missing; files with only metrics may
    be.
    """
    named = user_code.named(overrides)
    options.without_code(overrides)
    if not named:
        options.add_files(user_code.of_run(saved.get("code"), folder))
    given = {override.partition("=")[0] for override in overrides}
    kept = {name: value for name, value in saved.items() if name not in given}
    code.know(kept, folder)
    code.trust(kept, folder)
    if options.users_files() == named:
        return []
    listed = ",".join(typed(str(file)) for file in options.users_files())
    return [f"code=[{listed}]"]


def _refuse_foreign(saved: dict[str, Any], folder: Path, chosen: set[str]) -> None:
    """Check a saved config, which may come from anyone: only keys of the schema reach Hydra."""
    known = {entry.name for entry in dataclasses.fields(Config)}
    for name, value in saved.items():
        if name not in known:
            raise UserError(f"--from {folder}: unknown key in its config: {name}")
        option = _option_of(name, value) if isinstance(value, dict) else ""
        if name in FOLDERS and name not in chosen and option not in options.options(name):
            raise UserError(f"--from {folder}: {name}={option} in its config: no such option")


def restore(values: dict[str, Any]) -> Config:
    """Return the Config of a finished run from its ``result.json``; nothing is composed.

    Keys that the run's version did not have get their defaults. Raises KeyError, TypeError or
    ValueError for unknown keys or options, UserError for a value out of range.
    """
    chosen = dict(values)
    for group in (FOLDERS.keys() | SECTIONS.keys()) & values.keys():
        is_option = group in FOLDERS
        record = (
            options.options(group)[_option_of(group, values[group])].record
            if is_option
            else SECTIONS[group]
        )
        structured = OmegaConf.structured(record)
        try:
            chosen[group] = OmegaConf.to_object(OmegaConf.merge(structured, values[group]))
        except OmegaConfBaseException as error:
            raise ValueError(str(explain(error))) from error
    return Config(**chosen)


def _option_of(group: str, values: dict[str, Any]) -> str:
    """Return the option of a saved section; older ones of augment have no name."""
    return str(values.get("name", AugmentConfig.name if group == "augment" else ""))


def _counts(entry: dataclasses.Field[Any]) -> bool:
    return bool(entry.metadata.get("identity", True))


def explain(error: BaseException) -> UserError:
    """Describe an error found by Hydra or OmegaConf, mostly in YAML files, in a line or two."""
    chain = [error]
    while (inner := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(inner)
    for each in chain:
        if isinstance(each, UserError):
            return each
        if isinstance(each, MissingConfigException) and each.missing_cfg_file:
            return _missing(str(each.missing_cfg_file))
        if isinstance(each, yaml.YAMLError):
            return UserError(f"expected valid YAML: {' '.join(str(each).split())}")
    for each in chain:
        if isinstance(each, InterpolationResolutionError):
            return _unfilled(each)
    composed = re.match(r"In '(.+/.+)': ", str(error))
    where = f"{composed[1]}.yaml: " if composed else ""
    for each in reversed(chain):
        key = str(getattr(each, "full_key", None) or "")
        if key and isinstance(each, ConfigKeyError | ConfigAttributeError):
            return UserError(f"{where}{key}: {_unknown_key(key)}")
        if key:
            return UserError(f"{where}{key}: {str(each).partition(chr(10))[0]}")
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return UserError("\n  ".join(lines[:2]) or "the config cannot be composed")


def _unknown_key(key: str) -> str:
    group = key.partition(".")[0]
    if owners := [entry.choice for entry in entries() if entry.name == key and entry.choice]:
        listed = ", ".join(f"{group}={owner}" for owner in owners)
        return (
            f"belongs to {listed}; choose it in the defaults of this file: '- {owners[0]}' in a "
            f"file of {group}, '- override /{group}: {owners[0]}' in an experiment"
        )
    names = list(dict.fromkeys(entry.name for entry in entries()))
    by_end = [name for name in names if name.endswith(f".{key}")]
    hint = f" (did you mean {' or '.join(by_end)}?)" if by_end else did_you_mean(key, names)
    return f"unknown key{hint}; see tinylab train --help"


def _unfilled(error: InterpolationResolutionError) -> UserError:
    """An interpolation that names no key, in most cases a variable of the shell."""
    key, first = error.full_key, str(error).partition("\n")[0]
    if variable := re.search(r"Environment variable '(.+)' not found", first):
        return UserError(f"{key}: the environment variable {variable[1]} is not set")
    if (name := re.search(r"Interpolation key '(.+)' not found", first)) is None:
        return UserError(f"{key}: {first}")
    variable = re.fullmatch(r"\w+", name[1])
    remedy = f'; the shell fills a variable in inside double quotes, "{key}=${name[1]}", and YAML '
    remedy += f"has it as ${{oc.env:{name[1]}}}"
    hint = did_you_mean(name[1], [entry.name for entry in entries()])
    return UserError(
        f"{key}: ${{{name[1]}}} is not a key of the config{hint or remedy * bool(variable)}"
    )


def _missing(wanted: str) -> UserError:
    group, _, option = wanted.rpartition("/")
    if group == "hydra/launcher":
        return UserError(
            f"hydra/launcher={option}: not installed; jobs=N runs N jobs at once on this "
            "machine\n  for a cluster: pip install 'tinylab[slurm]' or 'tinylab[ray]'"
        )
    outer, _, inner = group.partition("/")
    if outer == "experiment" and inner in groups():
        return UserError(
            f"experiment: its defaults have {inner}: {option}; expected '- override /{inner}: "
            f"{option}'"
        )
    if not group:
        return UserError(f"--config-name {option}: not available; use experiment= instead")
    return UserError(no_such(group, option, choices(group), options.named_files()))


def _refuse_extra_keys(node: DictConfig, record: type, prefix: str) -> None:
    known = {entry.name for entry in dataclasses.fields(record)}
    for key in map(str, node):
        name = f"{prefix}{key}"
        if key not in known:
            hint = did_you_mean(name, [entry.name for entry in entries()])
            raise UserError(f"{name}: unknown key{hint}; a leading + cannot add one")
        child = node._get_node(key)
        if isinstance(child, DictConfig) and dataclasses.is_dataclass(OmegaConf.get_type(child)):
            _refuse_extra_keys(child, OmegaConf.get_type(child), f"{name}.")  # type: ignore[arg-type]
