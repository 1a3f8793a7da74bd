"""The schema: what is refused, in which words, and what decides a run's identity."""

import dataclasses
import inspect
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from option_records import (
    AdamConfig,
    AdamwConfig,
    ArraysConfig,
    BaselineConfig,
    DigitsConfig,
    FolderConfig,
    MlpConfig,
    MnistConfig,
    MuonConfig,
    ResnetConfig,
    Scene15Config,
    SgdConfig,
    TimmConfig,
    TorchOptimConfig,
    TorchvisionConfig,
    TorchvisionSetConfig,
)
from tinylab.config import base_records, compose, identity, schema
from tinylab.config.base_records import (
    AugmentConfig,
    DatasetConfig,
    LossConfig,
    ModelConfig,
    ModelKeys,
    OptimConfig,
    OptionConfig,
    ScheduleConfig,
    Section,
)
from tinylab.config.identity import flatten, run_id
from tinylab.config.keys import completed
from tinylab.config.option import FOLDERS
from tinylab.config.options import options as option_table
from tinylab.config.schema import Config, SplitConfig, SweepConfig, TrainConfig
from tinylab.config.values import did_you_mean, key, shown
from tinylab.errors import UserError

ABSTRACT = {Section, OptionConfig, DatasetConfig, ModelConfig, ModelKeys, OptimConfig}
SECTIONS = [
    "dataset", "split", "model", "optim", "schedule", "augment", "loss", "train", "sweep",
]  # fmt: skip

# Every field of every record, with another value that is allowed. A new field belongs into one of
# these two tables: COUNTS if it can change a result, else SPARED.
FOLDER = {
    "content": "0123", "image_size": 16, "normalize": "standard",
    "interpolation": "area", "skip_bad": True,
}  # fmt: skip
OPTIM = {
    "lr": 0.25, "weight_decay": 0.5, "schedule": "cosine", "warmup": 0.1, "final": 0.1,
    "backbone_lr": 0.1,
}  # fmt: skip
MODEL = {"weights": "net.pt", "weights_content": "0123", "freeze": "backbone"}
ADAM = {**OPTIM, "beta1": 0.5, "beta2": 0.5, "eps": 0.1}
COUNTS: dict[type, dict[str, Any]] = {
    DigitsConfig: {"image_size": 9, "normalize": "standard"},
    MnistConfig: {"image_size": 32, "normalize": "standard"},
    FolderConfig: {**FOLDER, "grayscale": True, "source_size": 18},
    Scene15Config: {**FOLDER, "grayscale": False, "source_size": 18},
    ArraysConfig: {"image_size": 9, "normalize": "standard", "content": "00"},
    TorchvisionSetConfig: {
        "set": "SVHN", "split": "letters", "image_size": 9, "normalize": "standard",
    },
    SplitConfig: {
        "seed": 1, "val": 0.2, "test": 0.2, "train_per_class": 5, "stratified": True, "folds": 3,
        "fold": 1, "group_duplicates": True, "group": "writer",
        "train_fraction": 0.5,
    },
    BaselineConfig: {
        "filters": 5, "kernel_size": 5, "hidden": 5, "dropout": 0.5, "init": "glorot", **MODEL,
    },
    MlpConfig: {"hidden": 5, "layers": 1, "dropout": 0.5, **MODEL},
    ResnetConfig: {
        "width": 5, "depth": 2, "stages": 2, "stem_stride": 2, "squeeze": 2, "dropout": 0.5,
        "growth": 1.5, **MODEL,
    },
    TimmConfig: {"arch": "vgg11", **MODEL},
    TorchvisionConfig: {"arch": "vgg11", **MODEL},
    AdamConfig: ADAM,
    AdamwConfig: {**ADAM, "schedule": "onecycle"},
    MuonConfig: {**OPTIM, "momentum": 0.5, "rest_lr": 0.5},
    SgdConfig: {**OPTIM, "momentum": 0.5, "nesterov": False},
    TorchOptimConfig: {**OPTIM, "algorithm": "Adamax", "args": {"eps": 0.1}},
    ScheduleConfig: {},
    LossConfig: {},
    AugmentConfig: {
        "flip": True, "shift": 0.1, "rotate": 10.0, "scale": 0.1, "shear": 10.0, "fill": "border",
        "brightness": 0.1, "contrast": 0.1, "cutout": 0.1, "mixup": 0.1, "cutmix": 0.1,
        "elastic": 0.1, "no_aug_epochs": 1,
    },
    TrainConfig: {
        "epochs": 5, "batch_size": 5, "eval_batch_size": 5, "label_smoothing": 0.1, "ema": 0.9,
        "class_weights": "balanced",
        "grad_clip": 1.0,
        "patience": 5, "monitor": "loss", "weights": "last", "precision": "bfloat16",
        "channels_last": False, "compile": True, "tta": "flip",
    },
    SweepConfig: {},
    Config: {"seed": 1, "deterministic": False},
}  # fmt: skip
SPARED: dict[type, dict[str, Any]] = {
    MnistConfig: {"root": "/elsewhere"},
    FolderConfig: {"root": "/elsewhere"},
    Scene15Config: {"root": "/elsewhere", "url": "https://example.org/other.zip"},
    ArraysConfig: {"file": "/elsewhere.npz"},
    TorchvisionSetConfig: {"root": "/elsewhere"},
    TrainConfig: {"checkpoint_seconds": 5.0},
    SweepConfig: {
        "search": "tpe", "trials": 5, "seed": 1, "metric": "val_loss", "prune": "median",
        "space": {"seed": "range(2)"}, "retry_failed": False, "nested": True, "keep": 3,
        "zip": [["seed", "split.seed"]], "settings": [{"seed": 1}], "exclude": [{"seed": 1}],
        "workers": 2, "lease": 5.0, "report": "live", "storage": "sqlite:////s.db",
    },
    Config: {
        "outputs": "/o", "name": "mine", "device": "cpu", "threads": 1, "fresh": True, "jobs": 2,
        "code": "tiny.py", "tracker": "mlflow",
    },
}  # fmt: skip
NEEDED: dict[tuple[type, str | None], dict[str, Any]] = {
    (SplitConfig, "fold"): {"folds": 3},
    (FolderConfig, None): {"root": "/data/photos"},
    (ArraysConfig, None): {"file": "/data/x.npz"},
    (TorchvisionSetConfig, None): {"set": "USPS"},
    (TorchOptimConfig, None): {"algorithm": "RMSprop"},
    (SweepConfig, "search"): {"search": "random", "trials": 5},
    (SweepConfig, "trials"): {"search": "tpe", "trials": 9},
    (SweepConfig, "prune"): {"search": "tpe", "trials": 5},
    (SweepConfig, "storage"): {"workers": 2},
}

GOLDEN_IDS = {
    (DigitsConfig, BaselineConfig): "digits-baseline-fca0f9241d",
    (DigitsConfig, MlpConfig): "digits-mlp-8b7c6b79c0",
    (DigitsConfig, ResnetConfig): "digits-resnet-5145bc4d8f",
    (DigitsConfig, TorchvisionConfig): "digits-torchvision-84af0812f2",
    (MnistConfig, BaselineConfig): "mnist-baseline-fa88b09479",
    (MnistConfig, ResnetConfig): "mnist-resnet-27e42d4f41",
    (Scene15Config, BaselineConfig): "scene15-baseline-439141b4f8",
    (Scene15Config, ResnetConfig): "scene15-resnet-559845d587",
}
# Of before an id forgot where the images lie.
GOLDEN_IDS_BY_PLACE = {
    (FolderConfig, BaselineConfig): "folder-baseline-a62963b687",
    (FolderConfig, MlpConfig): "folder-mlp-7e93d7fe51",
}


def records() -> list[type]:
    """Every record of the schema."""
    names = vars(base_records) | vars(schema)
    classes = [result for result in names.values() if inspect.isclass(result)]
    options = [each.record for group in FOLDERS for each in option_table(group).values()]
    return [result for result in [*classes, *options] if dataclasses.is_dataclass(result)]


def make(record: type, field: str | None = None, **values: Any) -> Any:
    """A record with ``values``, and with what the record or its field cannot do without."""
    needed = {**NEEDED.get((record, None), {}), **NEEDED.get((record, field), {})}
    if record is Config:
        needed = {"dataset": DigitsConfig(), "model": MlpConfig(), "optim": AdamConfig()}
    return record(**{**needed, **values})


def section_of(record: type) -> str:
    """The section of the config in which a record stands; empty for the whole."""
    if record is Config:
        return ""
    words = {DatasetConfig: "dataset", ModelConfig: "model", OptimConfig: "optim"}
    for base, name in words.items():
        if issubclass(record, base):
            return name
    return record.__name__.removesuffix("Config").lower()


def whole(record: type, value: Any) -> Any:
    """A whole config that has ``value``, a record, in its place."""
    return value if record is Config else make(Config, **{section_of(record): value})


def id_with(record: type, field: str, changed: dict[str, Any]) -> str:
    return run_id(whole(record, make(record, field, **changed)))


# ---------------------------------------------------------------- identity


def test_every_field_is_known_to_count_for_the_identity_or_not() -> None:
    for record in set(records()) - ABSTRACT:
        known = {*COUNTS[record], *SPARED.get(record, {})}
        known |= set(SECTIONS) if record is Config else set()
        fields = {field.name for field in dataclasses.fields(record)}
        assert fields - {"name"} == known - {"name"}, record  # a record's name always counts


@pytest.mark.parametrize(
    ("record", "field"), [(record, field) for record in COUNTS for field in COUNTS[record]]
)
def test_a_field_that_counts_changes_the_id(record: type, field: str) -> None:
    changed = {field: COUNTS[record][field]}
    assert id_with(record, field, changed) != id_with(record, field, {})


@pytest.mark.parametrize(
    ("record", "field"), [(record, field) for record in SPARED for field in SPARED[record]]
)
def test_a_field_that_does_not_count_leaves_the_id_alone(record: type, field: str) -> None:
    changed = {field: SPARED[record][field]}
    assert make(record, field, **changed) != make(record, field)
    assert id_with(record, field, changed) == id_with(record, field, {})


@pytest.mark.parametrize(("records", "golden"), GOLDEN_IDS.items())
def test_ids_are_what_they_were(records: tuple[type, type], golden: str) -> None:
    dataset, model = records
    assert run_id(make(Config, dataset=make(dataset), model=make(model))) == golden


@pytest.mark.parametrize(("records", "golden"), GOLDEN_IDS_BY_PLACE.items())
def test_ids_of_data_of_ones_own_were_by_its_place(records: tuple[type, type], golden: str) -> None:
    dataset, model = records
    config = make(Config, dataset=make(dataset), model=make(model))
    assert run_id(config, by_path=True) == golden
    assert run_id(config) != golden


def test_a_new_key_at_its_neutral_value_changes_no_id() -> None:
    @dataclasses.dataclass
    class Newer(SplitConfig):
        repeats: int = key(1, "a key of tomorrow", neutral=True, at_least=1)

    before = run_id(make(Config))
    assert run_id(dataclasses.replace(make(Config), split=Newer())) == before
    assert run_id(dataclasses.replace(make(Config), split=Newer(repeats=2))) != before


def test_a_run_of_before_a_key_existed_has_it_at_its_neutral_value() -> None:
    before = {"dataset": "digits", "model": "mlp", "augment.flip": True, "loss": "mine"}
    result = completed(before)
    assert result == {**result, **before, "schedule": "default", "augment": "none"}
    assert completed(result) == result
    now = flatten(dataclasses.asdict(make(Config)))
    neutral = {key for key in result if key not in before}
    assert all(now[key] == result[key] for key in neutral)


def test_names_of_records_are_part_of_the_identity() -> None:
    adamw = AdamwConfig(weight_decay=0.0, schedule="constant", warmup=None)
    values = identity.identity(make(Config, optim=adamw))
    assert values["optim"] == {**identity.identity(AdamConfig()), "name": "adamw"}
    assert values["dataset"]["name"] == "digits"
    assert "sweep" not in values


def test_equal_numbers_give_equal_ids() -> None:
    ids = {run_id(make(Config, optim=AdamConfig(lr=lr))) for lr in (1e-3, 0.001, 10**-3)}
    whole_numbers = {run_id(make(Config, optim=AdamConfig(lr=lr))) for lr in (1, 1.0)}
    zeros = {run_id(make(Config, split=SplitConfig(val=val))) for val in (0, 0.0, -0.0)}
    optional = {run_id(make(Config, train=TrainConfig(grad_clip=norm))) for norm in (1, 1.0)}
    assert [len(same) for same in (ids, whole_numbers, zeros, optional)] == [1, 1, 1, 1]


def test_the_order_of_keys_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    before = run_id(make(Config))
    forwards = identity.identity

    def backwards(record: Any, by_path: bool = False) -> dict[str, Any]:
        return dict(reversed(forwards(record, by_path).items()))

    monkeypatch.setattr(identity, "identity", backwards)
    assert list(backwards(make(Config))) != list(forwards(make(Config)))
    assert run_id(make(Config)) == before


@given(st.floats(min_value=1e-300, max_value=1e300), st.floats(min_value=1e-300, max_value=1e300))
def test_different_learning_rates_have_different_ids(one: float, other: float) -> None:
    ids = [run_id(make(Config, optim=AdamConfig(lr=lr))) for lr in (one, other)]
    assert (ids[0] == ids[1]) == (one == other)


# ---------------------------------------------------------------- values out of range

SHARE = [-0.1, 1.0, 1.5]  # out of range where 0 to below 1 is expected
OUT_OF_RANGE: dict[type, dict[str, list[Any]]] = {
    DigitsConfig: {"image_size": [0, 7, 1025], "normalize": ["Unit", ""]},
    MnistConfig: {"image_size": [0, 27, 1025], "normalize": ["standart"]},
    FolderConfig: {
        "image_size": [0, 1025], "normalize": ["units"], "interpolation": ["bilinear"],
        "source_size": [0, 2049],
    },
    Scene15Config: {
        "image_size": [0], "source_size": [0], "normalize": ["none"],
        "interpolation": ["bilinear"],
    },
    ArraysConfig: {"image_size": [0, 1025], "normalize": ["none"]},
    TorchvisionSetConfig: {
        "set": ["CIFAR1O", "ImageNet", "CelebA", "LFWPeople"], "split": ["letter"],
        "image_size": [0, 1025], "normalize": ["none"],
    },
    SplitConfig: {
        "seed": [-1, 2**63], "val": SHARE, "test": [-0.1, 0.0, 1.0], "train_per_class": [0, -1],
        "folds": [1, 0], "fold": [-1, 3], "group": [r"(\d+", "(a)(b)"],
        "train_fraction": [-0.1, 0.0, 1.1],
    },
    BaselineConfig: {
        "filters": [0], "kernel_size": [0], "hidden": [0], "dropout": SHARE, "init": ["keras"],
        "freeze": ["(", "layer["],
    },
    MlpConfig: {"freeze": ["*"], "hidden": [0], "layers": [-1], "dropout": SHARE},
    ResnetConfig: {
        "width": [0], "depth": [0], "stages": [0, 9], "stem_stride": [0, 3], "squeeze": [0],
        "dropout": SHARE, "freeze": ["(?"], "growth": [0.9, 4.1],
    },
    AdamConfig: {
        "lr": [0.0, -1.0, math.inf], "weight_decay": [-0.1, math.inf], "schedule": ["linear"],
        "warmup": SHARE, "final": [-0.1, 1.1], "backbone_lr": [-0.1, math.inf],
        "beta1": SHARE, "beta2": SHARE,
        "eps": [0.0, -1.0, math.inf],
    },
    AdamwConfig: {"weight_decay": [-0.1], "beta2": SHARE},
    MuonConfig: {"lr": [0.0], "momentum": SHARE, "rest_lr": [0.0, math.inf]},
    SgdConfig: {"lr": [0.0], "momentum": SHARE},
    TorchOptimConfig: {"lr": [0.0], "weight_decay": [-0.1]},
    AugmentConfig: {
        "shift": [-0.1, 1.1], "brightness": [-0.1, 1.1], "cutout": [-0.1, 1.1], "scale": SHARE,
        "contrast": SHARE, "rotate": [-1.0, 181.0], "shear": [-1.0, 80.0], "fill": ["wrap"],
        "mixup": [-0.1, math.inf], "cutmix": [-0.1, math.inf], "elastic": [-0.1, 1.1],
        "no_aug_epochs": [-1],
    },
    TrainConfig: {
        "epochs": [0], "batch_size": [0], "eval_batch_size": [0], "label_smoothing": SHARE,
        "ema": [0.0, 1.0], "grad_clip": [0.0, -1.0, math.inf], "patience": [0],
        "monitor": ["f1"], "weights": ["first"], "precision": ["float64"],
        "class_weights": ["balance", "None"],
        "checkpoint_seconds": [0.0, -1.0], "tta": ["mirror"],
    },
    SweepConfig: {
        "keep": [0, -1], "workers": [-1], "lease": [0.0, 0.5], "report": ["now", ""],
        "search": ["Grid", "bayes"], "trials": [0, -1], "seed": [-1, 2**63],
        "metric": ["test_accuracy", "accuracy"], "prune": ["mean", ""],
    },
    Config: {
        "code": [3, [1]], "tracker": ["MLflow", ""],
        "seed": [-1, 2**63], "device": ["gpu", "cuda:", "CPU", "cpu "], "threads": [0],
        "jobs": [0, -1], "name": ["", "../x", "a/b", "\n"],
    },
}  # fmt: skip
ALLOWED_EDGES: dict[type, dict[str, list[Any]]] = {
    DigitsConfig: {"image_size": [8, 1024]},
    MnistConfig: {"image_size": [28]},
    FolderConfig: {"image_size": [1, 1024], "interpolation": ["nearest", "cubic", "lanczos"]},
    SplitConfig: {
        "seed": [2**63 - 1],
        "val": [0, 0.99],
        "folds": [2],
        "fold": [0, 2],
        "train_fraction": [1],
    },
    BaselineConfig: {"filters": [1], "kernel_size": [1], "hidden": [1], "dropout": [0, 0.99]},
    MlpConfig: {"layers": [0]},
    ResnetConfig: {"width": [1], "depth": [1], "stages": [1, 8]},
    AdamConfig: {"warmup": [0, 0.99], "final": [0, 1], "beta1": [0], "schedule": ["onecycle"]},
    AugmentConfig: {"shift": [1], "scale": [0.99], "rotate": [180], "shear": [79.9]},
    TrainConfig: {"epochs": [1], "batch_size": [1], "checkpoint_seconds": [math.inf]},
    Config: {"device": ["auto", "mps", "cuda", "cuda:11"], "name": ["a b-c_1.+"], "seed": [0]},
}


def cases(table: dict[type, dict[str, list[Any]]]) -> list[tuple[type, str, Any]]:
    return [(r, field, value) for r, row in table.items() for field in row for value in row[field]]


@pytest.mark.parametrize(("record", "field", "value"), cases(OUT_OF_RANGE))
def test_a_value_out_of_range_is_refused_by_key_and_value(
    record: type, field: str, value: Any
) -> None:
    with pytest.raises(UserError) as refusal:
        make(record, field, **{field: value})
    key = f"{section_of(record)}.{field}".removeprefix(".")
    assert str(refusal.value).startswith(f"{key}={shown(value)}: expected ")


@pytest.mark.parametrize(("record", "field", "value"), cases(ALLOWED_EDGES))
def test_the_edges_of_a_range_are_allowed(record: type, field: str, value: Any) -> None:
    assert getattr(make(record, field, **{field: value}), field) == value


def test_every_limited_field_is_tried_out_of_range() -> None:
    unlimited = (
        {"code"}
        | {
            "name",
            "content",
            "file",
            "root",
            "url",
            "arch",
            "outputs",
            "weights",
            "weights_content",
            "space",
            "zip",
            "settings",
            "exclude",
            "storage",
        }
        | set(SECTIONS)
    )
    for record in set(OUT_OF_RANGE) - {AdamwConfig, MuonConfig, SgdConfig, TorchOptimConfig}:
        fields = {field.name for field in dataclasses.fields(record) if field.type is not bool}
        assert fields - set(OUT_OF_RANGE[record]) <= unlimited, record


def test_not_a_number_is_refused_everywhere() -> None:
    for record in set(records()) - ABSTRACT:
        for field in dataclasses.fields(record):
            if field.type in (float, float | None):
                with pytest.raises(UserError, match=f"{field.name}=nan"):
                    make(record, field.name, **{field.name: math.nan})


# ---------------------------------------------------------------- values that do not go together


def test_a_folder_of_images_needs_to_be_named() -> None:
    with pytest.raises(UserError, match=r"dataset\.root=null: expected the folder"):
        FolderConfig()


def test_one_of_torchvisions_datasets_needs_to_be_named() -> None:
    with pytest.raises(UserError, match=r"dataset\.set=null: expected the name of one of"):
        TorchvisionSetConfig()
    with pytest.raises(UserError, match=r"dataset\.set=ImageNet: expected one of MNIST, Fashion"):
        TorchvisionSetConfig(set="ImageNet")


def test_an_optimizer_of_torchs_needs_to_be_named() -> None:
    with pytest.raises(UserError, match=r"optim\.algorithm=null: expected the name of a class"):
        TorchOptimConfig()


def test_label_smoothing_and_class_weights_are_those_of_cross_entropy() -> None:
    own = dataclasses.make_dataclass("Own", [("name", str, "mine")], bases=(LossConfig,))
    for values in ({"label_smoothing": 0.1}, {"class_weights": "balanced"}):
        [(key, value)] = values.items()
        with pytest.raises(UserError, match=rf"train\.{key}={value} with loss=mine: only"):
            make(Config, train=TrainConfig(**values), loss=own())
        make(Config, train=TrainConfig(**values))
    make(Config, loss=own())


def test_only_datasets_that_know_their_size_take_null_for_it() -> None:
    assert ArraysConfig(file="x").image_size is None
    with pytest.raises(UserError, match=r"dataset\.image_size=null: expected an integer"):
        compose.run_hydra(lambda _: None, ["dataset.image_size=null"])


def test_only_one_option_may_decide_the_test_set() -> None:
    with pytest.raises(UserError, match=r"split\.test=0\.2 and split\.folds=3: .* use one"):
        SplitConfig(test=0.2, folds=3)
    with pytest.raises(UserError, match=r"split\.train_per_class=5 and split\.folds=3"):
        SplitConfig(train_per_class=5, folds=3)


def test_a_fold_without_folds_is_refused() -> None:
    with pytest.raises(UserError, match=r"split\.fold=1: expected split\.folds=5 or"):
        SplitConfig(fold=1)


def test_nesterov_needs_momentum() -> None:
    with pytest.raises(UserError, match=r"optim\.nesterov=true: expected optim\.momentum above 0"):
        SgdConfig(momentum=0)
    assert SgdConfig(momentum=0, nesterov=False).momentum == 0


def test_early_stopping_needs_a_validation_set() -> None:
    patient = TrainConfig(patience=3)
    with pytest.raises(UserError, match=r"train\.patience with split\.val=0"):
        make(Config, train=patient, split=SplitConfig(val=0))
    make(Config, train=patient, split=SplitConfig(val=0, folds=5))  # a fold may validate


def test_a_search_needs_a_number_of_trials_and_a_validation_set() -> None:
    with pytest.raises(UserError, match=r"sweep\.trials=null: expected the number of runs"):
        SweepConfig(search="tpe")
    tpe = SweepConfig(search="tpe", trials=5)
    with pytest.raises(UserError, match=r"sweep\.search=tpe with split\.val=0"):
        make(Config, sweep=tpe, split=SplitConfig(val=0))


@pytest.mark.parametrize("values", [{"trials": 5}, {"prune": "median"}])
def test_what_only_a_search_does_is_refused_for_a_grid(values: dict[str, Any]) -> None:
    [(key, value)] = values.items()
    with pytest.raises(UserError, match=rf"sweep\.{key}={value}: a grid runs all combinations"):
        SweepConfig(**values)


@pytest.mark.parametrize(
    ("group", "record", "own"),
    [("dataset", DigitsConfig, "digits"), ("model", MlpConfig, "mlp"), ("optim", SgdConfig, "sgd")],
)
def test_the_name_of_a_record_cannot_be_changed(group: str, record: type, own: str) -> None:
    with pytest.raises(UserError, match=rf"{group}\.name=other: expected {own}; .* {group}=NAME"):
        make(Config, **{group: make(record, name="other")})


# ---------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("typed", "known", "hint"),
    [
        ("adm", ["adam", "sgd"], " (did you mean 'adam'?)"),
        ("onecycl", ["constant", "cosine", "onecycle"], " (did you mean 'onecycle'?)"),
        ("zzz", ["adam", "sgd"], ""),
        ("x", [], ""),
    ],
)
def test_a_near_word_is_suggested(typed: str, known: list[str], hint: str) -> None:
    assert did_you_mean(typed, known) == hint


def test_a_wrong_choice_lists_the_right_ones_and_the_nearest() -> None:
    with pytest.raises(UserError) as refusal:
        AdamConfig(schedule="cosin")
    assert str(refusal.value) == (
        "optim.schedule=cosin: expected one of constant, cosine, onecycle (did you mean 'cosine'?)"
    )


def test_values_are_shown_as_they_are_typed() -> None:
    assert [shown(value) for value in (None, True, False, 0.1, 3, "x")] == [
        "null", "true", "false", "0.1", "3", "x",
    ]  # fmt: skip


def test_every_field_explains_itself() -> None:
    for record in records():
        for field in dataclasses.fields(record):
            is_plain = field.name == "name" or field.name in SECTIONS
            assert is_plain or len(field.metadata["help"]) > 5, (record, field.name)
