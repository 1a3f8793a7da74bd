"""The schema of a run: typed records with checked values, and the run's identity.

Each part of tinylab gets its own section (``config.optim`` goes to the optimizer, and nothing
else does). A value out of range raises UserError when the record is built, before any data is
read. Every key says whether it can change a run's result: those that can are its identity. The
records of models, datasets and optimizers are made by ``options.py`` from these base records.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from tinylab.config.metrics import CHOOSABLE, MONITORED
from tinylab.config.values import check, is_number, key
from tinylab.errors import UserError


@dataclass
class Section:
    """A part of the config: its values are checked when it is built."""

    section: ClassVar[str] = ""

    def __post_init__(self) -> None:
        check(self, self.section)


# ---------------------------------------------------------------- options


@dataclass
class OptionConfig(Section):
    """A section whose keys depend on the option that is chosen."""

    name: str = key("???", "which option; chosen by dataset=NAME, model=NAME, optim=NAME, ...")

    def __reduce__(self) -> Any:
        # The class of an option's record is made when the program runs, so it is found by name.
        from tinylab.config.options import options, restored

        option = options(self.section).get(self.name)
        file = option.file if option is not None and option.is_of_file else None
        return restored, (self.section, vars(self), file)


UNIT = "unit"


@dataclass
class DatasetConfig(OptionConfig):
    """What every dataset has; each option adds its own keys."""

    section: ClassVar[str] = "dataset"
    image_size: int | None = key(
        32, "height and width of the prepared images, in pixels", at_least=1, at_most=1024
    )
    normalize: str | None = key(
        None,
        "unit: pixels / 255; standard: training set's per-channel mean 0, std 1; imagenet: as "
        "weights pretrained on ImageNet expect it; weights: as the file of model.weights says; "
        "null: unit, or what fits model.weights",
        one_of=("unit", "standard", "imagenet", "weights"), stands_for=UNIT,
    )  # fmt: skip


@dataclass
class ModelConfig(OptionConfig):
    """Any model. Without keys, so that a user's model may have one of any name and type."""

    section: ClassVar[str] = "model"


SCHEDULES = ("constant", "cosine", "onecycle")


@dataclass
class ModelKeys(ModelConfig):
    """What every model has; each option adds its own keys."""

    weights: str | None = key(
        None, "file of initial weights, such as those of tinylab export --to state_dict",
        neutral=True, initial=True, counted_by="weights_content", normalize="weights",
    )  # fmt: skip
    weights_content: str | None = key(
        None, "a digest of the file, or the full name of pretrained weights; filled in",
        neutral=True, initial=True,
    )  # fmt: skip
    freeze: str = key(
        "none", "what is not trained: none; backbone, all but the last layer; or a regular "
        "expression for the beginning of parameter names, such as layer[12]",
        neutral=True, pattern="none, backbone, or a regular expression over parameter names",
    )  # fmt: skip


@dataclass
class OptimConfig(OptionConfig):
    """What every optimizer has. Weight decay excludes biases and norms."""

    section: ClassVar[str] = "optim"
    lr: float = key(0.001, "peak learning rate", above=0)
    weight_decay: float = key(0.0, "weight decay (biases and norms excluded)", at_least=0)
    schedule: str = key("constant", "constant, cosine, or onecycle", one_of=SCHEDULES)
    warmup: float | None = key(
        None,
        "fraction of all steps in which lr rises; null: 0, and 0.3 for onecycle",
        at_least=0,
        below=1,
    )
    final: float = key(
        0.0, "lr after the last step as a fraction of the peak (not for constant)",
        at_least=0, at_most=1,
    )  # fmt: skip
    backbone_lr: float = key(
        1.0, "lr of all layers but the last, as a fraction of lr", neutral=True, at_least=0
    )

    def __post_init__(self) -> None:
        from tinylab.config.options import options

        is_own = self.schedule not in (*SCHEDULES, ScheduleConfig.name)
        if is_own and self.schedule in options("schedule"):
            raise UserError(
                f"optim.schedule={self.schedule}: expected a built-in one; choose it by "
                f"schedule={self.schedule}"
            )
        super().__post_init__()


@dataclass
class ScheduleConfig(OptionConfig):
    """The learning rate's course: that of ``optim.schedule``, or a schedule of the user's own."""

    section: ClassVar[str] = "schedule"
    name: str = key("default", "default: optim.schedule; or a schedule of your own", neutral=True)


@dataclass
class LossConfig(OptionConfig):
    """What training makes small."""

    section: ClassVar[str] = "loss"
    name: str = key("cross_entropy", "cross_entropy, or a loss of your own", neutral=True)


# ---------------------------------------------------------------- split


DEFAULT_VAL = 0.1


@dataclass
class SplitConfig(Section):
    """Who is in train, validation and test. Only this section and the labels decide it."""

    section: ClassVar[str] = "split"
    seed: int = key(
        0, "seed of the train/val/test split; independent of `seed`", at_least=0, below=2**63
    )
    val: float | None = key(
        DEFAULT_VAL,
        "validation fraction of the images outside the test set; 0: none; 0.1 or null: the "
        "official validation part where there is one, else 0.1",
        at_least=0,
        below=1,
    )
    test: float | None = key(
        None, "test fraction of all images; null: the official test set, or 0.1 without one",
        above=0, below=1,
    )  # fmt: skip
    train_per_class: int | None = key(
        None, "images per class for train and val together, the rest tests (Lazebnik: 100)",
        at_least=1,
    )  # fmt: skip
    stratified: bool = key(False, "keep the class proportions in every part")
    folds: int | None = key(
        None, "cross-validation: fold number `fold` is held out (as test; as val if a test exists)",
        at_least=2,
    )  # fmt: skip
    fold: int = key(0, "which of the folds is held out, from 0")
    group_duplicates: bool = key(False, "keep identical images in the same part")
    train_fraction: float = key(
        1.0,
        "fraction of the training images that is used; smaller fractions are parts of larger ones",
        neutral=True, above=0, at_most=1,
    )  # fmt: skip

    group: str | None = key(
        None,
        "never divide a group: a column of labels.csv, or a pattern over file names with one "
        "(group); null: no groups",
        neutral=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_wrong_pattern(self.group)
        if self.group is not None and self.train_per_class is not None:
            raise UserError(
                f"split.train_per_class={self.train_per_class} and split.group={self.group}: whole "
                "groups do not make equal classes; keep one of them"
            )
        if self.val is None:  # one value for one meaning, so that the run's id is the same too
            self.val = DEFAULT_VAL
        last = 0 if self.folds is None else self.folds - 1
        if not 0 <= self.fold <= last:
            folds = "split.folds=5 or another number with it" if self.folds is None else ""
            expected = folds or f"0 to {last} (split.folds - 1)"
            raise UserError(f"split.fold={self.fold}: expected {expected}")
        asked = {"test": self.test, "train_per_class": self.train_per_class, "folds": self.folds}
        given = [f"split.{key}={value}" for key, value in asked.items() if value is not None]
        if len(given) > 1:
            raise UserError(f"{' and '.join(given)}: each decides the test set; keep one of them")


def is_pattern(group: str) -> bool:
    """Whether ``split.group`` is a pattern over file names, and no name of a column."""
    return "(" in group


def _refuse_wrong_pattern(group: str | None) -> None:
    if group is None or not is_pattern(group):
        return
    try:
        count, fault = re.compile(group).groups, ""
    except re.error as error:
        count, fault = 0, f"a fault: {error}"
    if count != 1:
        raise UserError(
            rf"split.group={group}: expected a pattern with one group, such as '(writer\d+)_', or "
            f"a column of labels.csv\n  it has {fault or f'{count} groups'}"
        )


# ---------------------------------------------------------------- augment


@dataclass
class AugmentConfig(OptionConfig):
    """Random changes of the training images, drawn anew for every image and epoch.

    One of the user's own comes after these.
    """

    section: ClassVar[str] = "augment"
    name: str = key("none", "none, or an augmentation of your own", neutral=True)
    flip: bool = key(False, "random horizontal flip with probability 0.5")
    shift: float = key(0.0, "maximum shift, as a fraction of the side", at_least=0, at_most=1)
    rotate: float = key(0.0, "maximum rotation, in degrees", at_least=0, at_most=180)
    scale: float = key(0.0, "zoom by factors from 1 - scale to 1 + scale", at_least=0, below=1)
    shear: float = key(0.0, "maximum shear, in degrees", at_least=0, below=80)
    elastic: float = key(
        0.0, "maximum elastic displacement at 4x4 points, as a fraction of the side",
        at_least=0, at_most=1,
    )  # fmt: skip
    fill: str = key(
        "zeros", "what lies outside the image: zeros, border, reflection",
        one_of=("zeros", "border", "reflection"),
    )  # fmt: skip
    brightness: float = key(
        0.0, "maximum change of brightness, as a fraction of white", at_least=0, at_most=1
    )
    contrast: float = key(0.0, "maximum relative change of contrast", at_least=0, below=1)
    cutout: float = key(
        0.0, "side of the blanked square, as a fraction of the image's side", at_least=0, at_most=1
    )
    mixup: float = key(0.0, "alpha of mixup (Zhang et al., 2018); 0: none", at_least=0)
    cutmix: float = key(
        0.0, "alpha of CutMix (Yun et al., 2019); 0: none; with mixup, each has half of the images",
        at_least=0,
    )  # fmt: skip


# ---------------------------------------------------------------- train


@dataclass
class TrainConfig(Section):
    """The loop."""

    section: ClassVar[str] = "train"
    epochs: int = key(10, "passes over the training images", at_least=1)
    batch_size: int = key(32, "images per step; the last, shorter batch is used too", at_least=1)
    # The baseline CNN takes 0.15 s for 10,000 images by 250, 0.23 s by 1,000 (two cores; a large
    # batch's activations do not fit the cache); a residual network does not care.
    eval_batch_size: int = key(250, "images per step in evaluation", at_least=1)
    label_smoothing: float = key(
        0.0, "fraction of the target spread over all classes", at_least=0, below=1
    )
    class_weights: str = key(
        "none", "weight of each class in the training loss: none, or balanced by its images",
        one_of=("none", "balanced"),
    )  # fmt: skip
    ema: float | None = key(
        None, "decay of the averaged weights that are tested, such as 0.999; null: none",
        above=0, below=1,
    )  # fmt: skip
    grad_clip: float | None = key(None, "maximum gradient norm; null: no limit", above=0)
    patience: int | None = key(None, "early stopping: epochs without improvement", at_least=1)
    monitor: str = key(
        "accuracy", f"validation metric by which the best epoch is chosen: {', '.join(MONITORED)}",
        one_of=MONITORED,
    )  # fmt: skip
    weights: str = key(
        "best", "which epoch is tested: best by validation, or last", one_of=("best", "last")
    )
    tta: str = key(
        "none", "test-time augmentation: none, flip, shift (by a pixel), flip_shift",
        one_of=("none", "flip", "shift", "flip_shift"),
    )  # fmt: skip
    precision: str = key(
        "float32", "float32, or mixed: bfloat16, float16", one_of=("float32", "bfloat16", "float16")
    )
    channels_last: bool = key(True, "channels innermost in memory, which is faster")
    compile: bool = key(False, "torch.compile the model")
    checkpoint_seconds: float = key(
        60.0,
        "maximum time between two checkpoints inside an epoch",
        identity=False,
        above=0,
        finite=False,
    )


@dataclass
class SweepConfig(Section):
    """What ``tinylab train -m`` does with many jobs."""

    section: ClassVar[str] = "sweep"
    search: str = key(
        "grid", "grid: every combination; random; tpe: guided by earlier trials", identity=False,
        one_of=("grid", "random", "tpe"),
    )  # fmt: skip
    trials: int | None = key(
        None, "settings that a search (random, tpe) tries, each repeated over all swept seeds; a "
        "larger number continues it", identity=False, at_least=1,
    )  # fmt: skip
    seed: int = key(0, "seed of a search's proposals", identity=False, at_least=0, below=2**63)
    metric: str = key(
        "val_accuracy",
        f"validation metric that ranks runs and guides a search: {', '.join(CHOOSABLE)}",
        identity=False, one_of=CHOOSABLE,
    )  # fmt: skip
    prune: str = key(
        "none", "how a search stops hopeless trials: none, median, halving", identity=False,
        one_of=("none", "median", "halving"),
    )  # fmt: skip
    space: dict[str, str] = key(
        None, "what varies: key -> values as typed after -m; for YAML in conf/sweep",
        identity=False, factory=dict,
    )  # fmt: skip
    zip: list[list[str]] = key(
        None, "swept keys whose values go together, not as a product: [[model.width,optim.lr]]",
        identity=False, factory=list,
    )  # fmt: skip
    settings: list[dict[str, Any]] = key(
        None, "settings one by one: [{model.width: 16, optim.lr: 0.1}, ...]",
        identity=False, factory=list,
    )  # fmt: skip
    exclude: list[dict[str, Any]] = key(
        None, "combinations that are left out: [{model.width: 64, optim.lr: 0.1}, ...]",
        identity=False, factory=list,
    )  # fmt: skip
    nested: bool = key(
        False, "a search in each fold of split=crossval: an estimate that tuning does not flatter",
        identity=False,
    )  # fmt: skip
    keep: int | None = key(
        None, "checkpoints are kept of so many settings, the best; null: of all", identity=False,
        at_least=1,
    )  # fmt: skip
    workers: int | None = key(
        None, "processes, here or by hydra/launcher, that take trials from one study on the disk; "
        "0: this process joins them", identity=False, at_least=0,
    )  # fmt: skip
    lease: float = key(
        60.0, "seconds without a sign of life after which a worker's trials are taken over",
        identity=False, at_least=1.0,
    )  # fmt: skip
    storage: str | None = key(
        None, "where sweep.workers keep the study: a database of Optuna's (sqlite:////path.db, "
        "postgresql://...) or grpc://HOST:PORT; null: journal.log in the sweep's folder",
        identity=False,
    )  # fmt: skip
    report: str = key(
        "end", "when report.html is written: end, or live: as jobs end", identity=False,
        one_of=("end", "live"),
    )  # fmt: skip
    retry_failed: bool = key(True, "false: jobs that have failed are not run again", identity=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nested and (self.workers is not None or self.report != "end"):
            given = "workers" if self.workers is not None else "report"
            raise UserError(
                f"sweep.{given}={getattr(self, given)} with sweep.nested=true: not available; "
                "expected one of them"
            )
        if self.storage is not None and self.workers is None:
            raise UserError(
                f"sweep.storage={self.storage}: only workers share a study; expected "
                "sweep.workers=N with it"
            )
        if self.search != "grid" and self.trials is None:
            raise UserError(
                f"sweep.trials=null: expected the number of runs for sweep.search={self.search}, "
                "such as 20"
            )
        if self.search == "grid" and (self.trials is not None or self.prune != "none"):
            given = "trials" if self.trials is not None else "prune"
            raise UserError(
                f"sweep.{given}={getattr(self, given)}: a grid runs every combination to its end; "
                "expected sweep.search=random or sweep.search=tpe with it"
            )


# ---------------------------------------------------------------- the whole


@dataclass
class Config(Section):
    """Everything a run is made from."""

    dataset: DatasetConfig = key("???", "digits, mnist, scene15, ...")
    split: SplitConfig = field(default_factory=SplitConfig)
    model: ModelConfig = key("???", "baseline, mlp, resnet, ...")
    optim: OptimConfig = key("???", "adam, adamw, sgd")
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    seed: int = key(
        0, "initial weights, batch order, augmentation and dropout derive from it",
        at_least=0, below=2**63,
    )  # fmt: skip
    deterministic: bool = key(True, "the same bits again on the same machine")
    device: str = key("auto", "auto, cpu, cuda, cuda:N, mps", identity=False)
    threads: int | None = key(
        None, "CPU threads; null: by the work of a step, at most one per core", identity=False,
        at_least=1,
    )  # fmt: skip
    jobs: int | None = key(
        None, "jobs of a sweep that run at once; null: one per core, or several per GPU",
        identity=False, at_least=1,
    )  # fmt: skip
    outputs: str = key("outputs", "folder in which runs and sweeps are kept", identity=False)
    name: str | None = key(None, "a label of yours for the run or sweep", identity=False)
    fresh: bool = key(False, "re-run even if a finished result exists", identity=False)
    tracker: str = key(
        "none", "none, mlflow or wandb: mirror the run there while it trains", identity=False,
        neutral=True, one_of=("none", "mlflow", "wandb"),
    )  # fmt: skip
    code: Any = key(
        None, "your own Python file or module, or [a.py,b.py], whose models can be chosen",
        identity=False, neutral=True,
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", self.device) is None:
            raise UserError(f"device={self.device}: expected auto, cpu, cuda, cuda:N or mps")
        if self.name is not None and not is_plain_name(self.name):
            raise UserError(f"name={self.name}: expected {PLAIN_NAME}")
        files = self.code if isinstance(self.code, list) else [self.code or ""]
        if not all(isinstance(file, str) for file in files):
            raise UserError(f"code={self.code}: expected a Python file, or a list of them")
        for group in ("dataset", "model", "optim", "schedule", "augment", "loss"):
            record = getattr(self, group)
            own = type(record).name
            if record.name != own:
                raise UserError(
                    f"{group}.name={record.name}: expected {own}; another one is chosen by "
                    f"{group}=NAME"
                )
        self._refuse_beside_own_loss()
        if self.dataset.normalize is None:  # one value for one meaning, as with split.val
            kind = self._normalize_of_weights() or UNIT
            self.dataset = dataclasses.replace(self.dataset, normalize=kind)
        if self.dataset.normalize == "weights" and self._normalize_of_weights() is None:
            raise UserError(
                "dataset.normalize=weights: expected model.weights with it, a file that says how "
                "its images were normalized"
            )
        if self.split.val == 0 and self.split.folds is None and self.train.patience is not None:
            raise UserError(
                "train.patience with split.val=0: early stopping needs a validation set"
            )
        if self.split.val == 0 and self.sweep.keep is not None:
            raise UserError(
                f"sweep.keep={self.sweep.keep} with split.val=0: the best are known by a "
                "validation set; expected split.val=0.1 or another fraction"
            )
        if self.split.val == 0 and self.sweep.search != "grid":
            raise UserError(
                f"sweep.search={self.sweep.search} with split.val=0: a search is guided by a "
                "validation set, never by the test set; expected split.val=0.1 or another fraction"
            )

    def _refuse_beside_own_loss(self) -> None:
        """Label smoothing and class weights are cross-entropy's."""
        for name, neutral in (("label_smoothing", 0), ("class_weights", "none")):
            value = getattr(self.train, name)
            if value != neutral and self.loss.name != LossConfig.name:
                raise UserError(
                    f"train.{name}={value} with loss={self.loss.name}: only loss=cross_entropy has "
                    f"it\n  expected train.{name}={neutral}, or do it in your loss"
                )

    def _normalize_of_weights(self) -> str | None:
        """The normalization that fits the initial weights; None where there are none."""
        for entry in dataclasses.fields(self.model):
            kind: str | None = entry.metadata.get("normalize")
            if kind is not None and getattr(self.model, entry.name) is not None:
                return kind
        return None


PLAIN_NAME = "up to 100 letters, digits, spaces and . + - _, beginning with a letter, a digit or _"


def is_plain_name(name: str) -> bool:
    """Whether a name is fit to be that of a folder, and of no other folder: no ``..``, no ``/``."""
    return re.fullmatch(r"\w[\w .+-]{,99}", name) is not None


# ---------------------------------------------------------------- identity


def identity(record: Any, by_place: bool = False) -> dict[str, Any]:
    """The values of a config record that can change a run's result, nested as in the config.

    A key at its neutral value, which means "as before this key existed", is left out: a new key
    changes no id. Where data lies is no part of what it is, and counts as null; with ``by_place``
    it counts, as it did in older ids.
    """
    values: dict[str, Any] = {}
    for entry in dataclasses.fields(record):
        value = getattr(record, entry.name)
        counted_by = entry.metadata.get("counted_by")
        if counted_by is not None and getattr(record, counted_by) is not None:
            value = None
        if entry.metadata.get("neutral") and value == entry.default:
            continue
        if entry.metadata.get("is_place"):
            values[entry.name] = value if by_place else None
            continue
        if dataclasses.is_dataclass(value):
            if inner := identity(value, by_place):
                values[entry.name] = inner
        elif entry.metadata.get("identity", True):
            values[entry.name] = _canonical(value, entry.type)
    return values


def flatten(config: Mapping[str, Any]) -> dict[str, Any]:
    """A nested config as ``{"model": "mlp", "model.layers": 2}``: keys as they are typed."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, dict):
            flat |= {name if k == "name" else f"{name}.{k}": inner for k, inner in value.items()}
        else:
            flat[name] = value
    return flat


def _canonical(value: Any, declared: Any) -> Any:
    """1 and -0.0 as 1.0 and 0.0 where a real number is declared: equal values, equal texts."""
    is_real = is_number(value) and declared in (float, float | None)
    return value + 0.0 if is_real else value


def run_id(config: Config, by_place: bool = False) -> str:
    """``<dataset>-<model>-<hash>``: equal for equal identities, on every machine.

    The hash is the first 40 bits of SHA-256 over the identity as JSON with sorted keys. JSON
    writes a float by its shortest exact decimal, so 1e-3 and 0.001 are one value.
    """
    canonical = json.dumps(identity(config, by_place), sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    return f"{config.dataset.name}-{_file_name(config.model.name)}-{digest[:10]}"


def _file_name(option: str) -> str:
    """An option as a part of a folder's name: ``torchvision.models:Net`` as ``models.Net``."""
    module, is_named, attribute = option.partition(":")
    if not is_named:
        return option
    short = f"{module.rpartition('.')[2]}.{attribute}"
    return re.sub(r"[^\w.]", "_", short, flags=re.ASCII)[:80]
