"""The schema of a run: typed records with checked values.

Each component gets its own section (``config.optim`` goes to the optimizer, and nothing else does).
A value out of range raises UserError when the record is built, before any data is read. Every key
declares whether it can change a run's result: those that can are its identity (``identity.py``).
The records of models, datasets and optimizers are built by ``option.py`` from those of
``base_records.py``.
"""

import dataclasses
import re
from dataclasses import dataclass, field
from typing import Any, ClassVar

from tinylab.config.base_records import (
    UNIT,
    AugmentConfig,
    DatasetConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    ScheduleConfig,
    Section,
)
from tinylab.config.metrics import CHOOSABLE, MONITORED
from tinylab.config.values import key
from tinylab.errors import UserError

# ---------------------------------------------------------------- split


DEFAULT_VAL = 0.1


@dataclass
class SplitConfig(Section):
    """The train/val/test split. Only this section and the labels determine it."""

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
        None, "images per class for train and val together (Lazebnik: 100); the rest is tested, "
        "or unused where there is an official test set", at_least=1,
    )  # fmt: skip
    stratified: bool = key(False, "preserve class proportions in every part")
    folds: int | None = key(
        None, "cross-validation: fold number `fold` is held out (as test; as val if a test exists)",
        at_least=2,
    )  # fmt: skip
    fold: int = key(0, "which of the folds is held out, from 0")
    group_duplicates: bool = key(False, "keep identical images in the same part")
    train_fraction: float = key(
        1.0,
        "fraction of the training images to use; smaller fractions are subsets of larger ones",
        neutral=True, above=0, at_most=1,
    )  # fmt: skip

    group: str | None = key(
        None,
        "keep groups together: a column of labels.csv, or a pattern over file names with one "
        "(group); null: no groups",
        neutral=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_wrong_pattern(self.group)
        if self.group is not None and self.train_per_class is not None:
            raise UserError(
                f"split.train_per_class={self.train_per_class} and split.group={self.group}: whole "
                "groups cannot give equal class sizes; use one of them"
            )
        if self.val is None:  # one spelling per meaning, so that the run's id is the same too
            self.val = DEFAULT_VAL
        last = 0 if self.folds is None else self.folds - 1
        if not 0 <= self.fold <= last:
            folds = "split.folds=5 or another number as well" if self.folds is None else ""
            expected = folds or f"0 to {last} (split.folds - 1)"
            raise UserError(f"split.fold={self.fold}: expected {expected}")
        asked = {"test": self.test, "train_per_class": self.train_per_class, "folds": self.folds}
        given = [f"split.{key}={value}" for key, value in asked.items() if value is not None]
        if len(given) > 1:
            raise UserError(f"{' and '.join(given)}: each determines the test set; use one of them")


def is_pattern(group: str) -> bool:
    """Whether ``split.group`` is a pattern over file names, not the name of a column."""
    return "(" in group


def _refuse_wrong_pattern(group: str | None) -> None:
    if group is None or not is_pattern(group):
        return
    try:
        count, fault = re.compile(group).groups, ""
    except re.error as error:
        count, fault = 0, f"an error: {error}"
    if count != 1:
        raise UserError(
            rf"split.group={group}: expected a pattern with one group, such as '(writer\d+)_', or "
            f"a column of labels.csv\n  it has {fault or f'{count} groups'}"
        )


# ---------------------------------------------------------------- train


@dataclass
class TrainConfig(Section):
    """The training loop."""

    section: ClassVar[str] = "train"
    epochs: int = key(10, "number of passes over the training images", at_least=1)
    batch_size: int = key(32, "images per step; the last, smaller batch is used too", at_least=1)
    # The baseline CNN takes 0.15 s for 10,000 images in batches of 250, 0.23 s in batches of 1,000
    # (two cores; the activations of a large batch do not fit the cache); for a residual network it
    # does not matter.
    eval_batch_size: int = key(250, "images per step in evaluation", at_least=1)
    label_smoothing: float = key(
        0.0, "label smoothing: fraction of the target spread over all classes", at_least=0, below=1
    )
    class_weights: str = key(
        "none", "class weights in the training loss: none, or balanced (inversely by class size)",
        one_of=("none", "balanced"),
    )  # fmt: skip
    ema: float | None = key(
        None, "decay of an exponential moving average of the weights, which is tested; null: none",
        above=0, below=1,
    )  # fmt: skip
    grad_clip: float | None = key(None, "maximum gradient norm; null: no clipping", above=0)
    patience: int | None = key(None, "early stopping: epochs without improvement", at_least=1)
    monitor: str = key(
        "accuracy", f"validation metric that selects the best epoch: {', '.join(MONITORED)}",
        one_of=MONITORED,
    )  # fmt: skip
    weights: str = key(
        "best",
        "weights to test: of the best epoch by validation, or of the last",
        one_of=("best", "last"),
    )
    tta: str = key(
        "none", "test-time augmentation: none, or the mean over views: flip, shift (by a pixel), "
        "grid (also diagonally), flip_shift, flip_grid, flip_shift_rotate (by 10 degrees)",
        one_of=("none", "flip", "shift", "grid", "flip_shift", "flip_grid", "flip_shift_rotate"),
    )  # fmt: skip
    precision: str = key(
        "float32",
        "float32, or mixed precision: bfloat16, float16",
        one_of=("float32", "bfloat16", "float16"),
    )
    channels_last: bool = key(True, "use the channels_last memory format, which is faster")
    compile: bool = key(False, "compile the model with torch.compile")
    checkpoint_seconds: float = key(
        60.0,
        "maximum time between two checkpoints within an epoch, in seconds",
        identity=False,
        above=0,
        finite=False,
    )


@dataclass
class SweepConfig(Section):
    """The settings of ``tinylab train -m``."""

    section: ClassVar[str] = "sweep"
    search: str = key(
        "grid", "grid: all combinations; random; tpe: guided by earlier trials", identity=False,
        one_of=("grid", "random", "tpe"),
    )  # fmt: skip
    trials: int | None = key(
        None, "number of settings that a search (random, tpe) tries, each over all swept seeds; a "
        "larger number continues it", identity=False, at_least=1,
    )  # fmt: skip
    seed: int = key(0, "seed of a search's proposals", identity=False, at_least=0, below=2**63)
    metric: str = key(
        "val_accuracy",
        f"validation metric that ranks runs and guides a search: {', '.join(CHOOSABLE)}",
        identity=False, one_of=CHOOSABLE,
    )  # fmt: skip
    prune: str = key(
        "none", "pruning of hopeless trials in a search: none, median, halving", identity=False,
        one_of=("none", "median", "halving"),
    )  # fmt: skip
    space: dict[str, str] = key(
        None, "swept keys -> values as typed after -m; for YAML in conf/sweep",
        identity=False, factory=dict,
    )  # fmt: skip
    zip: list[list[str]] = key(
        None, "swept keys whose values are paired, not combined: [[model.width,optim.lr]]",
        identity=False, factory=list,
    )  # fmt: skip
    settings: list[dict[str, Any]] = key(
        None, "list of settings: [{model.width: 16, optim.lr: 0.1}, ...]",
        identity=False, factory=list,
    )  # fmt: skip
    exclude: list[dict[str, Any]] = key(
        None, "combinations to exclude: [{model.width: 64, optim.lr: 0.1}, ...]",
        identity=False, factory=list,
    )  # fmt: skip
    nested: bool = key(
        False, "run a search in each fold of split=crossval: an estimate unbiased by tuning",
        identity=False,
    )  # fmt: skip
    keep: int | None = key(
        None, "number of best settings whose checkpoints are kept; null: all", identity=False,
        at_least=1,
    )  # fmt: skip
    workers: int | None = key(
        None, "worker processes, local or by hydra/launcher, that share one study on disk; "
        "0: this process joins as a worker", identity=False, at_least=0,
    )  # fmt: skip
    lease: float = key(
        60.0, "seconds without a heartbeat after which a worker's trials are taken over",
        identity=False, at_least=1.0,
    )  # fmt: skip
    storage: str | None = key(
        None, "where sweep.workers keep the study: a database of Optuna's (sqlite:////path.db, "
        "postgresql://...) or grpc://HOST:PORT; null: journal.log in the sweep's folder",
        identity=False,
    )  # fmt: skip
    report: str = key(
        "end", "when to write report.html: end, or live (whenever a job ends)", identity=False,
        one_of=("end", "live"),
    )  # fmt: skip
    retry_failed: bool = key(True, "re-run failed jobs", identity=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nested and self.report != "end":
            raise UserError(
                f"sweep.report={self.report} with sweep.nested=true: not available; expected one "
                "of them"
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
                f"sweep.{given}={getattr(self, given)}: a grid runs all combinations to the end; "
                "use it with sweep.search=random or sweep.search=tpe"
            )


# ---------------------------------------------------------------- the full config


@dataclass
class Config(Section):
    """The full config of a run."""

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
        0, "seed of initial weights, batch order, augmentation and dropout",
        at_least=0, below=2**63,
    )  # fmt: skip
    deterministic: bool = key(True, "bit-identical results on the same machine")
    device: str = key("auto", "auto, cpu, cuda, cuda:N, mps", identity=False)
    threads: int | None = key(
        None, "CPU threads; null: by the work per step, at most one per core", identity=False,
        at_least=1,
    )  # fmt: skip
    jobs: int | None = key(
        None, "number of parallel jobs of a sweep; null: one per core, or several per GPU",
        identity=False, at_least=1,
    )  # fmt: skip
    outputs: str = key("outputs", "folder for runs and sweeps", identity=False)
    name: str | None = key(None, "your own label for the run or sweep", identity=False)
    fresh: bool = key(False, "re-run even if a finished result exists", identity=False)
    tracker: str = key(
        "none", "also log the run to a tracking service: none, mlflow or wandb", identity=False,
        neutral=True, one_of=("none", "mlflow", "wandb"),
    )  # fmt: skip
    code: Any = key(
        None, "your own Python file or module, or [a.py,b.py], that defines models etc.",
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
                    f"{group}.name={record.name}: expected {own}; choose another one by "
                    f"{group}=NAME"
                )
        self._refuse_beside_own_loss()
        if self.dataset.normalize is None:  # one spelling per meaning, as with split.val
            kind = self._normalize_of_weights() or UNIT
            self.dataset = dataclasses.replace(self.dataset, normalize=kind)
        if self.dataset.normalize == "weights" and self._normalize_of_weights() is None:
            raise UserError(
                "dataset.normalize=weights: needs model.weights, a file that records how "
                "its images were normalized"
            )
        if self.split.val == 0 and self.split.folds is None and self.train.patience is not None:
            raise UserError(
                "train.patience with split.val=0: early stopping needs a validation set"
            )
        if self.split.val == 0 and self.sweep.keep is not None:
            raise UserError(
                f"sweep.keep={self.sweep.keep} with split.val=0: the best settings are selected "
                "by a validation set; expected split.val=0.1 or another fraction"
            )
        if self.split.val == 0 and self.sweep.search != "grid":
            raise UserError(
                f"sweep.search={self.sweep.search} with split.val=0: a search is guided by a "
                "validation set, never by the test set; expected split.val=0.1 or another fraction"
            )

    def _refuse_beside_own_loss(self) -> None:
        """Refuse label smoothing and class weights for losses other than cross-entropy."""
        for name, neutral in (("label_smoothing", 0), ("class_weights", "none")):
            value = getattr(self.train, name)
            if value != neutral and self.loss.name != LossConfig.name:
                raise UserError(
                    f"train.{name}={value} with loss={self.loss.name}: only loss=cross_entropy "
                    f"supports it\n  expected train.{name}={neutral}, or implement it in your loss"
                )

    def _normalize_of_weights(self) -> str | None:
        """Return the normalization that fits the initial weights; None without weights."""
        for entry in dataclasses.fields(self.model):
            kind: str | None = entry.metadata.get("normalize")
            if kind is not None and getattr(self.model, entry.name) is not None:
                return kind
        return None


PLAIN_NAME = "up to 100 letters, digits, spaces and . + - _, starting with a letter, a digit or _"


def is_plain_name(name: str) -> bool:
    """Return whether a name is valid for a folder, and unambiguous: no ``..``, no ``/``."""
    return re.fullmatch(r"\w[\w .+-]{,99}", name) is not None
