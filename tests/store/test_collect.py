"""Which runs the paths mean; whatever else lies there is listed and no more."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compare_kit import edit_result, write_run
from tinylab.comparison.settings import group
from tinylab.store.collect import Skipped, collect


def names(paths: list[Path | str]) -> set[str]:
    runs, skipped = collect(paths)
    assert skipped == []
    return {run.name for run in runs}


def reasons(paths: list[Path | str]) -> dict[str, str]:
    """What was left out, by name."""
    return {skipped.path.name: skipped.reason for skipped in collect(paths)[1]}


def sweep(outputs: Path, name: str, run_ids: list[str]) -> Path:
    folder = outputs / "sweeps" / name
    folder.mkdir(parents=True)
    jobs = [{"run_id": run_id, "overrides": {}, "state": "finished"} for run_id in run_ids]
    (folder / "sweep.json").write_text(json.dumps({"arguments": [], "jobs": jobs}))
    return folder


def test_a_run_a_sweep_a_folder_of_either_outputs_and_a_glob(tmp_path: Path) -> None:
    first, second = (write_run(tmp_path, seed=seed) for seed in (0, 1))
    folder = sweep(tmp_path, "mine", [first.name, second.name])
    both = {first.name, second.name}
    assert names([first]) == {first.name}
    assert names([folder]) == both
    assert names([tmp_path / "runs"]) == both
    assert names([tmp_path / "sweeps"]) == both
    assert names([tmp_path]) == both
    assert names([f"{tmp_path}/runs/digits-*"]) == both
    assert names([first, folder, tmp_path]) == both, "each run once"


def test_a_sweep_is_found_from_inside_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(tmp_path)
    monkeypatch.chdir(sweep(tmp_path, "mine", [run.name]))
    assert names(["."]) == {run.name}
    assert names(["../mine"]) == {run.name}


def test_a_sweep_finds_a_run_whose_folder_was_renamed(tmp_path: Path) -> None:
    first, second = (write_run(tmp_path, seed=seed) for seed in (0, 1))
    folder = sweep(tmp_path, "mine", [first.name, second.name])
    shutil.copytree(first, first.with_name(f"{first.name}.20261126-210531"))
    first.rename(first.with_name("the best"))
    runs, skipped = collect([folder])
    assert ({run.folder.name for run in runs}, skipped) == ({"the best", second.name}, [])
    shutil.rmtree(first.with_name("the best"))
    assert reasons([folder]) == {first.name: "not there"}


def test_a_link_to_a_sweep_is_the_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path / "outputs")
    folder = sweep(tmp_path / "outputs", "mine", [run.name])
    monkeypatch.chdir(tmp_path)
    Path("link").symlink_to(folder)
    assert names(["link"]) == {run.name}
    folder.rename(tmp_path / "other disk")
    folder.symlink_to(tmp_path / "other disk")
    assert names(["outputs/sweeps/mine"]) == {run.name}


def test_a_renamed_run_is_a_run_still(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    run.rename(run.with_name("the best one"))
    assert names([tmp_path]) == names([run.with_name("the best one")]) == {"the best one"}


def test_what_is_no_finished_run_is_listed_with_its_reason(tmp_path: Path) -> None:
    good = write_run(tmp_path)
    unfinished, failed, broken, old, other, odd = (
        write_run(tmp_path, seed=seed) for seed in range(1, 7)
    )
    (unfinished / "result.json").unlink()
    (failed / "result.json").unlink()
    (failed / "failure.json").write_text('{"error": "no memory\\nmore"}')
    (broken / "result.json").write_text('{"status": "fini')
    edit_result(old, test={"loss": 0.5})
    edit_result(other, num_parameters="many")
    edit_result(odd, status="running")
    (tmp_path / "runs" / "foreign").mkdir()
    (tmp_path / "runs" / "notes.txt").write_text("no folder")
    runs, _ = collect([tmp_path])
    assert [run.name for run in runs] == [good.name]
    assert reasons([tmp_path]) == {
        unfinished.name: "unfinished",
        failed.name: "failed: no memory",
        broken.name: "its result.json cannot be read",
        old.name: "its result.json is invalid: test.accuracy is missing or wrong",
        other.name: "its result.json is invalid: num_parameters is missing or wrong",
        odd.name: "unfinished",
        "foreign": "no run",
    }


@pytest.mark.parametrize("text", ["[]", "null", '"x"', '{"status": "finished"}', "\x00", "{"])
def test_no_content_of_a_result_is_a_crash(tmp_path: Path, text: str) -> None:
    run = write_run(tmp_path)
    (run / "result.json").write_text(text)
    runs, [skipped] = collect([run])
    assert runs == []
    assert "result.json" in skipped.reason


PARTS = (
    "config", "dataset", "test", "seconds", "val", "split_sha256", "environment",
    "num_parameters",
)  # fmt: skip


@pytest.mark.parametrize("key", PARTS)
def test_a_part_that_is_missing_or_of_another_kind_is_named(tmp_path: Path, key: str) -> None:
    run = write_run(tmp_path)
    result = json.loads((run / "result.json").read_text())
    without = {name: value for name, value in result.items() if name != key}
    for damaged in (without, {**result, key: [1]}, {**result, key: {"name": None}}):
        (run / "result.json").write_text(json.dumps(damaged))
        runs, [skipped] = collect([run])
        assert runs == []
        assert key in skipped.reason


@pytest.mark.parametrize(
    "damage",
    [
        {"test__accuracy": 98.8},
        {"test__accuracy": float("nan")},
        {"test__loss": float("inf")},
        {"val__accuracy": None},
        {"dataset__num_train": 0},
        {"dataset__fingerprint": 7},
    ],
)
def test_values_that_are_no_numbers_are_left_out(tmp_path: Path, damage: dict[str, Any]) -> None:
    run = write_run(tmp_path)
    edit_result(run, **damage)
    [key] = damage
    [skipped] = collect([run])[1]
    assert f"{key.replace('__', '.')} is missing or wrong" in skipped.reason


def test_predictions_of_another_length_are_none(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    arrays = dict(np.load(run / "predictions.npz"))
    np.savez(run / "predictions.npz", **{**arrays, "predicted": arrays["predicted"][:5]})
    assert collect([run])[0][0].predictions is None


def test_places_that_are_not_there_or_empty(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    assert reasons([tmp_path / "nowhere", tmp_path / "file", tmp_path / "empty"]) == {
        "nowhere": "does not exist",
        "file": "not a folder",
        "empty": "contains no run",
    }
    assert reasons([tmp_path / "a*b"]) == {"a*b": "matches nothing"}


def test_a_run_that_a_search_gave_up_is_called_so(tmp_path: Path) -> None:
    finished, given_up = (write_run(tmp_path, seed=seed) for seed in (0, 1))
    (given_up / "result.json").unlink()
    folder = sweep(tmp_path, "mine", [])
    jobs = [{"run_id": run.name, "state": "pruned"} for run in (finished, given_up)]
    (folder / "sweep.json").write_text(json.dumps({"jobs": jobs}))
    assert reasons([folder]) == {given_up.name: "pruned by the search"}


@pytest.mark.parametrize("text", ["", "{}", '{"jobs": [1]}', '{"jobs": null}'])
def test_a_damaged_sweep_is_listed(tmp_path: Path, text: str) -> None:
    folder = sweep(tmp_path, "mine", [])
    (folder / "sweep.json").write_text(text)
    assert reasons([folder]) == {"mine": "its sweep.json cannot be read"}


def test_a_job_of_a_sweep_that_never_ran_is_listed(tmp_path: Path) -> None:
    assert reasons([sweep(tmp_path, "mine", ["digits-mlp-0"])]) == {"digits-mlp-0": "not there"}


def test_what_was_set_aside_counts_only_where_it_is_named(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    old = run.rename(run.with_name(f"{run.name}.20261123-101112-2"))
    runs, [skipped] = collect([tmp_path])
    assert runs == []
    assert skipped.reason.startswith("set aside")
    assert names([old]) == {old.name}


def test_a_copy_of_a_run_does_not_count_twice(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    copied = tmp_path / "copied"
    shutil.copytree(run, copied)
    runs, skipped = collect([run, copied])
    assert len(runs) == 1
    assert skipped == [Skipped(copied, f"the same run as {run}")]


def test_a_repeat_with_other_bits_differs_from_a_copy(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a", seed=1)
    edit_result(first, weights_sha256="1f", environment__threads=1)
    for name, threads, code in (("b", 2, "c0de"), ("c", 1, "c0de"), ("d", 1, "other")):
        again = shutil.copytree(first, tmp_path / name / "runs" / first.name)
        edit_result(again, weights_sha256="2f" if name != "c" else "1f")
        edit_result(again, environment__threads=threads, environment__code_sha256=code)
    runs, skipped = collect([tmp_path / name for name in "abcd"])
    assert [run.folder for run in runs] == [first]
    assert {each.path.parents[1].name: each.reason for each in skipped} == {
        "b": f"same config as {first}, but other bits (threads 1 and 2)",
        "c": f"the same run as {first}",
        "d": f"same config as {first}, but other bits (a different version of tinylab's code)",
    }


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"own_code_sha256": "2"}, "your code differed: mine.py, softmax.py"),
        ({"libraries": "timm 2"}, "timm 1 and timm 2"),
        ({"core_sha256": "2"}, "a different version of tinylab's code"),
        ({}, "a different version of tinylab's code"),  # in one of its options
    ],
)
def test_it_is_said_whose_code_differed(facts: dict[str, str], said: str, tmp_path: Path) -> None:
    first = write_run(tmp_path / "a", seed=1)
    known = {"code_sha256": "1", "own_code_sha256": "1", "core_sha256": "1", "libraries": "timm 1"}
    edit_result(first, weights_sha256="1f")
    for key, value in known.items():
        edit_result(first, **{f"environment__{key}": value})
    files = {"mine.py": "1", "same.py": "1"}
    (first / "code").mkdir()
    for name, text in files.items():
        (first / "code" / name).write_text(text)
    again = shutil.copytree(first, tmp_path / "b" / "runs" / first.name)
    edit_result(again, weights_sha256="2f")
    for key, value in {"code_sha256": "2", **facts}.items():
        edit_result(again, **{f"environment__{key}": value})
    for name in ("mine.py", "softmax.py"):
        (again / "code" / name).write_text("2")
    _, [skipped] = collect([first, again])
    assert skipped.reason == f"same config as {first}, but other bits ({said})"


def test_values_are_what_can_change_a_result_by_the_keys_one_types(tmp_path: Path) -> None:
    [run], _ = collect([write_run(tmp_path, model="mlp", device="cpu", name="mine")])
    assert run.values["model"] == "mlp"
    assert run.values["model.layers"] == 2
    assert not {"device", "name", "outputs", "train.checkpoint_seconds"} & set(run.values)


def test_a_run_of_before_a_key_existed_has_its_neutral_value(tmp_path: Path) -> None:
    older, newer = write_run(tmp_path, seed=0), write_run(tmp_path, seed=1)
    result = json.loads((older / "result.json").read_text())
    del result["config"]["split"]["train_fraction"]
    (older / "result.json").write_text(json.dumps(result))
    runs, _ = collect([older, newer])
    assert [run.values["split.train_fraction"] for run in runs] == [1.0, 1.0]
    assert len(group(runs)) == 1


def test_the_test_set_is_known_by_its_images(tmp_path: Path) -> None:
    for seed, val in ((0, 0.1), (0, 0.2), (1, 0.1)):
        write_run(tmp_path, split__seed=seed, split__val=val)
    runs, _ = collect([tmp_path])
    by_split = {(run.values["split.seed"], run.values["split.val"]): run for run in runs}
    assert by_split[0, 0.1].test_set == by_split[0, 0.2].test_set != by_split[1, 0.1].test_set


def test_without_predictions_a_test_set_is_known_by_its_split(tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    (folder / "predictions.npz").write_bytes(b"PK damaged")
    [run], _ = collect([folder])
    assert run.predictions is None
    assert run.test_set == run.result.split_sha256


@pytest.mark.parametrize("run_id", ["../../secret", "/etc", "..", "a/b", "", ".locks", "a\nb"])
def test_a_sweep_of_somebody_else_leads_nowhere_but_to_its_runs(
    run_id: str, tmp_path: Path
) -> None:
    run = write_run(tmp_path)
    shutil.copytree(run, tmp_path.parent / "secret", dirs_exist_ok=True)
    assert reasons([sweep(tmp_path, "mine", [run.name, run_id])]) == {
        "mine": "its sweep.json cannot be read"
    }
