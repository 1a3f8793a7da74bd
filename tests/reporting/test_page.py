"""Which tables and figures a set of settings gets, and their contents."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compare_kit import edit_result, write_run
from tinylab import reporting
from tinylab.comparison import columns, data_size
from tinylab.comparison.comparison import Comparison, compare
from tinylab.reporting import answer, charts, details, page, tables
from tinylab.reporting.figures import COLORS
from tinylab.reporting.tables import Cell, Table
from tinylab.store.collect import collect
from tinylab.store.folder import RunFolder

# Half a second per test: intervals and figures of whole experiments.
pytestmark = pytest.mark.costly


def compared(outputs: Path) -> Comparison:
    [differences] = compare(collect([outputs])[0])
    return differences


def column(table: Table, name: str) -> list[str]:
    place = list(table.head).index(name)
    return [row[place].text for row in table.rows]


def texts(rows: Sequence[Sequence[Cell]]) -> list[list[str]]:
    return [[cell.text for cell in row] for row in rows]


# ---------------------------------------------------------------- tables


def test_a_leaderboard_is_in_order_and_sorts_by_numbers(tmp_path: Path) -> None:
    for filters, right, val in ((8, 80, 0.8), (16, 90, 0.95), (128, 85, 0.9)):
        for seed in (0, 1):
            write_run(tmp_path, right + seed, val, model__filters=filters, seed=seed)
    table = tables.leaderboard(compared(tmp_path))
    assert column(table, "setting") == ["A", "B", "C"]
    assert column(table, "model.filters") == ["16", "128", "8"]
    assert [row[1].value for row in table.rows] == [16, 128, 8]
    assert column(table, "validation accuracy") == ["95.00%", "90.00%", "80.00%"]
    assert column(table, "test accuracy") == ["90.50%", "85.50%", "80.50%"]
    assert table.caption.startswith("Settings, best validation first")


def test_columns_without_a_figure_are_left_out(tmp_path: Path) -> None:
    write_run(tmp_path, val=None)
    table = tables.leaderboard(compared(tmp_path))
    assert "validation accuracy" not in table.head
    assert "sd" not in table.head
    assert "95% CI of one test set" in table.head
    assert "best" not in table.caption


def test_every_metric_that_a_run_has_is_a_column(tmp_path: Path) -> None:
    edit_result(write_run(tmp_path), test__ece=0.025, test__nll=0.5)
    table = tables.leaderboard(compared(tmp_path))
    assert table.head.index("95% CI of one test set") < table.head.index("validation loss")
    assert column(table, "test expected calibration error") == ["2.50%"]
    assert column(table, "test negative log-likelihood") == ["0.5000"]
    assert "test macro F1" not in table.head


def test_an_interval_does_not_leave_what_a_fraction_can_be(tmp_path: Path) -> None:
    for seed, right in enumerate((70, 99)):
        write_run(tmp_path, right, seed=seed)
    table = tables.leaderboard(compared(tmp_path))
    assert column(table, "95% CI of the mean") == ["0.00–100.00"]


def test_an_interval_of_a_difference_ends_at_a_hundred_points(tmp_path: Path) -> None:
    for seed, (right, other) in enumerate(((5, 99), (99, 1))):
        write_run(tmp_path, right, seed=seed, model__filters=4)
        write_run(tmp_path, other, seed=seed, model__filters=8)
    comparison = compared(tmp_path)
    [verdict] = comparison.verdicts
    outcome = verdict.trial.outcome
    assert outcome is not None
    assert outcome.low < -1
    assert outcome.high > 1
    table = tables.verdicts(comparison)
    assert table is not None
    assert column(table, "95% CI") == ["-100.00 to +100.00"]
    [shown] = [each for each in columns.verdicts(comparison) if each.head[1] == "95% CI"]
    assert shown.cells == ["-100.00 to +100.00"]


def test_two_keys_make_a_grid(tmp_path: Path) -> None:
    for filters in (4, 32):
        for hidden in (8, 16, 64):
            val = 0.5 + filters / 100 + hidden / 1000
            write_run(tmp_path, val=val, model__filters=filters, model__hidden=hidden)
    table = tables.grid(compared(tmp_path).rows, "val_accuracy")
    assert table is not None
    assert table.head == ["", "8", "16", "64"]
    assert texts(table.rows)[0] == ["4", "54.80%", "55.60%", "60.40%"]
    fractions = [
        cell.fraction for row in table.rows for cell in row[1:] if cell.fraction is not None
    ]
    assert min(fractions) == 0
    assert max(fractions) == 1


def test_a_grid_with_a_hole_is_none(tmp_path: Path) -> None:
    for filters, hidden in ((4, 8), (4, 16), (32, 8)):
        write_run(tmp_path, model__filters=filters, model__hidden=hidden)
    assert tables.grid(compared(tmp_path).rows, "val_accuracy") is None


def test_keys_that_only_some_settings_have_make_no_grid(tmp_path: Path) -> None:
    write_run(tmp_path, model="baseline", model__filters=4)
    write_run(tmp_path, model="mlp", model__layers=1)
    assert tables.grid(compared(tmp_path).rows, "val_accuracy") is None


def test_short_names_where_they_stay_clear(tmp_path: Path) -> None:
    write_run(tmp_path, val=0.9, model__filters=4, optim__lr=0.1)
    write_run(tmp_path, val=0.8, model__filters=8, optim__lr=0.2)
    assert tables.short(compared(tmp_path).rows[0]) == "A  filters=4  lr=0.1"
    for number, folder in enumerate(sorted(tmp_path.glob("runs/*"))):
        result = json.loads((folder / "result.json").read_text())
        result["config"]["augment"]["filters"] = number
        (folder / "result.json").write_text(json.dumps(result))
    assert "model.filters=4" in tables.short(compared(tmp_path).rows[0])


@pytest.mark.parametrize(
    ("value", "text"), [(0.000168998, "0.000169"), (0.9995, "0.9995"), (12345678, "12345678")]
)
def test_numbers_of_a_search_have_three_digits_in_figures(value: float, text: str) -> None:
    assert tables.brief(value) == text


def test_verdicts_name_the_settings_by_letter(tmp_path: Path) -> None:
    for seed in range(3):
        write_run(tmp_path, 90 + seed, 0.9, model__filters=4, seed=seed)
        write_run(tmp_path, 50 + seed % 2, 0.8, model__filters=8, seed=seed)
    table = tables.verdicts(compared(tmp_path))
    assert table is not None
    assert column(table, "settings") == ["A and B"]
    assert column(table, "verdict")[0].startswith("A beats B (p ")
    assert "Holm" not in table.caption, "one comparison is no family"


def test_config_beside_its_defaults(tmp_path: Path) -> None:
    write_run(tmp_path, optim="sgd", optim__lr=0.3)
    table = details.config(compared(tmp_path).rows[0].setting.runs[0])
    said = {row[0].text: [cell.text for cell in row[1:]] for row in table.rows}
    assert said["optim.lr"] == ["0.3", "0.1"]
    assert said["optim.momentum"] == ["0.9", ""]
    assert said["model.filters"] == ["28", ""]
    assert "outputs" not in said


# ---------------------------------------------------------------- which figures


def captions(result: Sequence[charts.Chart]) -> list[str]:
    return [chart.caption for chart in result]


def test_one_key_has_one_figure_in_the_order_of_its_values(tmp_path: Path) -> None:
    for filters in (128, 4, 16):
        for seed in (0, 1):
            write_run(tmp_path, val=0.9 + seed / 100, model__filters=filters, seed=seed)
    [chart] = charts.effects(compared(tmp_path).rows, "val_accuracy")
    assert chart.caption == "model.filters: one dot per run; line: mean and 95% CI"
    positions = [chart.svg.index(f"filters={value}<") for value in (4, 16, 128)]
    assert positions == sorted(positions)
    assert chart.svg.count("<circle") == 6


def test_where_other_keys_vary_too_no_interval_is_drawn(tmp_path: Path) -> None:
    for filters in (4, 16):
        for hidden in (8, 64):
            for seed in (0, 1):
                write_run(
                    tmp_path, val=0.9 + seed / 100, model__filters=filters, model__hidden=hidden,
                    seed=seed,
                )  # fmt: skip
    ranking, *effects = charts.effects(compared(tmp_path).rows, "val_accuracy")
    assert "95% CI" in ranking.caption
    said = "one dot per run; line: mean, without a CI since other keys vary within a row"
    assert captions(effects) == [f"model.filters: {said}", f"model.hidden: {said}"]
    assert not any('class="interval"' in chart.svg for chart in effects)


def test_many_numbers_are_a_scatter_plot(tmp_path: Path) -> None:
    for number in range(charts.MOST_LINES + 1):
        write_run(tmp_path, val=0.5 + number / 100, optim__lr=10.0**-number)
    [chart] = charts.effects(compared(tmp_path).rows, "val_accuracy")
    assert "highest, 62%, at optim.lr=1e-12" in chart.svg
    assert "lr=" not in str(chart.svg).partition("</desc>")[2]
    assert chart.svg.count("<circle") == charts.MOST_LINES + 1


@pytest.mark.parametrize("seeds", [1, 2])
def test_values_that_come_once_are_a_scatter_plot_and_repeated_ones_are_lines(
    tmp_path: Path, seeds: int
) -> None:
    for number in range(charts.FEW_LINES + 1):
        for seed in range(seeds):
            write_run(tmp_path, val=0.5 + number / 100, optim__lr=10.0**-number, seed=seed)
    [chart] = charts.effects(compared(tmp_path).rows, "val_accuracy")
    assert ("lr=0.1" in str(chart.svg).partition("</desc>")[2]) == (seeds == 2)


def test_settings_of_one_run_are_ranked_in_the_table_alone(tmp_path: Path) -> None:
    for filters in (4, 16):
        for hidden in (8, 64):
            write_run(tmp_path, val=0.9, model__filters=filters, model__hidden=hidden)
    result = charts.effects(compared(tmp_path).rows, "val_accuracy")
    assert [chart.caption.partition(":")[0] for chart in result] == [
        "model.filters",
        "model.hidden",
    ]


def test_three_numeric_keys_make_parallel_coordinates(tmp_path: Path) -> None:
    for number in range(4):
        write_run(
            tmp_path, val=0.5 + number / 10, model__filters=4 + number,
            optim__lr=0.1 / (1 + number), model__dropout=number / 10,
        )  # fmt: skip
    rows = compared(tmp_path).rows
    chart = charts.parallel(rows, "val_accuracy")
    assert chart is not None
    assert "the best, 80%, with" in chart.svg
    assert charts.parallel(rows[:1], "val_accuracy") is None


# ---------------------------------------------------------------- learning curves


def test_curves_are_said_to_be_without_test_time_augmentation_where_a_setting_has_it(
    tmp_path: Path,
) -> None:
    lines = []
    for kind in ("none", "grid"):
        write_history(write_run(tmp_path, train__tta=kind, val=0.8), 2)
        lines += [section.lines for section in page.build([tmp_path]).sections]
    assert lines == [
        "Validation solid, training dashed",
        "Validation solid, training dashed; epochs are measured without test-time augmentation "
        "(train.tta)",
    ]


def test_what_the_learning_curves_show_is_said_of_those_that_show_something(
    tmp_path: Path,
) -> None:
    rising = [1.0, 0.5, 0.4, 0.5, 0.6, 0.7, 0.8]
    for filters, losses in ((4, rising), (8, [0.5] * 7)):
        for seed in (0, 1):
            folder = write_run(tmp_path, val=0.9 - filters / 100, model__filters=filters, seed=seed)
            rows = [
                {
                    "epoch": epoch, "val_loss": loss, "val_accuracy": 0.5,
                    "train_loss": 1 / epoch, "train_accuracy": 1.0,
                }
                for epoch, loss in enumerate(losses, start=1)
            ]  # fmt: skip
            (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    [said] = charts.readings(compared(tmp_path).rows)
    assert said.startswith(
        "In 2 of 2 runs of A (values of the first), validation loss was best at epoch 3"
    )
    reporting.write([tmp_path], tmp_path / "report.html")
    assert f"<p>{said}</p>" in (tmp_path / "report.html").read_text()


def write_history(folder: Path, epochs: int, **columns: Any) -> None:
    rows = []
    for epoch in range(1, epochs + 1):
        metrics = {
            "train_loss": 1 / epoch,
            "train_accuracy": 0.5,
            "val_loss": 1.0,
            "val_accuracy": 0.4,
        }
        rows.append({"epoch": epoch, **metrics, **columns})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_curves_go_as_far_as_all_runs_of_a_setting(tmp_path: Path) -> None:
    for seed, epochs in ((0, 5), (1, 3)):
        write_history(write_run(tmp_path, seed=seed), epochs)
    [accuracy, loss], alone = charts.learning_curves(compared(tmp_path).rows)
    assert alone == []
    assert accuracy.caption == "Accuracy"
    assert ">3</text>" in loss.svg
    assert ">5</text>" not in loss.svg


def test_a_setting_without_curves_leaves_the_colors_of_the_others(tmp_path: Path) -> None:
    write_run(tmp_path, val=0.9, model__filters=4)
    write_history(write_run(tmp_path, val=0.8, model__filters=8), 3)
    [accuracy, _], _ = charts.learning_curves(compared(tmp_path).rows)
    assert '<g class="c1">' in accuracy.svg
    assert '<g class="c0">' not in accuracy.svg


def test_more_settings_than_colors_are_shown_one_by_one_as_well(tmp_path: Path) -> None:
    for number in range(COLORS + 1):
        write_history(write_run(tmp_path, val=0.9 - number / 100, model__filters=number + 1), 3)
    together, alone = charts.learning_curves(compared(tmp_path).rows)
    assert len(together) == 2
    assert together[0].svg.count('<g class="rest">') == 1
    assert [chart.caption.split()[-1] for chart in alone] == [
        f"filters={number + 1}" for number in range(COLORS + 1)
    ]
    assert all('<g class="c0">' in chart.svg for chart in alone)


@pytest.mark.parametrize(
    "columns", [{"train_loss": None}, {"train_loss": float("nan")}, {"val_loss": "x"}]
)
def test_damaged_curves_are_none(tmp_path: Path, columns: dict[str, Any]) -> None:
    write_history(tmp_path, 3, **columns)
    assert charts.columns(RunFolder(tmp_path).history()) == {}


def test_history_has_a_gap_where_there_was_no_validation(tmp_path: Path) -> None:
    write_history(tmp_path, 3, val_loss=None, val_accuracy=None)
    assert np.isnan(charts.columns(RunFolder(tmp_path).history())["val_loss"]).all()


# ---------------------------------------------------------------- the first sentences


def test_the_answer_names_few_and_counts_many(tmp_path: Path) -> None:
    for seed in range(3):
        write_run(tmp_path, 90 + seed, 0.95, model__filters=100, seed=seed)
        for filters in range(1, 5):
            write_run(
                tmp_path, 50 + seed % 2, 0.5 + filters / 100, model__filters=filters, seed=seed
            )
    best, verdict = answer.answer(compared(tmp_path))
    assert best.startswith("Best of 5 settings by validation: model.filters=100 (A), with 95.00%.")
    assert "91.00%" in best
    assert verdict.startswith(
        "On the test set, it beats all 4 others, the closest by validation being B (model.filters=4"
    )


def test_no_difference_from_many_is_said_of_any_of_them(tmp_path: Path) -> None:
    for filters in range(1, 5):
        write_run(tmp_path, 80, 0.5 + filters / 100, model__filters=filters)
    _, verdict = answer.answer(compared(tmp_path))
    assert "no difference is shown from any of the 3 others, the closest" in verdict


def test_one_run_has_the_interval_of_its_test_set(tmp_path: Path) -> None:
    write_run(tmp_path, 90)
    comparison = compared(tmp_path)
    [sentence] = answer.answer(comparison)
    interval = "95% CI 82.56–94.48; one run, 100 images"
    assert sentence == f"digits baseline: test accuracy 90.00% ({interval})."
    assert answer.discipline(comparison, 0).startswith("Only one setting was tried")


def test_equal_runs_have_the_interval_of_their_test_set(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path, 90, seed=seed)
    [sentence] = answer.answer(compared(tmp_path))
    assert "(95% CI 82.56–94.48; 2 runs of equal accuracy, 100 images)" in sentence


def test_two_settings_without_validation_are_still_tested(tmp_path: Path) -> None:
    write_run(tmp_path, range(50), None, model__filters=4)
    write_run(tmp_path, range(20, 100), None, model__filters=8)
    comparison = compared(tmp_path)
    first, second = answer.answer(comparison)
    assert "no validation set" in first
    assert second == "On the test set, B beats A (p < 0.001)."
    assert "validation" not in answer.discipline(comparison, 0)


def test_without_validation_every_two_settings_are_named(tmp_path: Path) -> None:
    for filters, right in ((4, range(50)), (8, range(20, 100)), (16, range(20, 99))):
        write_run(tmp_path, right, None, model__filters=filters)
    comparison = compared(tmp_path)
    table = tables.verdicts(comparison)
    assert table is not None
    assert table.caption.startswith("All pairs of settings")
    assert column(table, "settings") == ["A and B", "A and C", "B and C"]
    assert [words.partition(" (")[0] for words in column(table, "verdict")] == [
        "B beats A", "C beats A", "no difference shown",
    ]  # fmt: skip
    assert answer.answer(comparison)[1:] == [
        "On the test set, B beats A (p = 0.001).",
        "On the test set, C beats A (p = 0.001).",
        "On the test set, no difference is shown between B and C.",
    ]


# ---------------------------------------------------------------- more data


def test_the_page_says_what_twice_the_images_would_bring_and_draws_it(tmp_path: Path) -> None:
    for fraction, rights in {0.25: [80, 82, 81], 0.5: [86, 88, 87], 1.0: [91, 92, 90]}.items():
        for seed, right in enumerate(rights):
            folder = write_run(tmp_path, right, split__train_fraction=fraction, seed=seed)
            edit_result(folder, dataset__num_train=int(400 * fraction))
    out = tmp_path / "report.html"
    reporting.write([tmp_path], out)
    page = out.read_text()
    assert "<h2>Would more data help?</h2>" in page
    words = page[page.index("Doubling the training images from 400 to 800 would gain +") :]
    assert "points of test accuracy (95% CI +" in words
    assert "bootstrap over 3 runs per size" in words
    assert "test accuracy by number of training images" in page
    assert "dashed: power law" in page


@pytest.mark.parametrize(
    ("fractions", "words"),
    [
        ((0.25, 0.5, 1.0), "no CI, which needs 3 seeds per size"),
        ((0.5, 1.0), "A power law needs at least 3 sizes, such as split.train_fraction=0.1,0.3,1."),
    ],
)
def test_too_few_seeds_or_sizes_are_said(
    tmp_path: Path, fractions: tuple[float, ...], words: str
) -> None:
    for fraction in fractions:
        folder = write_run(tmp_path, 80 + int(10 * fraction), split__train_fraction=fraction)
        edit_result(folder, dataset__num_train=int(400 * fraction))
    [sentence] = answer.more_data(data_size.of_rows(compared(tmp_path).rows))
    assert words in sentence


def test_one_size_draws_nothing(tmp_path: Path) -> None:
    write_run(tmp_path, 90)
    assert charts.data_size(data_size.of_rows(compared(tmp_path).rows)) is None


def test_every_setting_has_its_color_in_the_figure_of_sizes(tmp_path: Path) -> None:
    for filters in (4, 28):
        for fraction in (0.25, 0.5, 1.0):
            right = 80 + int(10 * fraction) + filters // 10
            folder = write_run(
                tmp_path, right, split__train_fraction=fraction, model__filters=filters
            )
            edit_result(folder, dataset__num_train=int(400 * fraction))
    result = data_size.of_rows(compared(tmp_path).rows)
    legend = charts.size_legend(result)
    assert {cell.text for cell in legend} == {"model.filters=4", "model.filters=28"}
    assert [cell.key for cell in legend] == ["c0", "c1"]
    chart = charts.data_size(result)
    assert chart is not None
    assert [chart.svg.count(f'class="{key}"') for key in ("c0", "c1")] == [1, 1]
    assert len(answer.more_data(result)) == 2


def test_the_page_says_how_much_of_the_spread_over_seeds_is_noise(tmp_path: Path) -> None:
    for seed in range(5):
        write_run(tmp_path, range(seed, 80 + 2 * seed), seed=seed)
    out = tmp_path / "report.html"
    reporting.write([tmp_path], out)
    assert "A: of the sd of 1.58 over 5 runs, " in out.read_text()
