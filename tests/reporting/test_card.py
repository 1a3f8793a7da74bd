"""`tinylab report RUN --card`: every number on the card is one of the run's files."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinylab import cli
from tinylab import reporting as report
from tinylab.errors import UserError
from tinylab.reporting.card import markdown


@pytest.fixture(scope="module")
def trained(costly: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    outputs = tmp_path_factory.mktemp("outputs")
    overrides = ["model=mlp", "train.epochs=2", "train.batch_size=64", f"outputs={outputs}"]
    assert cli.run(["train", *overrides]) == 0
    [folder] = outputs.glob("runs/digits-*")
    return folder


def result_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text())


def card_of(folder: Path, tmp_path: Path, **dataset: Any) -> str:
    """The card of a copy of the run with other facts about its dataset."""
    copy = tmp_path / folder.name
    copy.mkdir()
    result = result_of(folder)
    result["dataset"] |= dataset
    (copy / "result.json").write_text(json.dumps(result))
    (copy / "predictions.npz").write_bytes((folder / "predictions.npz").read_bytes())
    report.write_card(copy, copy / "card.md")
    return (copy / "card.md").read_text()


def test_the_card_says_what_the_run_found(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["report", str(trained), "--card"]) == 0
    assert capsys.readouterr().out == f"card    {trained / 'MODEL_CARD.md'}\n"
    card, result = (trained / "MODEL_CARD.md").read_text(), result_of(trained)
    low, high = result["test"]["accuracy_ci95"]
    shown = f"{100 * low:.2f}–{100 * high:.2f}"
    words = f"{result['test']['accuracy']:.2%} (95% CI {shown})"
    assert f"It classifies {words} of {result['test']['num']} test images correctly." in card
    for part in ("train", "val", "test"):
        score = result[part]
        assert (
            f"| {part} | {score['num']:,} | {score['accuracy']:.2%} | {score['loss']:.4f} |" in card
        )
    for recall, name in zip(result["test"]["per_class_recall"], range(10), strict=True):
        assert re.search(rf"^\| {name} \| \d+ \| {recall:.1%} \|$", card, re.MULTILINE)
    assert result["dataset"]["fingerprint"] in card
    assert result["split_sha256"] in card
    assert "| train.batch_size | 64 | 32 |" in card
    assert f"| torch | {result['environment']['torch']} |" in card
    threads = result_of(trained)["environment"]["threads"]
    assert f"    tinylab train --from {trained} threads={threads}\n" in card
    assert "- Duplicates: none (no two images have the same pixels)." in card


def test_confusion_is_described_in_words(trained: Path) -> None:
    report.write_card(trained, trained / "card.md")
    message = re.findall(
        r"^- (\d) was predicted as (\d) in (\d+) test images? \(",
        (trained / "card.md").read_text(),
        re.M,
    )
    confusion = result_of(trained)["confusion"]
    assert 1 <= len(message) <= 5
    assert all(confusion[int(a)][int(b)] == int(count) for a, b, count in message)
    most = max(confusion[i][j] for i in range(10) for j in range(10) if i != j)
    assert int(message[0][2]) == most


def test_duplicates_are_reported_and_are_a_limit(trained: Path, tmp_path: Path) -> None:
    card = card_of(trained, tmp_path, duplicates="18 duplicate images, 4 in test and train")
    assert "- Duplicates: 18 duplicate images, 4 in test and train." in card
    assert "in both the training and the test set make the test accuracy optimistic" in card


def test_the_card_reports_overfitting(trained: Path, tmp_path: Path) -> None:
    assert "Validation loss was" not in card_of(trained, tmp_path)
    rows = [
        {"epoch": epoch, "train_loss": 1 / epoch, "train_accuracy": 1.0, "val_loss": loss}
        for epoch, loss in enumerate([1.0, 0.5, 0.4, 0.5, 0.6, 0.7, 0.8], start=1)
    ]
    copy = tmp_path / trained.name
    (copy / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    report.write_card(copy, copy / "card.md")
    assert "Validation loss was best at epoch 3 (0.4)" in (copy / "card.md").read_text()


def test_an_older_run_did_not_record_duplicates(trained: Path, tmp_path: Path) -> None:
    card = card_of(trained, tmp_path, duplicates=None)
    assert "- Duplicates: not recorded by this run." in card
    assert "optimistically biased" in card
    assert "in both the training and the test set" not in card


def test_names_do_not_become_markup(trained: Path, tmp_path: Path) -> None:
    names = ["<script>", "a|b", "*x*", "`y`", "[z](http:w)", *"56789"]
    card = card_of(trained, tmp_path, classes=names)
    assert "<script>" not in card
    assert r"Classes: \<script\>, a\|b, \*x\*, \`y\`, \[z\](http:w), 5" in card
    rows = [line for line in card.splitlines() if line.startswith("| a")]
    assert all(re.sub(r"\\\|", "", row).count("|") == 4 for row in rows)


@given(st.text())
def test_a_value_stays_on_its_line_and_in_its_cell(text: str) -> None:
    escaped = str(markdown(text))
    assert len(escaped.splitlines()) <= 1
    assert not re.search(r"(?<!\\)(\\\\)*[|<>*`]", escaped)
    assert re.sub(r"\\([\\`*<>|\[\]~&#])", r"\1", escaped) == " ".join(text.split())


def test_what_is_no_finished_run_has_no_card(tmp_path: Path, trained: Path) -> None:
    with pytest.raises(UserError, match="expected the folder of a finished run"):
        report.write_card(tmp_path, tmp_path / "card.md")
    assert cli.run(["report", str(trained), str(trained), "--card"]) == 1
    assert not (tmp_path / "card.md").exists()


def test_a_result_that_lacks_something_is_an_error_in_words(trained: Path, tmp_path: Path) -> None:
    result = result_of(trained)
    del result["dataset"]["image_shape"]
    (tmp_path / "result.json").write_text(json.dumps(result))
    (tmp_path / "predictions.npz").write_bytes((trained / "predictions.npz").read_bytes())
    with pytest.raises(UserError, match=r"is invalid: dataset\.image_shape is missing"):
        report.write_card(tmp_path, tmp_path / "card.md")
