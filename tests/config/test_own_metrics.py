"""Metrics of a user's own file: what is refused when it is read, and what an edit outdates."""

from pathlib import Path

import numpy as np
import pytest

from option_records import AdamConfig, DigitsConfig, MlpConfig
from tinylab import cli
from tinylab.commands.completion import answers
from tinylab.commands.train_help import help_text
from tinylab.config import code, options, own_metrics
from tinylab.config.identity import run_id
from tinylab.config.metrics import METRICS, goodness
from tinylab.config.schema import Config, SweepConfig, TrainConfig
from tinylab.errors import UserError
from tinylab.training.own_metrics import OwnMetrics, load

SOURCE = """import tinylab
from torch import nn

FACTOR = 1

@tinylab.metric(better="higher")
def score(labels, probabilities, weight=None):
    return (labels == probabilities.argmax(1)).mean() * FACTOR

@tinylab.metric(better="lower", name="far")
def distance(labels, probabilities):
    return abs(labels - probabilities.argmax(1)).mean()

@tinylab.model
class Tiny(nn.Module):
    def __init__(self, image_shape, num_classes):
        super().__init__()
        self.layer = nn.Linear(image_shape[1], num_classes)

    def forward(self, x):
        return self.layer(x.mean((1, 2)))
"""


@pytest.fixture
def marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "marks.py"
    file.write_text(SOURCE)
    options.use_files([file])
    return file


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))
    options.use_files([file])


def config(monitor: str = "accuracy", metric: str = "val_accuracy", model: str = "mlp") -> Config:
    record = MlpConfig() if model == "mlp" else options.record("model", model)
    return Config(
        dataset=DigitsConfig(), model=record, optim=AdamConfig(),
        train=TrainConfig(monitor=monitor), sweep=SweepConfig(metric=metric),
    )  # fmt: skip


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('(better="higher")', "", 'score: expected @tinylab.metric(better="higher"), or'),
        ('(better="higher")', "()", 'score: expected @tinylab.metric(better="higher"), or'),
        ('"higher"', '"more"', "score: better='more': expected"),
        ("(labels, probabilities, weight=None)", "(labels)", "score(labels): expected a function"),
        ("(labels, probabilities)", "(labels, probabilities, k)", "distance(labels, probabilities"),
        (
            "def score(labels, probabilities, weight=None)",
            "def score(*both)",
            "score(): expected a",
        ),
        ('"far"', '"val far"', "name='val far': expected letters"),
        ("def score", "def Accuracy", "name='accuracy': expected letters"),
        ('"far"', '"num"', "none of the built-in metrics"),
        ('"far"', '"score"', '@tinylab.metric(name="my_score")'),
    ],
)
def test_a_metric_that_cannot_be_is_refused_when_its_file_is_read(
    marks: Path, old: str, new: str, words: str
) -> None:
    marks.write_text(SOURCE.replace(old, new, 1))
    with pytest.raises(UserError) as refused:
        options.use_files([marks])
    assert words in str(refused.value)
    assert str(marks) in str(refused.value)
    assert len(str(refused.value).splitlines()) <= 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train.monitor=scor"], "train.monitor=scor: expected one of accuracy, loss"),
        (["train.monitor=scor"], "did you mean 'score'?"),
        (["sweep.metric=score"], "did you mean 'val_score'?"),
    ],
)
def test_a_typo_is_refused_before_anything_is_executed(
    marks: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    marks.write_text("raise SystemExit('executed')\n" + SOURCE)
    assert cli.run(["train", "code=marks.py", *arguments]) == 1
    assert words in capsys.readouterr().err
    assert cli.run(["train", "code=marks.py", "train.monitor=far", "--cfg", "job"]) == 0
    assert "train.monitor=far  sweep.metric=val_far" in help_text()
    assert answers("tinylab train code=marks.py train.monitor=sc") == ["train.monitor=score"]
    assert "sweep.metric=val_far" in answers("tinylab train code=marks.py sweep.metric=")


def test_a_metric_that_only_a_result_tells_of_cannot_choose(marks: Path) -> None:
    options.use_files([])
    with pytest.raises(UserError, match=r"score: none of your files declares this metric\n.*code="):
        own_metrics.refuse_undeclared(config(monitor="score"))
    with pytest.raises(UserError, match="far: none of your files"):
        own_metrics.refuse_undeclared(config(metric="val_far"))


# ---------------------------------------------------------------- identity


def test_metrics_change_no_id_and_no_code_of_a_run(marks: Path) -> None:
    before = run_id(config(model="tiny")), code.of_result(config(model="tiny"))
    edit(marks, ").mean() * FACTOR", ").mean() * FACTOR * 2")
    edit(marks, "def score", "def another")
    assert (run_id(config(model="tiny")), code.of_result(config(model="tiny"))) == before
    edit(marks, "x.mean((1, 2))", "x.amax((1, 2))")
    assert code.of_result(config(model="tiny")) != before[1]


@pytest.mark.parametrize("chosen", [{"monitor": "score"}, {"metric": "val_score"}])
@pytest.mark.parametrize(
    ("old", "new", "counts"),
    [
        ("* FACTOR", "+ 1", True),
        ("FACTOR = 1", "FACTOR = 2", True),
        ("labels - prob", "labels + prob", False),
        ("def score(", "def score(  # words", False),
    ],
)
def test_an_edit_counts_for_runs_that_the_metric_chooses_in(
    marks: Path, chosen: dict[str, str], old: str, new: str, counts: bool
) -> None:
    then = own_metrics.recorded()
    if old == "def score(":
        new = "# words\ndef score("
        old = "def score("
    edit(marks, old, new)
    assert own_metrics.changed(then, config()) is None
    why = own_metrics.changed(then, config(**chosen))
    assert why == ("metric score has changed since" if counts else None)


def test_a_result_without_the_metric_that_chooses_is_outdated(marks: Path) -> None:
    assert own_metrics.changed({}, config(monitor="score")) == "metric score was not computed"
    assert own_metrics.changed({}, config()) is None


def test_values_of_code_of_then_are_noted(marks: Path) -> None:
    then = own_metrics.recorded()
    assert then["far"]["better"] == "lower"
    assert [*own_metrics.notes(then)] == []
    edit(marks, "* FACTOR", "+ 1")
    [edited] = own_metrics.notes(then)
    assert edited.startswith("metric score: edited since")
    [missing] = own_metrics.notes({"score": own_metrics.recorded()["score"]})
    assert missing.startswith("metric far: not computed in this run")


def test_the_table_knows_both_parts_and_which_is_better(marks: Path) -> None:
    assert (METRICS["val_score"].better, METRICS["test_far"].better) == ("higher", "lower")
    near, far = {"val_far": 1.0, "val_loss": 2.0}, {"val_far": 2.0, "val_loss": 1.0}
    assert goodness(near, "val_far") > goodness(far, "val_far")
    unknown = {"val_far": None, "val_loss": 0.5}
    assert goodness(unknown, "val_far") < goodness(far, "val_far")
    assert goodness(unknown, "val_far") > goodness({**unknown, "val_loss": 1.0}, "val_far")


# ---------------------------------------------------------------- values


def test_an_edited_metric_is_imported_again(marks: Path) -> None:
    labels, probabilities = np.zeros(4, np.int64), np.eye(4)
    assert load(4).of(labels, probabilities) == {"far": 1.5, "score": 0.25}
    edit(marks, "* FACTOR", "* 4")
    assert load(4).of(labels, probabilities)["score"] == 1.0


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return labels.no_such", "metric score: AttributeError: "),
        ("return 'good'", "metric score: gives a str for labels (N,) and probabilities (N, 3)\n"),
        ("return probabilities", "metric score: gives a ndarray for"),
        ("return None", "metric score: gives a NoneType for"),
    ],
)
def test_what_fails_on_made_up_data_is_refused(marks: Path, body: str, words: str) -> None:
    edit(marks, "return (labels == probabilities.argmax(1)).mean() * FACTOR", body)
    with pytest.raises(UserError) as refused:
        load(3)
    assert words in str(refused.value)
    assert str(marks) in str(refused.value)
    assert len(str(refused.value).splitlines()) <= 3


@pytest.mark.parametrize("num_classes", [2, 10, 300])
def test_made_up_data_is_like_that_of_a_run(marks: Path, num_classes: int) -> None:
    edit(
        marks,
        "return (labels == probabilities.argmax(1)).mean() * FACTOR",
        "assert labels.dtype == 'int64' and probabilities.dtype == 'float64'\n"
        f"    assert set(labels) == set(range({num_classes}))\n"
        f"    assert probabilities.shape == (len(labels), {num_classes})\n"
        "    assert abs(probabilities.sum(1) - 1).max() < 1e-12\n"
        "    return float('nan')",
    )
    assert set(load(num_classes).functions) == {"far", "score"}


def test_a_metric_that_fails_has_no_value_which_is_said_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    functions = {
        "broken": lambda labels, probabilities: 1 / 0,
        "undefined": lambda labels, probabilities: np.nan,
        "whole": lambda labels, probabilities: np.float32(0.5),
    }
    own = OwnMetrics(functions)
    for _ in range(2):
        result = own.of(np.zeros(2, np.int64), np.ones((2, 1)))
        assert result == {"broken": None, "undefined": None, "whole": 0.5}
    output = capsys.readouterr().out.splitlines()
    assert [line.partition(" has no value")[0] for line in output] == [
        "warning: metric broken", "warning: metric undefined"
    ]  # fmt: skip


def test_a_metric_cannot_change_the_labels_of_the_training() -> None:
    labels, probabilities = np.arange(3), np.eye(3)

    def greedy(given: object, likely: object) -> float:
        given[:] = 0  # type: ignore[index]
        likely[:] = 0  # type: ignore[index]
        return 1.0

    OwnMetrics({"greedy": greedy}).of(labels, probabilities)
    assert labels.tolist() == [0, 1, 2]
    assert (probabilities == np.eye(3)).all()
