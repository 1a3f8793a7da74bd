"""The export formats: each is written, and opened again as its users open it."""

import contextlib
import importlib.util
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tinylab.config import options
from tinylab.data.batches import restore_normalization
from tinylab.errors import UserError
from tinylab.export.network import Deployed
from tinylab.inference import build_model

Metadata = dict[str, Any]
# uint8 (N, C, H, W) -> logits float32 (N, num_classes)
Network = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
ONNX_PACKAGES = ("onnx", "onnxruntime", "onnxscript")


@dataclass(frozen=True)
class Format:
    """``write`` creates the file at a path, ``open`` returns its network."""

    suffix: str
    write: Callable[[Deployed, Metadata, Path], None]
    open: Callable[[Path], Network]


def require(name: str) -> None:
    """Raise UserError if a format's packages are missing."""
    absent = [each for each in ONNX_PACKAGES if importlib.util.find_spec(each) is None]
    if name == "onnx" and absent:
        raise UserError(
            f"--to onnx: not installed: {', '.join(absent)}\n"
            "  pip install 'tinylab[export]', or choose --to torch_export"
        )


def _example(metadata: Metadata) -> tuple[torch.Tensor]:
    """Two images: torch.export would specialize on a batch of one."""
    return (torch.zeros(2, *metadata["image_shape"], dtype=torch.uint8),)


@contextlib.contextmanager
def _untraceable(what: str) -> Iterator[None]:
    """Not every network can be traced; the exceptions have no common base class."""
    try:
        yield
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        raise UserError(
            f"this network cannot be exported {what}: {reason}\n  choose --to state_dict"
        ) from error


def _write_onnx(network: Deployed, metadata: Metadata, path: Path) -> None:
    with _untraceable("as ONNX"):
        program = torch.onnx.export(
            network,
            _example(metadata),
            dynamic_shapes={"images": {0: "batch"}},
            input_names=["images"],
            output_names=["logits"],
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    for key, value in metadata.items():
        program.model.metadata_props[key] = value if isinstance(value, str) else json.dumps(value)
    program.save(path, external_data=False)


def _open_onnx(path: Path) -> Network:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: np.asarray(session.run(["logits"], {"images": images})[0])


def _write_program(network: Deployed, metadata: Metadata, path: Path) -> None:
    shapes = {"images": {0: torch.export.Dim("batch")}}
    with _untraceable("by torch.export"):
        program = torch.export.export(network, _example(metadata), dynamic_shapes=shapes)
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={"metadata.json": json.dumps(metadata)})
    path.write_bytes(buffer.getvalue())


def _open_program(path: Path) -> Network:
    module = torch.export.load(io.BytesIO(path.read_bytes())).module()
    return lambda images: np.asarray(module(torch.from_numpy(images)).detach())


def _write_state_dict(network: Deployed, metadata: Metadata, path: Path) -> None:
    torch.save({"state_dict": network.model.state_dict(), "metadata": metadata}, path)


def _open_state_dict(path: Path) -> Network:
    stored = torch.load(path, weights_only=True)
    metadata = stored["metadata"]
    normalization = restore_normalization(metadata["normalization"], torch.device("cpu"))
    model = build_model(
        options.record("model", **metadata["model"]),
        (normalization.channels, *metadata["image_shape"][1:]),
        len(metadata["classes"]),
    )
    model.load_state_dict(stored["state_dict"])
    network = Deployed(model, normalization, metadata["tta"]).eval()
    return lambda images: np.asarray(network(torch.from_numpy(images)).detach())


FORMATS = {
    "onnx": Format(".onnx", _write_onnx, _open_onnx),
    "torch_export": Format(".pt2", _write_program, _open_program),
    "state_dict": Format(".pt", _write_state_dict, _open_state_dict),
}
