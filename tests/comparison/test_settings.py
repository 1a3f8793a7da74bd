"""Runs grouped by everything but their seeds."""

import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compare_kit import edit_result, write_run
from tinylab.comparison.settings import Setting, families, group, varied
from tinylab.config.keys import SEEDS
from tinylab.errors import UserError
from tinylab.store.collect import collect
from tinylab.store.folder import RunFolder
from tinylab.store.run import Run


def grouped(folder: Path, *by: str, metric: str = "val_accuracy") -> list[Setting]:
    runs, skipped = collect([folder])
    assert skipped == []
    return group(runs, by or None, metric)


def labels(folder: Path, *by: str) -> list[str]:
    return [setting.label for setting in grouped(folder, *by)]


def test_seeds_are_repetitions_and_the_best_validation_comes_first(tmp_path: Path) -> None:
    for seed in range(3):
        write_run(tmp_path, val=0.90, seed=seed, model__filters=4)
        write_run(tmp_path, val=0.95, split__seed=seed, model__filters=8)
        write_run(tmp_path, val=0.85, split__folds=3, split__fold=seed, model__filters=8)
    result = grouped(tmp_path)
    assert [setting.label for setting in result] == [
        "split.folds=null model.filters=8",
        "split.folds=null model.filters=4",
        "split.folds=3 model.filters=8",
    ]
    assert [len(setting.runs) for setting in result] == [3, 3, 3]
    assert [run.values["seed"] for run in result[1].runs] == [0, 1, 2]


def test_the_metric_decides_the_order(tmp_path: Path) -> None:
    for filters, accuracy, loss in ((4, 0.9, 0.3), (8, 0.8, 0.2)):
        folder = write_run(tmp_path, val=accuracy, model__filters=filters)
        edit_result(folder, val__loss=loss)
    assert labels(tmp_path) == ["model.filters=4", "model.filters=8"]
    by_loss = grouped(tmp_path, metric="val_loss")
    assert [setting.label for setting in by_loss] == ["model.filters=8", "model.filters=4"]


def test_without_validation_settings_come_last_in_the_order_of_their_values(
    tmp_path: Path,
) -> None:
    for filters in (16, 4, 8):
        write_run(tmp_path, val=None, model__filters=filters, split__val=0.0)
    write_run(tmp_path, val=0.5, model__filters=32, split__val=0.0)
    assert labels(tmp_path) == [f"model.filters={filters}" for filters in (32, 4, 8, 16)]


def test_a_lone_setting_is_called_by_its_dataset_and_model(tmp_path: Path) -> None:
    write_run(tmp_path)
    assert labels(tmp_path) == ["digits baseline"]


def test_keys_that_a_choice_brings_along_do_not_clutter_the_label(tmp_path: Path) -> None:
    write_run(tmp_path, val=0.9, model="baseline", optim="adam")
    write_run(tmp_path, val=0.8, model="mlp", optim="sgd")
    assert labels(tmp_path) == ["model=baseline optim=adam", "model=mlp optim=sgd"]


def test_a_value_that_is_no_default_of_its_choice_is_shown(tmp_path: Path) -> None:
    write_run(tmp_path, val=0.9, optim="adam")
    write_run(tmp_path, val=0.8, optim="sgd", optim__lr=0.02)
    assert labels(tmp_path) == ["optim=adam optim.lr=0.001", "optim=sgd optim.lr=0.02"]


def test_a_key_of_one_choice_is_absent_for_the_others(tmp_path: Path) -> None:
    write_run(tmp_path, val=0.9, model="mlp", model__layers=1)
    write_run(tmp_path, val=0.8, model="mlp", model__layers=2)
    write_run(tmp_path, val=0.7, model="baseline")
    assert labels(tmp_path) == [
        "model=mlp model.layers=1",
        "model=mlp model.layers=2",
        "model=baseline",
    ]


def test_grouping_by_chosen_keys_pools_the_rest(tmp_path: Path) -> None:
    for filters in (4, 8):
        for rate in (0.1, 0.2):
            write_run(tmp_path, val=rate, model__filters=filters, optim__lr=rate)
    assert [len(setting.runs) for setting in grouped(tmp_path, "model.filters")] == [2, 2]
    assert labels(tmp_path, "optim.lr") == ["optim.lr=0.2", "optim.lr=0.1"]
    assert labels(tmp_path, "seed") == ["seed=0"]


def test_an_unknown_key_is_refused_with_a_hint(tmp_path: Path) -> None:
    write_run(tmp_path)
    with pytest.raises(UserError, match=r"model\.filter: .*did you mean 'model\.filters'"):
        grouped(tmp_path, "model.filter")


def test_a_key_that_older_runs_do_not_have_tells_them_apart(tmp_path: Path) -> None:
    old = write_run(tmp_path)
    runs, _ = collect([old])
    older = Run(RunFolder(old), runs[0].result)
    del older.values["train.ema"], older.values["seed"]
    assert {setting.label for setting in group([runs[0], older])} == {
        "train.ema=null",
        "digits baseline",
    }


def test_other_datasets_and_changed_images_do_not_come_together(tmp_path: Path) -> None:
    write_run(tmp_path, seed=0)
    write_run(tmp_path, seed=1)
    write_run(tmp_path, seed=2, dataset__image_size=16)
    changed = write_run(tmp_path, seed=3)
    edit_result(changed, dataset__fingerprint="of other images")
    other = write_run(tmp_path, seed=4)
    edit_result(other, dataset__name="mnist")
    runs, _ = collect([tmp_path])
    parts = [sorted(run.values["seed"] for run in family) for family in families(runs)]
    assert sorted(parts) == [[0, 1, 2], [3], [4]]


def test_two_of_torchvisions_datasets_do_not_come_together(tmp_path: Path) -> None:
    for seed, name in enumerate(["USPS", "USPS", "QMNIST"]):  # which have the same classes
        write_run(tmp_path, dataset="torchvision", dataset__set=name, seed=seed)
    runs, _ = collect([tmp_path])
    parts = [sorted(run.values["seed"] for run in family) for family in families(runs)]
    assert sorted(parts) == [[0, 1], [2]]


CHOICES = st.fixed_dictionaries(
    {},
    optional={
        "model": st.sampled_from(["baseline", "mlp"]),
        "optim": st.sampled_from(["adam", "sgd"]),
        "optim__lr": st.sampled_from([0.001, 0.1]),
        "seed": st.integers(0, 2),
        "split__seed": st.integers(0, 1),
        "split__test": st.sampled_from([None, 0.2]),
        "model__dropout": st.sampled_from([0.2, 0.3]),
        "train__ema": st.sampled_from([None, 0.9]),
    },
)


@given(st.lists(CHOICES, max_size=12))
@settings(max_examples=30)
def test_settings_partition_the_runs_and_have_labels_of_their_own(
    tmp_path_factory: pytest.TempPathFactory, choices: list[dict[str, Any]]
) -> None:
    folder = tmp_path_factory.mktemp("outputs")
    for overrides in choices:
        with contextlib.suppress(FileExistsError):  # the same config, drawn twice
            write_run(folder, **overrides)
    runs, _ = collect([folder / "runs" / "*"])
    made = group(runs)
    assert sorted(run.name for each in made for run in each.runs) == sorted(r.name for r in runs)
    assert len({setting.label for setting in made}) == len(made)
    for setting in made:
        assert set(varied([run.values for run in setting.runs])) <= set(SEEDS)
