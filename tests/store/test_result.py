"""The typed record of a result: what is written is what was read, and nothing half is read."""

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from run_folders import config, finished, finished_result
from tinylab import cli
from tinylab.config.metrics import METRICS
from tinylab.store import result as results
from tinylab.store.folder import RunFolder, run_folder
from tinylab.store.result import FORMAT, Fault, Result, parse


def parsed(values: dict[str, Any]) -> Result:
    result = parse(values)
    assert isinstance(result, Result), result
    return result


def test_a_result_is_written_as_it_was_read(digits_run: Path, tmp_path: Path) -> None:
    values = json.loads((digits_run / "result.json").read_text())
    assert values["format"] == FORMAT
    results.write(tmp_path / "result.json", parsed(values))
    assert json.loads((tmp_path / "result.json").read_text()) == values
    assert list(json.loads((tmp_path / "result.json").read_text())) == list(values)


def test_the_keys_on_the_disk_are_those_of_the_design(digits_run: Path) -> None:
    values = json.loads((digits_run / "result.json").read_text())
    assert set(values) == {
        "format", "status", "run_id", "command", "config", "dataset", "split_sha256", "train",
        "val", "test", "confusion", "best_epoch", "epochs", "weights_sha256", "seconds",
        "images_per_second", "num_parameters", "environment", "failures", "resumed_at",
    }  # fmt: skip
    assert set(values["seconds"]) == {"data", "train", "evaluate", "total"}
    assert set(values["test"]) - set(values["val"]) == {"accuracy_ci95", "per_class_recall"}


def test_every_metric_is_found_by_its_path(digits_run: Path) -> None:
    values = json.loads((digits_run / "result.json").read_text())
    for name, metric in METRICS.items():
        expected: Any = values
        for key in metric.path:
            expected = expected[key]
        assert parsed(values).metric(name) == expected


def test_a_metric_that_an_earlier_version_did_not_know_is_none() -> None:
    result = parsed(finished_result(config(), val=None))
    assert result.metric("test_accuracy") == 0.9
    assert result.metric("test_macro_f1") is None
    assert result.metric("val_accuracy") is None


def test_what_is_not_known_is_kept_beside_metrics_and_facts_and_ignored_elsewhere() -> None:
    values = finished_result(config())
    values["test"]["roc_auc"] = 0.5
    values["environment"]["room"] = "north"
    values["something"] = values["dataset"]["else"] = 1
    result = parsed(values)
    assert result.test.extra == {"roc_auc": 0.5}
    assert result.environment.facts()["room"] == "north"


PATHS = [
    ("test", "accuracy"), ("test", "accuracy_ci95"), ("dataset", "classes"), ("num_parameters",),
    ("seconds", "train"), ("config", "split", "fold"), ("dataset", "image_shape"), ("epochs",),
]  # fmt: skip


@given(
    st.sampled_from(PATHS),
    st.sampled_from([None, "x", True, math.nan, math.inf, [], [1], {}, -1.5, "absent"]),
)
def test_a_value_that_is_wrong_is_named(path: tuple[str, ...], wrong: Any) -> None:
    values = copy.deepcopy(finished_result(config()))
    inner = values
    for key in path[:-1]:
        inner = inner[key]
    if wrong == "absent":
        del inner[path[-1]]
    else:
        inner[path[-1]] = wrong
    result = parse(values)
    is_right = (path[-1] == "classes" and isinstance(wrong, list)) or (
        path == ("seconds", "train") and wrong == -1.5
    )
    assert isinstance(result, Result) == is_right
    if isinstance(result, Fault):
        assert result.reason == (
            f"its result.json is invalid: {'.'.join(path)} is missing or wrong"
        )


@pytest.mark.parametrize("wrong", ["high", math.nan, True])
def test_a_further_metric_that_is_no_finite_number_counts_as_absent(wrong: Any) -> None:
    values = finished_result(config())
    values["test"]["macro_f1"] = wrong
    assert parsed(values).metric("test_macro_f1") is None


def test_a_newer_format_is_refused_clearly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = finished(tmp_path)
    values = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps({**values, "format": FORMAT + 1}))
    newer = f"its result has format {FORMAT + 1}, and this tinylab reads up to {FORMAT}"
    assert cli.run(["list", str(tmp_path), "--format", "json"]) == 0
    [row] = json.loads(capsys.readouterr().out)
    assert (row["state"], row["error"]) == (
        "damaged",
        f"{newer}: it was written by a newer version",
    )
    assert cli.run(["compare", str(tmp_path)]) == 1
    assert newer in capsys.readouterr().err
    assert cli.run(["train", "model=mlp", f"outputs={tmp_path}"]) == 1
    said = capsys.readouterr().err
    assert newer in said
    assert "fresh=true" in said
    assert RunFolder(folder).result_file.exists()
    assert run_folder(config(outputs=str(tmp_path))).path == folder


@pytest.mark.parametrize("name", ["../../.bashrc", "/tmp/x", "..", "a/b", "a\0"])
def test_a_run_id_that_is_no_name_of_a_file_is_a_fault(name: str) -> None:
    """``export`` and ``evaluate`` call their files by it."""
    result = parse({**finished_result(config()), "run_id": name})
    assert isinstance(result, Fault)
    assert "run_id is missing or wrong" in result.reason
