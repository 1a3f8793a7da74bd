"""The records of the built-in options by names, as tests write them."""

from typing import Any

from tinylab.config.options import options


def _record(group: str, name: str) -> Any:
    return options(group)[name].record


DigitsConfig = _record("dataset", "digits")
MnistConfig = _record("dataset", "mnist")
FolderConfig = _record("dataset", "folder")
Scene15Config = _record("dataset", "scene15")
ArraysConfig = _record("dataset", "arrays")
TorchvisionSetConfig = _record("dataset", "torchvision")
BaselineConfig = _record("model", "baseline")
MlpConfig = _record("model", "mlp")
ResnetConfig = _record("model", "resnet")
TimmConfig = _record("model", "timm")
TorchvisionConfig = _record("model", "torchvision")
AdamConfig = _record("optim", "adam")
AdamwConfig = _record("optim", "adamw")
MuonConfig = _record("optim", "muon")
SgdConfig = _record("optim", "sgd")
TorchOptimConfig = _record("optim", "torch")
