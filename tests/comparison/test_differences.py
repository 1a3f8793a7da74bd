"""What two runs do not share, in plain words."""

from pathlib import Path

import pytest

from compare_kit import edit_result, write_run
from tinylab import cli
from tinylab.comparison.differences import differences
from tinylab.errors import UserError


def said(first: Path, second: Path) -> list[str]:
    """The differences without the two lines that name the runs."""
    lines = differences(first, second)
    assert lines[:2] == [f"A  {first}", f"B  {second}"]
    return lines[2:]


def test_a_value_that_differs_is_explained(tmp_path: Path) -> None:
    first, second = (write_run(tmp_path, model__filters=filters) for filters in (4, 8))
    assert said(first, second) == ["model.filters: 4 in A, 8 in B (channels of the convolution)"]


def test_what_only_one_choice_has_is_said_so(tmp_path: Path) -> None:
    lines = said(write_run(tmp_path, model="baseline"), write_run(tmp_path, model="mlp"))
    assert "model: baseline in A, mlp in B" in lines
    assert "model.filters: only in A, 28 (channels of the convolution)" in lines
    assert "model.layers: only in B, 2 (number of hidden layers)" in lines
    both = "width of the dense layer; width of each hidden layer"
    assert f"model.hidden: 128 in A, 256 in B ({both})" in lines


def test_a_key_is_described_by_the_option_that_the_run_chose(tmp_path: Path) -> None:
    first, second = (write_run(tmp_path, model__hidden=hidden) for hidden in (8, 16))
    assert said(first, second) == ["model.hidden: 8 in A, 16 in B (width of the dense layer)"]


def test_words_and_nothing_are_shown_as_they_are_typed(tmp_path: Path) -> None:
    lines = said(write_run(tmp_path), write_run(tmp_path, train__ema=0.9, augment__flip=True))
    assert lines[0].startswith("augment.flip: false in A, true in B")
    assert lines[1].startswith("train.ema: null in A, 0.9 in B")


def test_what_cannot_change_a_result_is_only_named(tmp_path: Path) -> None:
    first = write_run(tmp_path / "one", name="mine", device="cpu")
    second = write_run(tmp_path / "other", name="yours", device="cuda")
    assert said(first, second) == [
        "equal in every value that affects the result",
        "not part of a run's identity: device, name",
    ]


def test_one_config_with_other_bits_is_said_with_what_they_depend_on(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / str(threads), threads=threads) for threads in (1, 2)]
    for threads, run in enumerate(runs, start=1):
        edit_result(run, weights_sha256=f"{threads}f", environment__threads=threads)
    assert said(*runs) == [
        "equal in every value that affects the result, but with other bits",
        "CPU threads: 1 in A, 2 in B",
        "not part of a run's identity: threads",
    ]


def test_other_images_code_and_machines_are_differences_too(tmp_path: Path) -> None:
    first, second = (write_run(tmp_path, seed=seed) for seed in (0, 1))
    edit_result(first, environment={"code_sha256": "c0de", "core_sha256": "c0re"})
    environment = {"code_sha256": "c" * 64, "core_sha256": "d" * 64}
    edit_result(second, dataset__fingerprint="new", environment=environment)
    lines = said(first, second)
    assert lines[0].startswith("seed: 0 in A, 1 in B")
    assert lines[1].startswith("the images themselves: images of DigitsConf")
    assert lines[2] == f"tinylab's code: c0re in A, {'d' * 20} in B"
    assert (
        lines[3] == f"the code of the core and of the selected options: c0de in A, {'c' * 20} in B"
    )


def test_unfinished_runs_are_compared_by_their_configs(tmp_path: Path) -> None:
    first, second = (write_run(tmp_path, seed=seed) for seed in (0, 1))
    (second / "result.json").unlink()
    assert [line.partition(":")[0] for line in said(first, second)] == ["seed"]


@pytest.mark.parametrize("text", [None, "", "- 1", "a: [", "\x00", "1"])
def test_what_is_no_run_is_refused(tmp_path: Path, text: str | None) -> None:
    run, other = write_run(tmp_path), tmp_path / "other"
    other.mkdir()
    if text is not None:
        (other / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=r"^/.*other: expected the folder of a run"):
        differences(run, other)


def test_from_the_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    first, second = (write_run(tmp_path, seed=seed) for seed in (0, 1))
    assert cli.run(["compare", "--diff", str(first), str(second)]) == 0
    assert "seed: 0 in A, 1 in B" in capsys.readouterr().out
