"""`tinylab compare` from the command line."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from compare_kit import edit_result, write_many, write_run
from tinylab import cli

# Half a second per test: intervals and figures of whole experiments.
pytestmark = pytest.mark.costly


def compare(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert cli.run(["compare", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def as_json(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    value = json.loads(compare(capsys, *arguments, "--format", "json"))
    assert set(value) == {"comparisons", "tuning_curves", "nested", "left_out"}
    return value


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert cli.run(["compare", *map(str, arguments)]) == 1
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    assert captured.out == ""
    return captured.err


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """Three settings of three seeds; the best by test is not the best by validation."""
    rights_of = {(4, 0.9): [85, 86, 88], (8, 0.8): [90, 92, 91], (16, 0.7): [60, 60, 60]}
    for (filters, val), rights in rights_of.items():
        for seed, right in enumerate(rights):
            write_run(tmp_path, right, val + seed / 100, model__filters=filters, seed=seed)
    return tmp_path


def test_the_screen_says_how_many_were_tried_before_it_shows_any_test_accuracy(
    capsys: pytest.CaptureFixture[str], outputs: Path
) -> None:
    out = compare(capsys, outputs)
    lines = out.splitlines()
    assert lines[0] == "digits: 3 settings tried in 9 runs, ranked by validation accuracy"
    assert lines[1].startswith("warning: validation and test accuracy disagree on the best setting")
    assert [line.split()[:3] for line in lines if line[:3] in ("A  ", "B  ", "C  ")] == [
        ["A", "4", "3"],
        ["B", "8", "3"],
        ["C", "16", "3"],
    ]
    assert "* not for selection" in out
    assert "A - B" in out
    assert "B beats A (p = " in out
    assert "A - C" in out
    assert max(map(len, lines)) <= 100


def test_the_json_has_every_figure(capsys: pytest.CaptureFixture[str], outputs: Path) -> None:
    [comparison] = as_json(capsys, outputs)["comparisons"]
    assert comparison["dataset"] == "digits"
    assert (comparison["num_settings"], comparison["num_runs"], comparison["selected"]) == (
        3,
        9,
        "A",
    )
    best = comparison["settings"][0]
    assert best["values"] == {"model.filters": 4}
    assert len(best["runs"]) == 3
    assert (best["num_splits"], best["num_seeds"]) == (1, 3)
    assert best["val_accuracy"]["mean"] == pytest.approx(0.91)
    test = best["test_accuracy"]
    assert test["mean"] == pytest.approx(259 / 300)
    assert test["std"] == pytest.approx(0.0152753, abs=1e-7)
    assert test["high"] - test["mean"] == pytest.approx(4.302653 * 0.0152753 / 3**0.5, abs=1e-6)
    assert best["one_test_set"]["num"] == 100
    assert best["one_test_set"]["low"] < test["low"], "100 images are few, three seeds agree"
    assert best["parameters"]["mean"] == 1234
    first, second = comparison["verdicts"]
    assert (first["first"], first["second"], first["winner"]) == ("A", "B", "B")
    assert first["about"] == "test_accuracy"
    assert first["difference"] == pytest.approx(259 / 300 - 273 / 300)
    assert first["low"] < first["difference"] < first["high"] < 0
    assert first["p_holm"] > first["p"] or second["p_holm"] > second["p"]
    assert first["words"].startswith("model.filters=8 beats model.filters=4 (p = ")
    assert comparison["variances"] == []


def test_the_csv_has_a_line_a_setting(capsys: pytest.CaptureFixture[str], outputs: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(compare(capsys, outputs, "--format", "csv"))))
    assert [row["model.filters"] for row in rows] == ["4", "8", "16"]
    assert float(rows[0]["test_accuracy_mean"]) == pytest.approx(259 / 300)
    assert rows[0]["seeds"] == "3"


def test_markdown_tables_are_whole(capsys: pytest.CaptureFixture[str], outputs: Path) -> None:
    lines = compare(capsys, outputs, "--format", "markdown").splitlines()
    tables = [line for line in lines if line.startswith("|")]
    assert len(tables) == (2 + 3) + (2 + 2)
    for table in (tables[:5], tables[5:]):
        assert len({line.count("|") for line in table}) == 1
    assert "| model.filters | runs |" in tables[0]


def test_single_runs_have_no_spread_and_are_judged_by_their_images(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write_run(tmp_path, 90, 0.9, model__filters=4)
    write_run(tmp_path, 70, 0.8, model__filters=8)
    [comparison] = as_json(capsys, tmp_path)["comparisons"]
    assert comparison["settings"][0]["test_accuracy"] == {
        "num": 1, "mean": 0.9, "std": None, "low": None, "high": None,
    }  # fmt: skip
    assert comparison["verdicts"][0]["method"] == "exact McNemar on 100 test images"
    assert comparison["verdicts"][0]["winner"] == "A"
    row = next(line for line in compare(capsys, tmp_path).splitlines() if line.startswith("A"))
    assert row.split()[3:8] == ["90.00", "-", "90.00", "-", "-"]


def test_what_is_no_finished_run_is_listed_and_left_out(
    capsys: pytest.CaptureFixture[str], outputs: Path
) -> None:
    unfinished = write_run(outputs, seed=9)
    (unfinished / "result.json").unlink()
    (outputs / "runs" / "foreign").mkdir()
    lines = compare(capsys, outputs).splitlines()
    assert lines[-2:] == [f"left out, unfinished: {unfinished.name}", "left out, no run: foreign"]
    left_out = as_json(capsys, outputs)["left_out"]
    assert {entry["reason"] for entry in left_out} == {"unfinished", "no run"}
    assert cli.run(["compare", str(outputs), "--format", "csv"]) == 0
    captured = capsys.readouterr()
    assert "left out" not in captured.out
    assert "left out" in captured.err


def test_missing_runs_of_a_sweep_are_a_warning_above_the_table(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    names = [write_run(tmp_path, 90, 0.9).name, *(f"digits-mlp-{number}" for number in range(7))]
    folder = tmp_path / "sweeps" / "tta"
    folder.mkdir(parents=True)
    (folder / "sweep.json").write_text(json.dumps({"jobs": [{"run_id": n} for n in names]}))
    out = compare(capsys, folder, "--format", "markdown")
    warning = (
        "warning: 7 of the sweep's runs are not there (removed or not started): digits-mlp-0, "
        "digits-mlp-1, digits-mlp-2, digits-mlp-3, digits-mlp-4 and 2 more"
    )
    assert out.splitlines()[:2] == ["digits: 1 setting tried in 1 run", warning]
    assert out.count("not there") == 1
    assert len(as_json(capsys, folder)["left_out"]) == 7


def test_many_that_are_left_out_are_counted(
    capsys: pytest.CaptureFixture[str], outputs: Path
) -> None:
    for number in range(8):
        (outputs / "runs" / f"foreign-{number}").mkdir()
    assert compare(capsys, outputs).splitlines()[-1].endswith("foreign-4 and 3 more")


def test_no_finished_run_at_all_is_an_error_that_says_why(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "foreign").mkdir()
    assert refused(capsys, tmp_path) == (
        f"tinylab: no finished run in {tmp_path}\n  left out, no run: foreign\n"
    )
    assert "expected a PATH" in refused(capsys)


def test_without_validation_nothing_is_chosen(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for filters in (4, 8, 16):
        write_run(tmp_path, 80 + filters, None, model__filters=filters, split__val=0.0)
    [comparison] = as_json(capsys, tmp_path)["comparisons"]
    assert comparison["selected"] is None
    assert [(verdict["first"], verdict["second"]) for verdict in comparison["verdicts"]] == [
        ("A", "B"), ("A", "C"), ("B", "C")
    ]  # fmt: skip
    assert "no setting can be selected" in comparison["warnings"][0]
    assert [setting["label"] for setting in comparison["settings"]] == [
        f"model.filters={filters}" for filters in (4, 8, 16)
    ]
    [named] = as_json(capsys, tmp_path, "--pair", "a", "model.filters=16")["comparisons"]
    assert len(named["verdicts"]) == 1


@pytest.mark.parametrize(("num_settings", "num_verdicts"), [(2, 1), (5, 10), (6, 0)])
def test_without_a_choice_all_pairs_of_a_few_settings_are_judged(
    num_settings: int, num_verdicts: int, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for filters in range(1, num_settings + 1):
        write_run(tmp_path, 80 + filters, None, model__filters=filters, split__val=0.0)
    [comparison] = as_json(capsys, tmp_path)["comparisons"]
    assert len(comparison["verdicts"]) == num_verdicts
    assert "is best by validation" not in compare(capsys, tmp_path)


def test_other_datasets_are_shown_apart_and_never_judged_together(
    capsys: pytest.CaptureFixture[str], outputs: Path
) -> None:
    for seed in range(2):
        other = write_run(outputs, 50, 0.99, model__filters=32, seed=seed)
        edit_result(other, dataset__name="mnist")
    changed = write_run(outputs, 50, 0.99, model__filters=4, seed=7)
    edit_result(changed, dataset__fingerprint="0ther1mages")
    out = compare(capsys, outputs)
    assert "not compared with each other, since their images differ: " in out
    assert "digits (images 0ther1ma)" in out
    comparison = as_json(capsys, outputs)["comparisons"]
    assert sorted(len(each["settings"]) for each in comparison) == [1, 1, 3]
    names = [setting["name"] for each in comparison for setting in each["settings"]]
    assert sorted(names) == ["A", "B", "C", "D", "E"]
    assert "their datasets differ" in refused(
        capsys, outputs, "--pair", "model.filters=32", "model.filters=16"
    )


def test_named_pairs_replace_the_best_against_all(
    capsys: pytest.CaptureFixture[str], outputs: Path
) -> None:
    pairs = ["--pair", "B", "model.filters=16", "--pair", "model.filters=4 model=baseline", "c"]
    [comparison] = as_json(capsys, outputs, *pairs)["comparisons"]
    assert [(v["first"], v["second"]) for v in comparison["verdicts"]] == [("B", "C"), ("A", "C")]


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        (("A", "Z"), "--pair Z: no such setting"),
        (("A", "model=baseline"), "--pair model=baseline: matches A, B"),
        (("A", "model.filters=4"), "expected two settings; both names refer to A"),
        (("A", "="), "--pair =: no such setting"),
    ],
)
def test_a_pair_that_does_not_name_two_settings_is_refused(
    capsys: pytest.CaptureFixture[str], outputs: Path, pair: tuple[str, str], words: str
) -> None:
    assert words in refused(capsys, outputs, "--pair", *pair)


@pytest.mark.parametrize(
    "wrong", [["--format", "pdf"], ["--metric", "test_accuracy"], ["--group-by", "x"], ["--nope"]]
)
def test_wrong_options_are_one_line(
    capsys: pytest.CaptureFixture[str], outputs: Path, wrong: list[str]
) -> None:
    assert len(refused(capsys, outputs, *wrong).splitlines()) == 1


def test_grouping_pools_and_says_so(capsys: pytest.CaptureFixture[str], outputs: Path) -> None:
    [comparison] = as_json(capsys, outputs, "--group-by", "seed")["comparisons"]
    assert [len(setting["runs"]) for setting in comparison["settings"]] == [3, 3, 3]
    assert "pooled within settings, as requested: model.filters" in comparison["warnings"]


def test_results_of_different_code_are_pointed_out(
    capsys: pytest.CaptureFixture[str], outputs: Path
) -> None:
    edit_result(write_run(outputs, seed=8), environment={"code_sha256": "older"})
    assert "2 versions of tinylab's code" in compare(capsys, outputs)


def test_each_option_has_code_of_its_own_and_is_no_other_version(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for seed, model in enumerate(("mlp", "baseline")):
        run = write_run(tmp_path, model=model, seed=seed)
        edit_result(run, environment={"code_sha256": model, "core_sha256": "core"})
    assert "versions of tinylab's code" not in compare(capsys, tmp_path)
    edited = write_run(tmp_path, model="mlp", seed=9)
    edit_result(edited, environment={"code_sha256": "edited", "core_sha256": "core"})
    assert "2 versions of tinylab's code" in compare(capsys, tmp_path)


def test_ranked_by_loss(capsys: pytest.CaptureFixture[str], outputs: Path) -> None:
    out = compare(capsys, outputs, "--metric", "val_loss")
    assert "ranked by validation loss" in out
    assert " loss " in out


def test_a_metric_of_the_test_set_is_shown_and_validations_ranks(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for filters, val, test in ((4, 0.7, 0.61), (8, 0.8, 0.52)):
        folder = write_run(tmp_path, model__filters=filters)
        edit_result(folder, val__macro_f1=val, test__macro_f1=test)
    out = compare(capsys, tmp_path, "--metric", "test_macro_f1")
    assert "ranked by validation macro F1" in out
    assert "A  model.filters=8" in out
    rows = [line.split() for line in out.splitlines()]
    [best], [other] = ([row for row in rows if row[:2] == [name, "1"]] for name in "AB")
    assert {"80.00", "52.00"} <= set(best)
    assert {"70.00", "61.00"} <= set(other)
    alone = compare(capsys, tmp_path, "--metric", "val_macro_f1")
    assert "52.00" not in alone
    parsed = json.loads(compare(capsys, tmp_path, "--metric", "test_macro_f1", "--format", "json"))
    [comparison] = parsed["comparisons"]
    assert comparison["ranked_by"] == "val_macro_f1"
    assert comparison["settings"][0]["test_macro_f1"]["mean"] == 0.52
    assert comparison["settings"][0]["test_ece"] is None, "these runs are of before it"
    lacking = compare(capsys, tmp_path, "--metric", "test_ece")
    assert "no validation expected calibration error, so no setting can be selected here" in lacking


def test_many_keys_leave_the_table_and_come_before_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for number in range(2):
        more = {"model__kernel_size": 3 + number, "optim__weight_decay": number / 7}
        write_run(tmp_path, 80, 0.9 - number / 10, model__filters=4 + number, **more)
    out = compare(capsys, tmp_path)
    assert max(map(len, out.splitlines())) <= 100
    assert "A  model.filters=4 model.kernel_size=3 optim.weight_decay=0.0" in out


def test_the_variance_of_a_factorial(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for split in range(3):
        for seed in range(2):
            write_run(tmp_path, 60 + 10 * split + seed, split__seed=split, seed=seed)
    write_run(tmp_path, 50, split__seed=7)
    write_run(tmp_path, 50, 0.5, model__filters=4)
    out = compare(capsys, tmp_path, "--variance")
    row = next(line for line in out.splitlines() if line.startswith("A") and "%" in line)
    assert row.split() == ["A", "3", "x", "2", "10.00", "100%", "0.71", "0%", "0.00", "0%"]
    assert "A: left out because their cells are incomplete: 1 of 7 runs." in out
    assert "B: needs at least two split seeds by two training seeds." in out
    [comparison] = as_json(capsys, tmp_path, "--variance")["comparisons"]
    assert comparison["variances"][0]["components"]["split"] == pytest.approx(0.01)
    assert comparison["variances"][1] is None
    rows = list(
        csv.DictReader(io.StringIO(compare(capsys, tmp_path, "--variance", "--format", "csv")))
    )
    assert float(rows[0]["variance_split"]) == pytest.approx(0.01)
    assert rows[1]["variance_split"] == ""


@pytest.mark.parametrize(
    "idle",
    [
        ["--format", "csv", "--effect", "model.filters"],
        ["--format", "latex", "--rope", "0.5"],
        ["--diff", "a", "b"],
        ["--diff", "a", "b", "--variance"],
    ],
)
def test_options_without_effect_are_refused(
    capsys: pytest.CaptureFixture[str], outputs: Path, idle: list[str]
) -> None:
    assert len(refused(capsys, outputs, *idle).splitlines()) == 1


def test_what_is_asked_for_in_vain_has_a_remedy(
    capsys: pytest.CaptureFixture[str], outputs: Path
) -> None:
    rope = refused(capsys, outputs, "--format", "latex", "--rope", "0.5")
    assert "cannot show --rope; use one of table, markdown, csv, json" in rope
    metric = refused(capsys, outputs, "--metric", "test_accuracy")
    assert "no basis for a ranking; expected a metric such as val_accuracy" in metric


def test_settings_without_validation_beside_others_are_named(
    capsys: pytest.CaptureFixture[str], outputs: Path
) -> None:
    write_run(outputs, 99, None, split__val=0.0)
    [comparison] = as_json(capsys, outputs)["comparisons"]
    assert comparison["selected"] == "A"
    assert comparison["warnings"][0] == "without a validation set, so they cannot be selected: D"


def test_real_runs_from_training_to_verdict(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    sweep = ["model.filters=2,8", "split.seed=0,1", "jobs=1", "threads=1", "name=mine"]
    tiny = ["train.epochs=1", "train.batch_size=256", f"outputs={tmp_path}"]
    assert cli.run(["train", "-m", *sweep, *tiny]) == 0
    capsys.readouterr()
    [comparison] = as_json(capsys, tmp_path / "sweeps" / "mine")["comparisons"]
    labels = {setting["label"] for setting in comparison["settings"]}
    assert labels == {"model.filters=2", "model.filters=8"}
    for setting in comparison["settings"]:
        results = [json.loads((Path(run) / "result.json").read_text()) for run in setting["runs"]]
        accuracies = [result["test"]["accuracy"] for result in results]
        assert setting["test_accuracy"]["mean"] == pytest.approx(sum(accuracies) / 2)
    [verdict] = comparison["verdicts"]
    assert verdict["method"] == "corrected resampled t (Nadeau and Bengio 2003) over 2 splits"


def test_five_hundred_runs_without_torch(tmp_path: Path) -> None:
    write_many(tmp_path, num_settings=100)
    program = (
        "import sys; from tinylab import cli; code = cli.run(sys.argv[1:]);"
        "sys.exit(code or ('torch' in sys.modules))"
    )
    command = [sys.executable, "-c", program, "compare", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "100 settings tried in 500 runs" in done.stdout


def test_a_region_of_equivalence_is_answered_beside_the_verdicts(
    capsys: pytest.CaptureFixture[str], outputs: Path
) -> None:
    out = compare(capsys, outputs, "--rope", 1)
    assert "B beats A (p = " in out
    assert "Differences up to 1 points count as equal" in out
    lines = out[out.index("Better, equal or undecided?") :].splitlines()
    assert max(map(len, out.splitlines())) <= 100
    [line] = [line for line in lines if line.startswith("A - C")]
    assert line.endswith("A is better")
    [comparison] = as_json(capsys, outputs, "--rope", 1)["comparisons"]
    assert comparison["rope"] == pytest.approx(0.01)
    for verdict in comparison["verdicts"]:
        known = verdict["posterior"]
        d, s = verdict["difference"], (verdict["high"] - verdict["low"]) / 2 / stats.t.ppf(0.975, 2)
        assert known["better"] == pytest.approx(stats.t.sf(0.01, 2, d, s))
        assert sum(known.values()) == pytest.approx(1)


def test_a_region_that_is_none_is_refused(
    capsys: pytest.CaptureFixture[str], outputs: Path
) -> None:
    assert "--rope -1: expected points" in refused(capsys, outputs, "--rope=-1")


def test_an_effect_is_shown_and_in_the_json(
    capsys: pytest.CaptureFixture[str], outputs: Path
) -> None:
    out = compare(capsys, outputs, "--effect", "model.filters")
    assert "Effect of model.filters on test accuracy, against model.filters=4" in out
    [comparison] = as_json(capsys, outputs, "--effect", "model.filters")["comparisons"]
    [effect] = comparison["effects"]
    assert (effect["key"], effect["reference"]) == ("model.filters", 4)
    assert [level["value"] for level in effect["levels"]] == [8, 16]
    assert effect["levels"][0]["difference"] == pytest.approx((273 - 259) / 300)
    assert effect["levels"][0]["num_pairs"] == 3


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("model.filter", "not a key of any run (did you mean 'model.filters'?)"),
        ("seed", "a seed has no effect to estimate"),
        ("augment.flip", "all runs have augment.flip=false\n  expected two or more values"),
    ],
)
def test_an_effect_that_there_is_not_is_refused(
    capsys: pytest.CaptureFixture[str], outputs: Path, key: str, message: str
) -> None:
    assert message in refused(capsys, outputs, "--effect", key)


def test_latex_is_a_table_of_booktabs_with_intervals_p_values_and_the_verdicts_in_bold(
    capsys: pytest.CaptureFixture[str], outputs: Path
) -> None:
    lines = compare(capsys, outputs, "--format", "latex").splitlines()
    rows = [line.strip() for line in lines if line.strip()[:3] in ("A &", "B &", "C &")]
    assert rows == [
        r"A & 4 & 3 & 91.00 (1.00) & 86.33 (1.53) & [82.54, 90.13] & -- \\",
        r"B & 8 & 3 & 81.00 (1.00) & \textbf{91.00} (1.00) & [88.52, 93.48] & 0.034 \\",
        r"C & 16 & 3 & 71.00 (1.00) & 60.00 (0.00) & -- & 0.002 \\",
    ]
    [caption] = [line for line in lines if r"\caption" in line]
    assert "Bold: the settings significantly better than A ($p < 0.05$)." in caption
    assert "adjusted for 2 comparisons (Holm). Tested by paired t over 3 pairs" in caption
    assert "C: no CI of the mean, since all runs happen to have the same" in caption
    text = "\n".join(lines)
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]
    assert text.count("{") == text.count("}")
    assert r"\begin{tabular}{llrrrrr}" in text
    assert lines[0] == r"% needs \usepackage{booktabs}"
    assert lines[1].startswith("% warning: validation and test accuracy disagree"), "not silent"


def test_the_csv_has_the_p_values(capsys: pytest.CaptureFixture[str], outputs: Path) -> None:
    first, second, _ = csv.DictReader(io.StringIO(compare(capsys, outputs, "--format", "csv")))
    assert first["A_p"] == ""
    [comparison] = as_json(capsys, outputs)["comparisons"]
    verdict = comparison["verdicts"][0]
    assert float(second["A_p"]) == pytest.approx(verdict["p"])
    assert float(second["A_p_holm"]) == pytest.approx(verdict["p_holm"])
    assert float(second["A_difference"]) == pytest.approx(-verdict["difference"])
    assert float(second["A_difference_low"]) == pytest.approx(-verdict["simultaneous_high"])
    assert float(second["A_difference_high"]) == pytest.approx(-verdict["simultaneous_low"])


def test_intervals_end_with_the_range_of_their_metric_in_every_format(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for filters, rights in ((4, (92, 100)), (8, (0, 100))):
        for seed, right in enumerate(rights):
            write_run(tmp_path, right, right / 100, model__filters=filters, seed=seed)
    first, second = csv.DictReader(io.StringIO(compare(capsys, tmp_path, "--format", "csv")))
    for part in ("val", "test"):
        assert (second[f"{part}_accuracy_low"], second[f"{part}_accuracy_high"]) == ("0.0", "1.0")
    assert first["test_accuracy_high"] == "1.0"
    assert float(first["test_loss_high"]) > 0.5, "a loss has no upper limit"
    assert (second["A_difference_low"], second["A_difference_high"]) == ("-1.0", "1.0")
    assert "[0.00, 100.00]" in compare(capsys, tmp_path, "--format", "latex")


def test_the_spread_over_seeds_is_divided_where_there_are_enough(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for seed in range(5):
        write_run(tmp_path, range(seed, 80 + 2 * seed), seed=seed)
    [line] = [line for line in compare(capsys, tmp_path).splitlines() if "A: of the sd" in line]
    assert line.startswith("A: of the sd of 1.58 over 5 runs, ")
    [comparison] = as_json(capsys, tmp_path)["comparisons"]
    known = comparison["settings"][0]["seed_variance"]
    assert known["networks"] + known["noise"] == pytest.approx(known["total"])
    assert known["num"] == 5


def test_what_varied_is_named_in_the_legend(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for fold in (0, 1, 2):
        for filters in (4, 8):
            more = {"model__filters": filters, "split__folds": 3, "split__fold": fold}
            write_run(tmp_path, 80 + filters + fold, 0.9, **more)
    out = compare(capsys, tmp_path)
    assert "sd and CI of the mean: variation over folds (Student's t)" in out
    assert "(standard deviation over folds)" in compare(capsys, tmp_path, "--format", "latex")
    assert "per setting" not in out, "three runs need no caveat"


def test_a_verdict_on_single_runs_says_what_it_does_not_cover(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write_run(tmp_path, 90, 0.9, model__filters=4)
    write_run(tmp_path, 70, 0.8, model__filters=8)
    said = "One run per setting: the CI covers the choice of test images, but not other seeds."
    assert said in " ".join(compare(capsys, tmp_path).split())
    assert said in compare(capsys, tmp_path, "--format", "latex")
    [comparison] = as_json(capsys, tmp_path)["comparisons"]
    assert any(said in warning for warning in comparison["warnings"])


def test_single_runs_beside_repeated_ones_are_named_in_the_caveat(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write_run(tmp_path, 90, 0.9, model__filters=4)
    write_run(tmp_path, 70, 0.8, model__filters=8)
    for seed in (0, 1):
        write_run(tmp_path, 60 + seed, 0.7, model__filters=16, seed=seed)
    assert "One run each of A - B: the CI covers" in compare(capsys, tmp_path)


def test_two_seeds_are_said_to_be_too_few(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for seed in (0, 1):
        write_run(tmp_path, 90 + seed, 0.9, model__filters=4, seed=seed)
        write_run(tmp_path, 50 + 9 * seed, 0.8, model__filters=8, seed=seed)
    out = compare(capsys, tmp_path)
    assert out.count("Two seeds per setting are too few for a reliable verdict") == 1


def test_equal_runs_have_no_interval_of_their_mean(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for seed in (0, 1):
        write_run(tmp_path, 81, 0.9, seed=seed)
    out = compare(capsys, tmp_path)
    assert "81.00 0.00 - 72.22–87.49" in " ".join(out.split())
    assert "A: no CI of the mean, since all runs" in out
