"""The keys shared by all options of a config group: one base record per group.

``option.py`` derives the records of the options from them, with the keys that each declares.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from tinylab.config.values import check, key
from tinylab.errors import UserError


@dataclass
class Section:
    """A section of the config: its values are checked on construction."""

    section: ClassVar[str] = ""

    def __post_init__(self) -> None:
        check(self, self.section)


@dataclass
class OptionConfig(Section):
    """A section whose keys depend on the selected option."""

    name: str = key("???", "the selected option; set by dataset=NAME, model=NAME, optim=NAME, ...")

    def __reduce__(self) -> Any:
        # The class of an option's record is created at run time, so it is pickled by name.
        from tinylab.config.options import options, restored

        option = options(self.section).get(self.name)
        file = option.file if option is not None and option.is_of_file else None
        return restored, (self.section, vars(self), file)


UNIT = "unit"


@dataclass
class DatasetConfig(OptionConfig):
    """The keys of every dataset; each option adds its own."""

    section: ClassVar[str] = "dataset"
    image_size: int | None = key(
        32, "height and width of the prepared images, in pixels", at_least=1, at_most=1024
    )
    normalize: str | None = key(
        None,
        "unit: pixels / 255; standard: by the training set's per-channel mean and std; imagenet: "
        "by ImageNet's statistics; weights: as recorded in the file of model.weights; "
        "null: unit, or as model.weights requires",
        one_of=("unit", "standard", "imagenet", "weights"), stands_for=UNIT,
    )  # fmt: skip


@dataclass
class ModelConfig(OptionConfig):
    """Any model. Without keys, so that a user's model may have keys of any name and type."""

    section: ClassVar[str] = "model"


SCHEDULES = ("constant", "cosine", "onecycle")


@dataclass
class ModelKeys(ModelConfig):
    """The keys of every model; each option adds its own."""

    weights: str | None = key(
        None, "file of initial weights, such as those of tinylab export --to state_dict",
        neutral=True, initial=True, counted_by="weights_content", normalize="weights",
    )  # fmt: skip
    weights_content: str | None = key(
        None, "digest of the file, or the full name of pretrained weights; filled in",
        neutral=True, initial=True,
    )  # fmt: skip
    freeze: str = key(
        "none", "frozen parameters: none; backbone, all but the last layer; or a regular "
        "expression matched at the start of parameter names, such as layer[12]",
        neutral=True, pattern="none, backbone, or a regular expression over parameter names",
    )  # fmt: skip


@dataclass
class OptimConfig(OptionConfig):
    """The keys of every optimizer. Weight decay excludes biases and norms."""

    section: ClassVar[str] = "optim"
    lr: float = key(0.001, "peak learning rate", above=0)
    weight_decay: float = key(0.0, "weight decay (biases and norms excluded)", at_least=0)
    schedule: str = key("constant", "constant, cosine, or onecycle", one_of=SCHEDULES)
    warmup: float | None = key(
        None,
        "warmup as a fraction of all steps; null: 0, or 0.3 for onecycle",
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
                f"optim.schedule={self.schedule}: expected a built-in schedule; choose yours by "
                f"schedule={self.schedule}"
            )
        super().__post_init__()


@dataclass
class ScheduleConfig(OptionConfig):
    """The learning-rate schedule: that of ``optim.schedule``, or the user's own."""

    section: ClassVar[str] = "schedule"
    name: str = key("default", "default: optim.schedule; or your own schedule", neutral=True)


@dataclass
class LossConfig(OptionConfig):
    """The training loss."""

    section: ClassVar[str] = "loss"
    name: str = key("cross_entropy", "cross_entropy, or your own loss", neutral=True)


@dataclass
class AugmentConfig(OptionConfig):
    """Random augmentation of the training images, independent for every image and epoch.

    The user's own augmentation is applied after these.
    """

    section: ClassVar[str] = "augment"
    name: str = key("none", "none, or your own augmentation", neutral=True)
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
        "zeros", "padding outside the image: zeros, border, reflection",
        one_of=("zeros", "border", "reflection"),
    )  # fmt: skip
    brightness: float = key(
        0.0, "maximum change of brightness, as a fraction of white", at_least=0, at_most=1
    )
    contrast: float = key(0.0, "maximum relative change of contrast", at_least=0, below=1)
    cutout: float = key(
        0.0,
        "side of the square set to the image's mean, as a fraction of the image's side",
        at_least=0,
        at_most=1,
    )
    mixup: float = key(0.0, "alpha of mixup (Zhang et al., 2018); 0: none", at_least=0)
    cutmix: float = key(
        0.0, "alpha of CutMix (Yun et al., 2019); 0: none; with mixup, each applies to half of "
        "the images",
        at_least=0,
    )  # fmt: skip
    no_aug_epochs: int = key(
        0, "number of last epochs without augmentation (Ge et al., YOLOX, 2021)",
        neutral=True, at_least=0,
    )  # fmt: skip
