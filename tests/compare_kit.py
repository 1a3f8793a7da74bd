"""Folders that look like finished runs, without the training."""

import copy
import dataclasses
import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from option_records import (
    AdamConfig,
    BaselineConfig,
    DigitsConfig,
    MlpConfig,
    SgdConfig,
    TorchvisionSetConfig,
)
from tinylab.config.identity import run_id
from tinylab.config.schema import Config

GROUPS = {
    "dataset": {"digits": DigitsConfig, "torchvision": partial(TorchvisionSetConfig, set="USPS")},
    "model": {"baseline": BaselineConfig, "mlp": MlpConfig},
    "optim": {"adam": AdamConfig, "sgd": SgdConfig},
}
# In C where that is there: hundreds of configs are written in seconds less.
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
NUM_TEST = 100


def config(**overrides: Any) -> Config:
    """``config(model="mlp", model__layers=1, seed=2)``, with Hydra's dots as double underscores."""
    made = Config(
        dataset=GROUPS["dataset"][overrides.pop("dataset", "digits")](),  # type: ignore[arg-type]
        model=GROUPS["model"][overrides.pop("model", "baseline")](),  # type: ignore[arg-type]
        optim=GROUPS["optim"][overrides.pop("optim", "adam")](),  # type: ignore[arg-type]
    )
    for key, value in overrides.items():
        section, _, name = key.rpartition("__")
        setattr(getattr(made, section) if section else made, name, value)
    return made


def write_run(
    outputs: Path,
    right: int | Iterable[int] = 90,
    val: float | None = 0.9,
    *,
    official_test: bool = False,
    **overrides: Any,
) -> Path:
    """A finished run that has ``right`` test images right: their number, or which ones.

    The test set depends on the split as in tinylab: by ``split.seed`` and ``split.fold``, unless
    it is official. Returns the folder.
    """
    made = config(**overrides)
    folder = outputs / "runs" / run_id(made)
    folder.mkdir(parents=True)
    hits = set(range(right)) if isinstance(right, int) else set(right)
    first = 0 if official_test else 1000 * made.split.seed + 100 * made.split.fold
    label = np.arange(NUM_TEST) % 10
    predicted = [k if i in hits else (k + 1) % 10 for i, k in enumerate(label)]
    index = np.arange(first, first + NUM_TEST)
    np.savez(folder / "predictions.npz", index=index, label=label, predicted=np.array(predicted))
    (folder / "config.yaml").write_text(
        yaml.dump(dataclasses.asdict(made), Dumper=DUMPER, sort_keys=False)
    )
    (folder / "result.json").write_text(json.dumps(_result(made, len(hits), val)))
    return folder


def _result(made: Config, right: int, val: float | None) -> dict[str, Any]:
    return {
        "status": "finished",
        "run_id": run_id(made),
        "config": copy.deepcopy(dataclasses.asdict(made)),
        "dataset": {
            "name": made.dataset.name, "fingerprint": f"images of {made.dataset}",
            "classes": [str(k) for k in range(10)],
            "num_train": 900, "num_val": 100 if val is not None else 0, "num_test": NUM_TEST,
            "image_shape": [1, 8, 8],
        },
        "split_sha256": f"split {made.split.seed} {made.split.fold} {made.split.val}",
        "train": {"loss": 0.1, "accuracy": 0.99, "num": 900},
        "val": None if val is None else {"loss": 1 - val, "accuracy": val, "num": 100},
        "test": {
            "loss": 1 - right / NUM_TEST, "accuracy": right / NUM_TEST, "num": NUM_TEST,
            "accuracy_ci95": [0.0, 1.0],
        },
        "best_epoch": 10, "epochs": 10,
        "seconds": {"data": 0.1, "train": 2.0, "evaluate": 0.1, "total": 3.0},
        "num_parameters": 1234,
        "environment": {"code_sha256": "c0de"},
    }  # fmt: skip


def edit_result(folder: Path, **changes: Any) -> None:
    """Change entries of a run's result; ``dataset__fingerprint="x"`` changes an inner one."""
    path = folder / "result.json"
    result = json.loads(path.read_text())
    for key, value in changes.items():
        part, _, name = key.rpartition("__")
        (result[part] if part else result)[name] = value
    path.write_text(json.dumps(result))


def write_many(outputs: Path, num_settings: int) -> None:
    """Settings of five seeds each, with various accuracies."""
    for filters in range(1, num_settings + 1):
        for seed in range(5):
            right = 50 + (filters + 7 * seed * filters) % 40
            val = filters / num_settings
            write_run(outputs, right, val, model__filters=filters, seed=seed)
