"""A sweep's own TensorBoard folder, read back by TensorBoard's reader and served by its server."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from compare_kit import write_run
from tensorboard_kit import fetch, read_scalars, serve_tensorboard
from tinylab import cli
from tinylab.comparison.settings import group
from tinylab.config.metrics import METRICS
from tinylab.store.collect import collect
from tinylab.sweeps import board
from tinylab.ui.tensorboard import TAGS, stream_and_tag

pytestmark = pytest.mark.costly

FINALS = [metric.tag for metric in METRICS.values() if metric.tag]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models of two seeds each, of which one model has keys that the other has not."""
    outputs = tmp_path_factory.mktemp("outputs")
    overrides = ["train.epochs=2", "train.batch_size=256", f"outputs={outputs}", "name=s"]
    assert cli.run(["train", "-m", "model=mlp,baseline", "seed=0,1", *overrides]) == 0
    return outputs / "sweeps" / "s"


def rows_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_the_runs_are_there_by_readable_names(sweep: Path) -> None:
    board = sweep / "tensorboard"
    names = {f"model={model},seed={seed}" for model in ("mlp", "baseline") for seed in (0, 1)}
    assert {path.name for path in board.iterdir() if path.is_symlink()} == names
    for name in names:
        assert len(rows_of(board / name)) == 2
        config = json.loads((board / name / "result.json").read_text())["config"]
        assert name == f"model={config['model']['name']},seed={config['seed']}"


@pytest.mark.parametrize("model", ["mlp", "baseline"])
def test_the_mean_and_the_band_are_those_of_the_seeds(sweep: Path, model: str) -> None:
    board = sweep / "tensorboard"
    runs = [rows_of(board / f"model={model},seed={seed}") for seed in (0, 1)]
    scalars = read_scalars(board / "mean" / f"model={model}")
    for column in ("train_loss", "val_loss", "train_accuracy", "val_accuracy"):
        values = np.array([[row[column] for row in rows] for rows in runs])  # (seed, epoch)
        mean, std = values.mean(0), values.std(0, ddof=1)
        stream, tag = stream_and_tag(TAGS[column])
        bands = {tag: mean, f"band/{tag}/mean": mean, f"band/{tag}/low": mean - std,
                 f"band/{tag}/high": mean + std}  # fmt: skip
        for name, expected in bands.items():
            points = scalars[f"{name}/{stream}"]
            assert [step for step, _, _ in points] == [row["step"] for row in runs[0]]
            assert [value for _, value, _ in points] == pytest.approx(expected, rel=1e-6)


def test_the_hparams_tab_has_the_same_columns_for_all(sweep: Path) -> None:
    with serve_tensorboard(
        sweep / "tensorboard", num_runs=17
    ) as server:  # 4 x 3, the means 2 x 2, and the columns
        experiment = fetch(f"{server}/data/plugin/hparams/experiment", {})
        assert isinstance(experiment, dict)
        assert [info["name"]["tag"] for info in experiment["metricInfos"]] == FINALS
        columns = {info["name"] for info in experiment["hparamInfos"]}
        assert {"model", "seed", "model.layers", "model.filters"} <= columns
        assert "optim.lr" not in columns, "it does not vary"
        request = {
            "colParams": [{"metric": {"tag": tag}} for tag in FINALS],
            "allowedStatuses": ["STATUS_SUCCESS"], "startIndex": 0, "sliceSize": 10,
        }  # fmt: skip
        result = fetch(f"{server}/data/plugin/hparams/session_groups", request)
        assert isinstance(result, dict)
        assert len(result["sessionGroups"]) == 4
        assert all(len(row["metricValues"]) == len(FINALS) for row in result["sessionGroups"])
        check_that_no_band_lacks_a_tag(fetch(f"{server}/data/plugin/scalars/tags"))


def check_that_no_band_lacks_a_tag(tags_by_run: object) -> None:
    """The custom scalars page complains about a run that has one or two of a band's three tags."""
    assert isinstance(tags_by_run, dict)
    for run, tags in tags_by_run.items():
        bands = [tag for tag in tags if tag.startswith("band/")]
        assert len(bands) == (3 * (4 if run.endswith("val") else 2)) * run.startswith("mean"), run


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=300), unique=True))
def test_every_label_has_a_name_of_its_own(labels: list[str]) -> None:
    names = [name.casefold() for name in board.file_names(labels)]
    assert len(set(names)) == len(labels)
    assert all(len(name.encode()) <= 255 and "/" not in name for name in names)


def test_names_are_as_typed_unless_that_is_too_long_or_taken() -> None:
    long = "augment.scale=0.123456789 " * 12
    labels = ["optim.lr=0.1 seed=2", f"{long}seed=1", f"{long}seed=2", "a/b=1", "a_b=1", "A_B=1"]
    names = board.file_names(labels)
    assert names[0] == "lr=0.1,seed=2"
    assert len(set(names)) == 6
    assert all(name.startswith("scale=0.123456789,scale") for name in names[1:3])
    assert [len(name) for name in names[1:3]] == [120, 120]


def test_groups_of_keys_are_kept_where_names_alone_are_ambiguous() -> None:
    labels = [
        "model.dropout=0.1 loss.dropout=0.2 seed=1",
        "model.dropout=0.2 loss.dropout=0.1 seed=1",
    ]
    assert board.file_names(labels) == [label.replace(" ", ",") for label in labels]


def test_long_settings_that_end_differently_have_folders_of_their_own(tmp_path: Path) -> None:
    long = {f"augment__{key}": 0.123456789 for key in ("scale", "brightness", "contrast")}
    for filters, seed in ((4, 0), (4, 1), (8, 0), (8, 1)):
        folder = write_run(tmp_path, model__filters=filters, seed=seed, **long)
        row = {"epoch": 1, "step": 9, "time": 1e6, "train_loss": 1.0, "train_accuracy": 0.5}
        (folder / "metrics.jsonl").write_text(json.dumps(row))
    runs = collect([tmp_path])[0]
    labels = {run.name: "x" * 200 + run.name for run in runs}
    board.write(tmp_path / "board", labels, group(runs))
    assert len([path for path in (tmp_path / "board").iterdir() if path.is_symlink()]) == 4
    assert len(list((tmp_path / "board" / "mean").iterdir())) == 2


def test_metrics_that_no_run_has_make_no_column(tmp_path: Path) -> None:
    write_run(tmp_path, val=None, model__filters=4)
    write_run(tmp_path, val=None, model__filters=8)
    runs = collect([tmp_path])[0]
    board.write(tmp_path / "board", {run.name: run.name for run in runs}, group(runs))
    events = EventAccumulator(str(tmp_path / "board")).Reload()
    content = events.SummaryMetadata(metadata.EXPERIMENT_TAG).plugin_data.content
    columns = metadata.parse_experiment_plugin_data(content)
    assert [each.name.tag for each in columns.metric_infos] == [
        "final/test_accuracy",
        "final/test_loss",
    ]
    assert [each.name for each in columns.hparam_infos] == ["model.filters"]
