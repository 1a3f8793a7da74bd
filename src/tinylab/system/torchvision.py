"""Import torchvision, with a clear error if it does not match the installed torch."""

import importlib
import importlib.metadata
from typing import Any

from tinylab.errors import UserError


def import_torchvision(module: str) -> Any:
    """Import a torchvision module by name; ``Any``, because torchvision ships no types.

    Raises UserError where torch and torchvision were built for different torch versions or one
    for CUDA and one without, which otherwise shows as ``operator torchvision::nms does not
    exist``. It is imported only where needed, since that takes several seconds.
    """
    try:
        return importlib.import_module(module)
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        torch, torchvision = _version("torch"), _version("torchvision")
        reason = str(error).partition("\n")[0]  # some loaders append pages
        raise UserError(
            f"torch {torch} and torchvision {torchvision} are not a matching pair ({reason})\n"
            "  install both together: pip install --force-reinstall torch torchvision"
        ) from error


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "(absent)"
