"""Folders of runs as tinylab leaves them, written without training anything."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import yaml

from option_records import AdamConfig, DigitsConfig, MlpConfig
from tinylab.config.identity import run_id
from tinylab.config.schema import Config

# In C where that is there: hundreds of configs are written in seconds less.
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def config(**values: Any) -> Config:
    """A whole config; ``lr`` is the optimizer's."""
    optim = AdamConfig(lr=values.pop("lr", 0.001))
    return Config(dataset=DigitsConfig(), model=MlpConfig(), optim=optim, **values)


def begun(outputs: Path, **values: Any) -> Path:
    """A run that has been started: its config is there, and the curve of one epoch."""
    made = config(**values)
    folder = outputs / "runs" / run_id(made)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.dump(dataclasses.asdict(made), Dumper=DUMPER))
    (folder / "metrics.jsonl").write_text("{}\n")
    return folder


def stopped(outputs: Path, **values: Any) -> Path:
    """A run with a checkpoint, and nothing more."""
    folder = begun(outputs, **values)
    (folder / "last.ckpt").write_bytes(b"x" * 1000)
    return folder


def failed(outputs: Path, error: str = "too hot\n  cool it", **values: Any) -> Path:
    """A run that ended with an error."""
    folder = begun(outputs, **values)
    failure = {"status": "failed", "error": error, "failures": []}
    (folder / "failure.json").write_text(json.dumps(failure))
    return folder


def finished(
    outputs: Path, test: float = 0.9, val: float | None = 0.8, seconds: float = 3.21, **values: Any
) -> Path:
    """A run with a result, of which only what other commands read is there."""
    folder = stopped(outputs, **values)
    result = finished_result(config(**values), test, val, seconds)
    (folder / "result.json").write_text(json.dumps(result))
    return folder


def finished_result(
    made: Config, test: float = 0.9, val: float | None = 0.8, seconds: float = 3.21
) -> dict[str, Any]:
    """What a ``result.json`` needs to be one."""
    return {
        "status": "finished",
        "config": dataclasses.asdict(made),
        "dataset": {
            "name": "digits",
            "classes": ["0", "1"],
            "fingerprint": "f",
            "num_train": 9,
            "num_test": 9,
            "image_shape": [1, 8, 8],
        },
        "split_sha256": "s",
        "environment": {"code_sha256": "c"},
        "val": None if val is None else {"accuracy": val, "loss": 0.5},
        "test": {"accuracy": test, "loss": 0.25, "accuracy_ci95": [test - 0.02, test + 0.01]},
        "best_epoch": 7,
        "epochs": 10,
        "num_parameters": 1234,
        "seconds": {"train": seconds},
    }
