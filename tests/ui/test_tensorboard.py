"""What TensorBoard is given, read back with TensorBoard's own reader and from its server."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tensorboard_kit import fetch, read_scalars, serve_tensorboard
from tinylab import cli
from tinylab.config.metrics import METRICS
from tinylab.store.folder import RunFolder
from tinylab.ui.tensorboard import TAGS, Row, RunTracker

pytestmark = pytest.mark.costly

FINALS = [metric.tag for metric in METRICS.values() if metric.tag]

ROW = {
    "epoch": 1, "step": 10, "train_loss": 2.0, "train_accuracy": 0.25, "val_loss": None,
    "val_accuracy": None, "lr": 0.1, "grad_norm": 3.0, "seconds": 1.0, "images_per_second": 9.0,
    "time": 1_000_000.0,
}  # fmt: skip


def tracker_in(folder: Path, history: list[Row]) -> RunTracker:
    """As a run begins or goes on with one."""
    files = RunFolder(folder)
    files.clear_events()
    return RunTracker(folder, files.metrics_file, history, {})


@pytest.fixture(scope="module")
def runs_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two finished runs of different learning rates."""
    outputs = tmp_path_factory.mktemp("outputs")
    overrides = ["train.epochs=3", "train.batch_size=128", f"outputs={outputs}"]
    assert cli.run(["train", "-m", "optim.lr=0.001,0.01", *overrides]) == 0
    return outputs / "runs"


def test_the_event_file_holds_what_metrics_jsonl_holds(runs_folder: Path) -> None:
    for folder in runs_folder.glob("digits-*"):
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert [row["epoch"] for row in rows] == [1, 2, 3]
        scalars = read_scalars(folder)
        for column, tag in TAGS.items():
            expected = [(row["step"], pytest.approx(row[column]), row["time"]) for row in rows]
            assert scalars[tag] == expected


def test_the_final_metrics_are_the_results(runs_folder: Path) -> None:
    for folder in runs_folder.glob("digits-*"):
        result = json.loads((folder / "result.json").read_text())
        scalars = read_scalars(folder)
        for metric in METRICS.values():
            if metric.tag:
                part, name = metric.path
                [(_, value, _)] = scalars[metric.tag]
                assert value == pytest.approx(result[part][name])


def test_a_history_of_an_earlier_version_gives_the_curves_that_it_has(tmp_path: Path) -> None:
    tracker = tracker_in(tmp_path, [{**ROW, "val_accuracy": 0.5}])
    tracker.close()
    scalars = read_scalars(tmp_path)
    assert "accuracy/val" in scalars
    assert not {"balanced_accuracy/val", "macro_f1/val"} & scalars.keys()


def test_a_resumed_tracker_rewrites_the_curves_without_gap_or_double(tmp_path: Path) -> None:
    rows = [{**ROW, "epoch": n, "step": 10 * n} for n in (1, 2, 3)]
    first = tracker_in(tmp_path, [])
    for row in rows:
        first.log(row)
    first.close()
    # Epoch 3 was lost with the process: the checkpoint's history ends after epoch 2.
    second = tracker_in(tmp_path, rows[:2])
    second.log(rows[2])
    second.close()
    assert [step for step, _, _ in read_scalars(tmp_path)["loss/train"]] == [10, 20, 30]
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3


def test_a_curve_without_values_is_left_out(tmp_path: Path) -> None:
    tracker = tracker_in(tmp_path, [])
    tracker.log(ROW)
    tracker.close()
    assert "loss/val" not in read_scalars(tmp_path)


@pytest.fixture(scope="module")
def server(runs_folder: Path) -> Iterator[str]:
    """The address of a TensorBoard that shows the runs."""
    with serve_tensorboard(runs_folder, num_runs=6) as address:
        yield address


def test_train_and_validation_of_a_run_are_two_runs_with_the_same_tags(
    server: str, runs_folder: Path
) -> None:
    """So TensorBoard draws both into one chart."""
    names = [path.name for path in runs_folder.glob("digits-*")]
    tags = fetch(f"{server}/data/plugin/scalars/tags")
    assert isinstance(tags, dict)
    assert set(tags) == {f"{name}{stream}" for name in names for stream in ("", "/train", "/val")}
    for name in names:
        assert {"loss", "accuracy"} <= tags[f"{name}/train"].keys() & tags[f"{name}/val"].keys()
        assert set(tags[name]) == set(FINALS)
    points = fetch(f"{server}/data/plugin/scalars/scalars?tag=accuracy&run={names[0]}/val")
    rows = (runs_folder / names[0] / "metrics.jsonl").read_text().splitlines()
    expected = [json.loads(row)["val_accuracy"] for row in rows]
    assert [value for _, _, value in points] == pytest.approx(expected)  # type: ignore[attr-defined]


def test_the_hparams_tab_has_one_row_per_run_with_real_metrics(
    server: str, runs_folder: Path
) -> None:
    experiment = fetch(f"{server}/data/plugin/hparams/experiment", {})
    assert isinstance(experiment, dict)
    columns = {info["name"]["tag"] for info in experiment["metricInfos"]}
    assert columns >= set(FINALS)
    request = {
        "colParams": [{"metric": {"tag": tag}} for tag in FINALS],
        "allowedStatuses": ["STATUS_SUCCESS", "STATUS_RUNNING", "STATUS_FAILURE"],
        "startIndex": 0,
        "sliceSize": 10,
    }
    groups = fetch(f"{server}/data/plugin/hparams/session_groups", request)
    assert isinstance(groups, dict)
    rows = groups["sessionGroups"]
    assert len(rows) == 2
    rates = {row["hparams"]["optim.lr"] for row in rows}
    assert rates == {0.001, 0.01}
    for row in rows:
        metrics = {value["name"]["tag"]: value["value"] for value in row["metricValues"]}
        assert set(metrics) >= set(FINALS)
        results = [json.loads(p.read_text()) for p in runs_folder.glob("*/result.json")]
        [result] = [r for r in results if r["config"]["optim"]["lr"] == row["hparams"]["optim.lr"]]
        assert metrics["final/test_accuracy"] == pytest.approx(result["test"]["accuracy"])
