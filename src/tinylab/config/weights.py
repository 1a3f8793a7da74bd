"""The identity of a model's initial weights: a file counts by its content."""

import dataclasses
import hashlib
from functools import cache
from pathlib import Path

from tinylab.config import options
from tinylab.config.base_records import ModelConfig
from tinylab.config.option import Option
from tinylab.config.schema import Config
from tinylab.errors import UserError
from tinylab.system.paths import user_path

SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")


def is_file(typed: str) -> bool:
    """Return whether ``model.weights`` is the path of a file, not a name of a library's weights."""
    return Path(typed).suffix in SUFFIXES or "/" in typed or "\\" in typed


def identified(config: Config) -> Config:
    """Return the config with the identity of its initial weights, wherever the file is.

    Named weights of torchvision or timm count by their full name and file name. Raises UserError if
    they do not exist, or differ from ``model.weights_content``.
    """
    option = options.of(config.model)
    typed = option.shared(config.model, "weights")
    if typed is None:
        return config
    content = _file_sha256(typed) if is_file(typed) else _named(option, config.model, typed)
    given = option.shared(config.model, "weights_content")
    if given not in (None, content):
        raise UserError(
            f"model.weights_content={given}: {typed} now holds other weights; leave "
            "model.weights_content out, and it is filled in"
        )
    model = dataclasses.replace(config.model, weights_content=content)  # type: ignore[call-arg]
    return dataclasses.replace(config, model=model)


def _named(option: Option, record: ModelConfig, typed: str) -> str:
    full_name = option.companion("full_name")
    if full_name is None:
        raise UserError(
            f"model.weights={typed}: expected a file of weights for model={record.name}, such as "
            f"net.pt; its name ends with {', '.join(SUFFIXES)}"
        )
    name: str = full_name(record)
    return name


def _file_sha256(typed: str) -> str:
    path = user_path(typed)
    try:
        stat = path.stat()
        return _sha256(path, (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino))
    except OSError as error:
        raise UserError(
            f"model.weights={typed}: {error.strerror or error}; expected a file of weights, such "
            "as those of tinylab export --to state_dict"
        ) from error


@cache
def _sha256(path: Path, stamp: tuple[int, ...]) -> str:
    """Return 128 bits of the content's hash, cached by ``stamp``, as for data."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:32]
