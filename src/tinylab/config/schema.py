"""The schema of a run: typed records with checked values, and the run's identity.

Each part of tinylab gets its own section (``config.optim`` goes to the optimiser, and nothing
else does). A value out of range raises UserError when the record is built, before any data is
read. Every field says whether it can change a run's result: those that can are its identity.
"""

import dataclasses
import difflib
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tinylab.config.metrics import CHOOSABLE, MONITORED
from tinylab.config.values import is_number, shown
from tinylab.errors import UserError


def option(default: Any, help: str, *, identity: bool = True) -> Any:
    """A config field: its default, its help text, and whether it can change a run's result."""
    return field(default=default, metadata={"help": help, "identity": identity})


def _require(ok: bool, key: str, value: object, expected: str) -> None:
    if not ok:
        raise UserError(f"{key}={shown(value)}: expected {expected}")


def _require_one_of(key: str, value: str, choices: Sequence[str]) -> None:
    hint = did_you_mean(value, choices)
    _require(value in choices, key, value, f"one of {', '.join(choices)}{hint}")


def did_you_mean(typed: str, known: Sequence[str]) -> str:
    """`` (did you mean 'x'?)`` where a known word is near to the typed one, else an empty text."""
    near = difflib.get_close_matches(typed, known, n=1, cutoff=0.6)
    return f" (did you mean '{near[0]}'?)" if near else ""


# ---------------------------------------------------------------- dataset


@dataclass
class DatasetConfig:
    """What every dataset has; each reader's own record adds its options."""

    name: str = option("???", "which reader; chosen by dataset=NAME")
    image_size: int = option(32, "height and width of the prepared images, in pixels")
    normalize: str = option(
        "unit", "unit: pixels / 255; standard: minus the training mean, by its deviation"
    )

    def __post_init__(self) -> None:
        _require(1 <= self.image_size <= 1024, "dataset.image_size", self.image_size, "1 to 1024")
        _require_one_of("dataset.normalize", self.normalize, ("unit", "standard"))


@dataclass
class DigitsConfig(DatasetConfig):
    """scikit-learn's 1,797 handwritten digits of 8x8 pixels, which come with the package."""

    name: str = "digits"
    image_size: int = option(8, "8, or more: zeros are put round the 8x8 pixels")

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self.image_size >= 8, "dataset.image_size", self.image_size, "8 or more")


@dataclass
class MnistConfig(DatasetConfig):
    """MNIST: 60,000 training and 10,000 official test images of 28x28 pixels."""

    name: str = "mnist"
    root: str | None = option(None, "folder with MNIST/raw/*-ubyte; null: the data root")
    image_size: int = option(28, "28, or more: zeros are put round the 28x28 pixels")

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self.image_size >= 28, "dataset.image_size", self.image_size, "28 or more")


@dataclass
class FolderConfig(DatasetConfig):
    """Image files: root/<class>/*.jpg, root/{train,test}/<class>/*.jpg, or as root/labels.csv."""

    name: str = "folder"
    root: str | None = option(
        None, "the folder of class folders, or of labels.csv; dataset=folder needs it"
    )
    interpolation: str = option("linear", "how OpenCV resizes: nearest, linear, area, cubic")
    grayscale: bool = option(False, "true: one channel; false: three (red, green, blue)")
    skip_bad: bool = option(False, "true: leave out files that cannot be read, and say which")

    def __post_init__(self) -> None:
        super().__post_init__()
        choices = ("nearest", "linear", "area", "cubic", "lanczos")
        _require_one_of("dataset.interpolation", self.interpolation, choices)
        if self.name == "folder" and self.root is None:
            raise UserError("dataset.root=null: expected the folder that holds the class folders")


@dataclass
class Scene15Config(FolderConfig):
    """15-Scene: 4,485 grayscale photographs in 15 classes (Lazebnik et al., CVPR 2006)."""

    name: str = "scene15"
    root: str | None = option(None, "the folder of class folders; null: 15-Scene in the data root")
    grayscale: bool = option(True, "true: one channel; false: three (red, green, blue)")
    url: str = option(
        "https://ndownloader.figshare.com/files/12855452",
        "the zip archive to fetch where the images are absent (Figshare article 7007177)",
        identity=False,
    )


# ---------------------------------------------------------------- split


@dataclass
class SplitConfig:
    """Who is in train, validation and test. Only this section and the labels decide it."""

    seed: int = option(0, "decides who is where; the training seed never does")
    val: float = option(0.1, "share of the images outside the test set that validates; 0: none")
    test: float | None = option(
        None, "share of all images that tests; null: the official test set, or 0.1 without one"
    )
    train_per_class: int | None = option(
        None, "this many images a class for train and val together, the rest tests (Lazebnik: 100)"
    )
    stratified: bool = option(False, "true: every part has each class in the same share")
    folds: int | None = option(
        None, "cross-validation: fold number `fold` is held out (as test; as val if a test exists)"
    )
    fold: int = option(0, "which of the folds is held out, from 0")
    group_duplicates: bool = option(False, "true: identical images stay on one side")

    def __post_init__(self) -> None:
        _require(0 <= self.seed < 2**63, "split.seed", self.seed, "0 or more")
        _require(0 <= self.val < 1, "split.val", self.val, "a share, 0 to below 1")
        ok = self.test is None or 0 < self.test < 1
        _require(ok, "split.test", self.test, "null or a share between 0 and 1")
        per_class = self.train_per_class
        _require(
            per_class is None or per_class > 0, "split.train_per_class", per_class, "1 or more"
        )
        _require(self.folds is None or self.folds >= 2, "split.folds", self.folds, "2 or more")
        last = 0 if self.folds is None else self.folds - 1
        _require(0 <= self.fold <= last, "split.fold", self.fold, f"0 to {last} (split.folds - 1)")
        asked = {"test": self.test, "train_per_class": per_class, "folds": self.folds}
        given = [f"split.{key}={value}" for key, value in asked.items() if value is not None]
        if len(given) > 1:
            raise UserError(f"{' and '.join(given)}: each decides the test set; keep one of them")


# ---------------------------------------------------------------- model


@dataclass
class ModelConfig:
    """What every model has; each builder's own record adds its options."""

    name: str = option("???", "which builder; chosen by model=NAME")


@dataclass
class BaselineConfig(ModelConfig):
    """The source text's CNN: convolution, max-pool 2, dense ReLU, dropout, dense classes."""

    name: str = "baseline"
    filters: int = option(28, "channels of the convolution")
    kernel_size: int = option(3, "side of its kernels, in pixels")
    hidden: int = option(128, "width of the dense layer")
    dropout: float = option(0.2, "share of the dense layer's outputs that training drops")
    init: str = option("torch", "torch: PyTorch's initial weights; glorot: those of Keras")

    def __post_init__(self) -> None:
        _require(self.filters >= 1, "model.filters", self.filters, "1 or more")
        _require(self.kernel_size >= 1, "model.kernel_size", self.kernel_size, "1 or more")
        _require(self.hidden >= 1, "model.hidden", self.hidden, "1 or more")
        _require(0 <= self.dropout < 1, "model.dropout", self.dropout, "a share, 0 to below 1")
        _require_one_of("model.init", self.init, ("torch", "glorot"))


@dataclass
class MlpConfig(ModelConfig):
    """Dense layers with ReLU and dropout."""

    name: str = "mlp"
    hidden: int = option(256, "width of each hidden layer")
    layers: int = option(2, "number of hidden layers")
    dropout: float = option(0.2, "share of each hidden layer's outputs that training drops")

    def __post_init__(self) -> None:
        _require(self.hidden >= 1, "model.hidden", self.hidden, "1 or more")
        _require(self.layers >= 0, "model.layers", self.layers, "0 or more")
        _require(0 <= self.dropout < 1, "model.dropout", self.dropout, "a share, 0 to below 1")


@dataclass
class ResnetConfig(ModelConfig):
    """A small residual network for images of 8 to 64 pixels."""

    name: str = "resnet"
    width: int = option(32, "channels of the first stage; each further stage doubles them")
    depth: int = option(1, "residual blocks a stage")
    stages: int = option(4, "number of stages; each after the first halves the image")
    stem_stride: int = option(1, "2: the first convolution halves the image too, which is faster")
    squeeze: int | None = option(
        None, "squeeze-and-excitation: channels a hidden unit stands for; null: none"
    )
    dropout: float = option(0.0, "share of the pooled features that training drops")

    def __post_init__(self) -> None:
        _require(self.width >= 1, "model.width", self.width, "1 or more")
        _require(self.depth >= 1, "model.depth", self.depth, "1 or more")
        _require(1 <= self.stages <= 8, "model.stages", self.stages, "1 to 8")
        _require(self.stem_stride in (1, 2), "model.stem_stride", self.stem_stride, "1 or 2")
        ok = self.squeeze is None or self.squeeze >= 1
        _require(ok, "model.squeeze", self.squeeze, "null or 1 or more")
        _require(0 <= self.dropout < 1, "model.dropout", self.dropout, "a share, 0 to below 1")


@dataclass
class TorchvisionConfig(ModelConfig):
    """Any classifier of torchvision, with its first and last layer fitted to the data."""

    name: str = "torchvision"
    arch: str = option("resnet18", "a name from torchvision.models.list_models()")
    weights: str | None = option(None, "pretrained weights by torchvision's name, such as DEFAULT")


# ---------------------------------------------------------------- optim


@dataclass
class OptimConfig:
    """What every optimiser has. Weight decay spares biases and normalisation."""

    name: str = option("???", "which optimiser; chosen by optim=NAME")
    lr: float = option(0.001, "peak learning rate")
    weight_decay: float = option(0.0, "decay of the weights that multiply inputs")
    schedule: str = option("constant", "constant, cosine, or onecycle")
    warmup: float | None = option(
        None, "share of all steps in which lr rises; null: 0, and 0.3 for onecycle"
    )
    final: float = option(0.0, "lr after the last step, as a share of the peak (not for constant)")

    def __post_init__(self) -> None:
        _require(0 < self.lr < float("inf"), "optim.lr", self.lr, "a number above 0")
        decay = self.weight_decay
        _require(0 <= decay < float("inf"), "optim.weight_decay", decay, "0 or more")
        _require_one_of("optim.schedule", self.schedule, ("constant", "cosine", "onecycle"))
        ok = self.warmup is None or 0 <= self.warmup < 1
        _require(ok, "optim.warmup", self.warmup, "null or a share, 0 to below 1")
        _require(0 <= self.final <= 1, "optim.final", self.final, "a share, 0 to 1")


@dataclass
class AdamConfig(OptimConfig):
    """Adam (Kingma and Ba, 2015); weight decay is added to the gradient."""

    name: str = "adam"
    beta1: float = option(0.9, "decay of the running mean of the gradient")
    beta2: float = option(0.999, "decay of the running mean of its square")
    eps: float = option(1e-8, "added to the denominator")

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(0 <= self.beta1 < 1, "optim.beta1", self.beta1, "0 to below 1")
        _require(0 <= self.beta2 < 1, "optim.beta2", self.beta2, "0 to below 1")
        _require(0 < self.eps < float("inf"), "optim.eps", self.eps, "a number above 0")


@dataclass
class AdamwConfig(AdamConfig):
    """AdamW (Loshchilov and Hutter, 2019); weight decay acts on the weights alone."""

    name: str = "adamw"
    weight_decay: float = option(0.01, "decay of the weights that multiply inputs")
    schedule: str = option("cosine", "constant, cosine, or onecycle")
    warmup: float | None = option(
        0.05, "share of all steps in which lr rises; null: 0, and 0.3 for onecycle"
    )


@dataclass
class SgdConfig(OptimConfig):
    """Stochastic gradient descent with momentum, by default over one cycle of the rate."""

    name: str = "sgd"
    lr: float = option(0.1, "peak learning rate")
    weight_decay: float = option(0.0005, "decay of the weights that multiply inputs")
    schedule: str = option("onecycle", "constant, cosine, or onecycle")
    momentum: float = option(0.9, "share of the last update that is kept")
    nesterov: bool = option(True, "true: Nesterov's momentum")

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(0 <= self.momentum < 1, "optim.momentum", self.momentum, "0 to below 1")
        if self.nesterov and self.momentum == 0:
            raise UserError(
                "optim.nesterov=true: expected optim.momentum above 0, or nesterov=false"
            )


@dataclass
class MuonConfig(OptimConfig):
    """Muon (Jordan et al., 2024) for hidden layers, AdamW for the output layer and all vectors."""

    name: str = "muon"
    lr: float = option(0.02, "peak learning rate")
    weight_decay: float = option(0.05, "decay of the weights that multiply inputs")
    schedule: str = option("onecycle", "constant, cosine, or onecycle")
    momentum: float = option(0.95, "share of the last update that is kept")
    rest_lr: float = option(0.003, "peak learning rate of AdamW, for all but hidden weights")

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(0 <= self.momentum < 1, "optim.momentum", self.momentum, "0 to below 1")
        _require(0 < self.rest_lr < float("inf"), "optim.rest_lr", self.rest_lr, "above 0")


# ---------------------------------------------------------------- augment


@dataclass
class AugmentConfig:
    """Random changes of the training images, drawn anew for every image and epoch."""

    flip: bool = option(False, "true: mirror left and right, every second image")
    shift: float = option(0.0, "largest shift, as a share of the side")
    rotate: float = option(0.0, "largest rotation, in degrees")
    scale: float = option(0.0, "largest zoom: factors from 1 - scale to 1 + scale")
    shear: float = option(0.0, "largest shear, in degrees")
    elastic: float = option(0.0, "largest bend, as a share of the side, at 4x4 points")
    fill: str = option("zeros", "what lies outside the image: zeros, border, reflection")
    brightness: float = option(0.0, "largest change of brightness, as a share of white")
    contrast: float = option(0.0, "largest change of contrast, as a share")
    cutout: float = option(0.0, "side of a square that is blanked, as a share of the image's")
    mixup: float = option(0.0, "alpha of mixup (Zhang et al., 2018); 0: none")
    cutmix: float = option(
        0.0, "alpha of CutMix (Yun et al., 2019); 0: none; with mixup, every second image has it"
    )

    def __post_init__(self) -> None:
        for key in ("shift", "elastic", "brightness", "cutout"):
            value = getattr(self, key)
            _require(0 <= value <= 1, f"augment.{key}", value, "a share, 0 to 1")
        for key in ("scale", "contrast"):
            value = getattr(self, key)
            _require(0 <= value < 1, f"augment.{key}", value, "a share, 0 to below 1")
        _require(0 <= self.rotate <= 180, "augment.rotate", self.rotate, "0 to 180 degrees")
        _require(0 <= self.shear < 80, "augment.shear", self.shear, "0 to below 80 degrees")
        _require_one_of("augment.fill", self.fill, ("zeros", "border", "reflection"))
        for key in ("mixup", "cutmix"):
            value = getattr(self, key)
            _require(0 <= value < float("inf"), f"augment.{key}", value, "0 or more")


# ---------------------------------------------------------------- train


@dataclass
class TrainConfig:
    """The loop."""

    epochs: int = option(10, "passes over the training images")
    batch_size: int = option(32, "images a step; the last, shorter batch is used too")
    # The baseline CNN takes 0.15 s for 10,000 images by 250, 0.23 s by 1,000 (two cores; a large
    # batch's activations do not fit the cache); a residual network does not care.
    eval_batch_size: int = option(250, "images a step in evaluation")
    label_smoothing: float = option(0.0, "share of the target spread over all classes")
    class_weights: str = option(
        "none", "weight of each class in the training loss: none, or balanced by its images"
    )
    ema: float | None = option(None, "decay of the averaged weights that are tested; null: none")
    grad_clip: float | None = option(None, "largest norm of the gradient; null: no limit")
    patience: int | None = option(None, "epochs without a better validation until the stop")
    monitor: str = option(
        "accuracy", f"validation metric by which the best epoch is chosen: {', '.join(MONITORED)}"
    )
    weights: str = option("best", "which epoch is tested: best by validation, or last")
    tta: str = option("none", "test-time augmentation: none, flip, shift (by a pixel), flip_shift")
    precision: str = option("float32", "float32, or mixed: bfloat16, float16")
    channels_last: bool = option(True, "true: channels innermost in memory, which is faster")
    compile: bool = option(False, "true: torch.compile the model")
    checkpoint_seconds: float = option(
        60.0, "longest time between two checkpoints inside an epoch", identity=False
    )

    def __post_init__(self) -> None:
        _require(self.epochs >= 1, "train.epochs", self.epochs, "1 or more")
        _require(self.batch_size >= 1, "train.batch_size", self.batch_size, "1 or more")
        size = self.eval_batch_size
        _require(size >= 1, "train.eval_batch_size", size, "1 or more")
        smoothing = self.label_smoothing
        _require(0 <= smoothing < 1, "train.label_smoothing", smoothing, "a share, 0 to below 1")
        _require_one_of("train.class_weights", self.class_weights, ("none", "balanced"))
        ok = self.ema is None or 0 < self.ema < 1
        _require(ok, "train.ema", self.ema, "null or a number between 0 and 1, such as 0.999")
        ok = self.grad_clip is None or 0 < self.grad_clip < float("inf")
        _require(ok, "train.grad_clip", self.grad_clip, "null or a number above 0")
        ok = self.patience is None or self.patience >= 1
        _require(ok, "train.patience", self.patience, "null or 1 or more")
        _require_one_of("train.monitor", self.monitor, MONITORED)
        _require_one_of("train.weights", self.weights, ("best", "last"))
        _require_one_of("train.tta", self.tta, ("none", "flip", "shift", "flip_shift"))
        _require_one_of("train.precision", self.precision, ("float32", "bfloat16", "float16"))
        seconds = self.checkpoint_seconds
        _require(seconds > 0, "train.checkpoint_seconds", seconds, "a number above 0")


@dataclass
class SweepConfig:
    """What ``tinylab train -m`` does with many jobs."""

    search: str = option(
        "grid", "grid: every combination; random; tpe: guided by what was found", identity=False
    )
    trials: int | None = option(
        None, "runs of a search (random, tpe); a larger number goes on with it", identity=False
    )
    seed: int = option(0, "what a search proposes derives from it", identity=False)
    metric: str = option(
        "val_accuracy",
        f"validation metric that ranks runs and guides a search: {', '.join(CHOOSABLE)}",
        identity=False,
    )
    prune: str = option(
        "none", "how a search gives up hopeless trials: none, median, halving", identity=False
    )
    space: dict[str, str] = field(
        default_factory=dict,
        metadata={
            "help": "what varies: key -> values as typed after -m; for YAML in conf/sweep",
            "identity": False,
        },
    )
    retry_failed: bool = option(
        True, "false: jobs that have failed are not run again", identity=False
    )

    def __post_init__(self) -> None:
        _require_one_of("sweep.search", self.search, ("grid", "random", "tpe"))
        _require(self.trials is None or self.trials >= 1, "sweep.trials", self.trials, "1 or more")
        _require(0 <= self.seed < 2**63, "sweep.seed", self.seed, "0 or more")
        _require_one_of("sweep.metric", self.metric, CHOOSABLE)
        _require_one_of("sweep.prune", self.prune, ("none", "median", "halving"))
        if self.search != "grid":
            expected = f"the number of runs for sweep.search={self.search}, such as 20"
            _require(self.trials is not None, "sweep.trials", None, expected)
        elif self.trials is not None or self.prune != "none":
            given = "trials" if self.trials is not None else "prune"
            raise UserError(
                f"sweep.{given}={getattr(self, given)}: a grid runs every combination to its end; "
                "expected sweep.search=random or sweep.search=tpe with it"
            )


# ---------------------------------------------------------------- the whole


@dataclass
class Config:
    """Everything a run is made from."""

    dataset: DatasetConfig = field(default="???", metadata={"help": "digits, mnist, scene15, ..."})  # type: ignore[assignment]
    split: SplitConfig = field(default_factory=SplitConfig)
    model: ModelConfig = field(default="???", metadata={"help": "baseline, mlp, resnet, ..."})  # type: ignore[assignment]
    optim: OptimConfig = field(default="???", metadata={"help": "adam, adamw, sgd"})  # type: ignore[assignment]
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    seed: int = option(0, "initial weights, batch order, augmentation and dropout derive from it")
    deterministic: bool = option(True, "true: the same bits again on the same machine")
    device: str = option("auto", "auto, cpu, cuda, cuda:N, mps", identity=False)
    threads: int | None = option(None, "CPU threads; null: one a core", identity=False)
    jobs: int | None = option(
        None, "jobs of a sweep that run at once; null: one a core, or one a GPU", identity=False
    )
    outputs: str = option("outputs", "folder in which runs and sweeps are kept", identity=False)
    name: str | None = option(None, "a label of yours for the run or sweep", identity=False)
    fresh: bool = option(False, "true: run again though a result is there", identity=False)

    def __post_init__(self) -> None:
        _require(0 <= self.seed < 2**63, "seed", self.seed, "0 or more")
        _require(
            re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", self.device) is not None,
            "device",
            self.device,
            "auto, cpu, cuda, cuda:N or mps",
        )
        _require(self.threads is None or self.threads >= 1, "threads", self.threads, "1 or more")
        _require(self.jobs is None or self.jobs >= 1, "jobs", self.jobs, "null or 1 or more")
        ok = self.name is None or re.fullmatch(r"[\w.+-][\w .+-]*", self.name) is not None
        _require(ok, "name", self.name, "letters, digits, spaces and . + - _")
        for group in ("dataset", "model", "optim"):
            record = getattr(self, group)
            own = type(record).name
            expected = f"{own}; another one is chosen by {group}=NAME"
            _require(record.name == own, f"{group}.name", record.name, expected)
        if self.split.val == 0 and self.split.folds is None and self.train.patience is not None:
            raise UserError(
                "train.patience with split.val=0: early stopping needs a validation set"
            )
        if self.split.val == 0 and self.sweep.search != "grid":
            raise UserError(
                f"sweep.search={self.sweep.search} with split.val=0: a search is guided by a "
                "validation set, never by the test set; expected split.val=0.1 or another share"
            )


# ---------------------------------------------------------------- identity


def identity(record: Any) -> dict[str, Any]:
    """The values of a config record that can change a run's result, nested as in the config."""
    values: dict[str, Any] = {}
    for entry in dataclasses.fields(record):
        value = getattr(record, entry.name)
        if dataclasses.is_dataclass(value):
            if inner := identity(value):
                values[entry.name] = inner
        elif entry.metadata.get("identity", True):
            values[entry.name] = _canonical(value, entry.type)
    return values


def flatten(config: Mapping[str, Any]) -> dict[str, Any]:
    """A nested config as ``{"model": "mlp", "model.layers": 2}``: keys as they are typed."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= {key if k == "name" else f"{key}.{k}": inner for k, inner in value.items()}
        else:
            flat[key] = value
    return flat


def _canonical(value: Any, declared: Any) -> Any:
    """1 and -0.0 as 1.0 and 0.0 where a real number is declared: equal values, equal texts."""
    is_real = is_number(value) and declared in (float, float | None)
    return value + 0.0 if is_real else value


def run_id(config: Config) -> str:
    """``<dataset>-<model>-<hash>``: equal for equal identities, on every machine.

    The hash is the first 40 bits of SHA-256 over the identity as JSON with sorted keys. JSON
    writes a float by its shortest exact decimal, so 1e-3 and 0.001 are one value.
    """
    canonical = json.dumps(identity(config), sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    return f"{config.dataset.name}-{config.model.name}-{digest[:10]}"
