"""`tinylab report`: the page of real runs, of hostile names, and of folders in any state."""

import copy
import html.parser
import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinylab import cli
from tinylab import reporting as report
from tinylab.errors import UserError

SWEEP = ["model=mlp", "model.hidden=4,32", "seed=0,1", "train.epochs=2", "train.batch_size=64"]
HOSTILE = '<script>alert("x")</script>'


class Reader(html.parser.HTMLParser):
    """Notes every tag that is opened, and refuses one that is closed without having been opened."""

    VOID = frozenset({"meta", "img", "input", "br", "wbr"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data)


def read(path: Path) -> Reader:
    """A page, whose tags are closed in order."""
    reader = Reader()
    reader.feed(path.read_text())
    reader.close()
    assert reader.open == []
    return reader


def words(path: Path) -> str:
    """What the page says, with single spaces."""
    return " ".join(" ".join(read(path).words).split())


def written(folder: Path, out: Path | None = None) -> str:
    """What the page on a folder says."""
    out = out or folder / "report.html"
    report.write([folder], out)
    return words(out)


@pytest.fixture(scope="module")
def trained(costly: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of a real sweep of two settings with two seeds each."""
    outputs = tmp_path_factory.mktemp("trained") / "outputs"
    assert cli.run(["train", "-m", *SWEEP, "name=widths", f"outputs={outputs}"]) == 0
    return outputs


@pytest.fixture
def outputs(trained: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(trained, tmp_path / "outputs"))


@pytest.fixture
def sweep(outputs: Path) -> Path:
    return outputs / "sweeps" / "widths"


def change(folder: Path, **changes: Any) -> None:
    """Change entries of every result below a folder; ``dataset__name="x"`` changes an inner one."""
    for path in folder.rglob("result.json"):
        result = json.loads(path.read_text())
        for key, value in changes.items():
            *parts, name = key.split("__")
            inner = result
            for part in parts:
                inner = inner[part]
            inner[name] = value
        path.write_text(json.dumps(result))


# ---------------------------------------------------------------- a real sweep


def test_the_command_writes_beside_the_sweep(
    sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["report", str(sweep)]) == 0
    assert capsys.readouterr().out == f"report  {sweep / 'report.html'}\n"
    said = words(sweep / "report.html")
    assert "tinylab train -m model=mlp model.hidden=4,32 seed=0,1" in said
    assert "Best of 2 settings by validation: model.hidden=32 (A)" in said
    assert "2 settings tried in 4 runs." in said


def test_the_page_needs_nothing_from_outside(sweep: Path) -> None:
    report.write([sweep], sweep / "report.html")
    page = read(sweep / "report.html")
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object")
        for name in ("src", "href", "action", "data"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/png"))
    text = (sweep / "report.html").read_text()
    assert not re.search(r"url\(|@import|https?://", text)
    assert len(text) < 200_000


def test_every_figure_and_picture_has_words(sweep: Path) -> None:
    report.write([sweep], sweep / "report.html")
    page = read(sweep / "report.html")
    kinds = [tag for tag, _ in page.tags]
    assert kinds.count("svg") == 4, "two learning curves, the effect of one key, risk by coverage"
    assert kinds.count("title") >= 1 + kinds.count("svg")
    assert kinds.count("desc") == kinds.count("svg")
    assert all(attributes.get("alt") for tag, attributes in page.tags if tag == "img")


def test_numbers_on_the_page_are_those_of_the_results(sweep: Path, outputs: Path) -> None:
    said = written(sweep)
    results = [json.loads(path.read_text()) for path in outputs.glob("runs/*/result.json")]
    for hidden in (4, 32):
        same = [r for r in results if r["config"]["model"]["hidden"] == hidden]
        for part in ("val", "test"):
            assert f"{np.mean([r[part]['accuracy'] for r in same]):.2%}" in said
    for result in results:
        assert f"{result['test']['accuracy']:.2%}" in said
        assert result["run_id"] in said
        assert result["environment"]["torch"] in said


@pytest.mark.costly
def test_no_torch_is_imported(sweep: Path) -> None:
    code = (
        "import sys; from tinylab import cli; "
        f"assert cli.run(['report', {str(sweep)!r}]) == 0; "
        "print([name for name in ('torch', 'matplotlib', 'hydra') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_single_run_has_a_page_beside_it(outputs: Path) -> None:
    run = next(outputs.glob("runs/digits-*"))
    assert cli.run(["report", str(run)]) == 0
    said = words(run / "report.html")
    assert f"tinylab train --from {run}" in said
    assert "One run: the CI covers the choice of test images" in said
    assert "Comparisons" not in said
    assert "Explanations" in said
    assert "No Grad-CAM: the network has no convolution." in said
    assert "179 test images by the input of the last layer" in said
    assert said.count("nearest features") == 6
    assert (run / "report.html").stat().st_size < 500_000


def test_other_paths_are_reported_in_this_folder(
    outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one, other, *_ = outputs.glob("runs/digits-*")
    assert cli.run(["report", str(one), str(other)]) == 0
    assert cli.run(["report", str(outputs), "--out", "deep/all.html"]) == 0
    assert f"every finished run in {outputs}" in words(Path("deep/all.html"))
    assert "2 settings tried in 4 runs" in words(Path("deep/all.html"))
    assert all(run.name in words(Path("report.html")) for run in (one, other))


def test_a_question_can_be_given(sweep: Path) -> None:
    report.write([sweep], sweep / "report.html", "Does width help?")
    assert "Does width help?" in words(sweep / "report.html")
    assert "train -m" not in words(sweep / "report.html")


# ---------------------------------------------------------------- what is not to be concluded


def test_a_better_test_accuracy_elsewhere_is_warned_of(sweep: Path, outputs: Path) -> None:
    for path in outputs.glob("runs/*/result.json"):
        is_wide = json.loads(path.read_text())["config"]["model"]["hidden"] == 32
        change(path.parent, test__accuracy=0.5 if is_wide else 0.9)
    said = written(sweep)
    assert "Validation and test accuracy disagree on the best setting" in said
    assert "B has 90.00%" in said


def test_no_warning_where_validation_and_test_agree(sweep: Path) -> None:
    assert "disagree on the best setting" not in written(sweep)


def test_without_validation_nothing_is_best(sweep: Path, outputs: Path) -> None:
    change(outputs, val=None)
    said = written(sweep)
    assert "2 settings, but no validation set to select one" in said
    assert "No validation set (split.val=0)" in said
    assert "Best of" not in said
    assert "validation accuracy" not in said.partition("Details")[0]


# ---------------------------------------------------------------- names from users


def test_markup_in_names_is_only_text(sweep: Path, outputs: Path) -> None:
    classes = [HOSTILE, *"123456789"]
    change(
        outputs, dataset__classes=classes, command=HOSTILE, environment__device_name=HOSTILE,
        config__optim__schedule=HOSTILE, dataset__name=HOSTILE,
    )  # fmt: skip
    state = json.loads((sweep / "sweep.json").read_text())
    (sweep / "sweep.json").write_text(json.dumps({**state, "arguments": [HOSTILE]}))
    report.write([sweep], sweep / "b.html")
    page = read(sweep / "b.html")
    assert [tag for tag, _ in page.tags].count("script") == 1, "the page's own"
    assert "".join(page.words).count(HOSTILE) >= 4, "shown, as text"
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)


def test_markup_in_config_values_is_only_text_in_figures(outputs: Path, sweep: Path) -> None:
    for number, path in enumerate(sorted(outputs.glob("runs/*/result.json"))):
        change(path.parent, config__optim__schedule=f"{HOSTILE}{number}", config__seed=0)
    page_words = written(sweep)
    assert page_words.count(HOSTILE) >= 4
    assert [tag for tag, _ in read(sweep / "report.html").tags].count("script") == 1


def test_a_hostile_folder_name_is_only_text(outputs: Path) -> None:
    run = next(outputs.glob("runs/digits-*"))
    odd = run.rename(run.with_name("<b>&amp;' \"x"))
    assert "<b>&amp;' \"x" in written(odd, outputs / "report.html")


# ---------------------------------------------------------------- folders in any state


def test_unfinished_failed_and_foreign_folders_are_listed(outputs: Path, sweep: Path) -> None:
    state = json.loads((sweep / "sweep.json").read_text())
    unfinished, failed, foreign = (outputs / "runs" / job["run_id"] for job in state["jobs"][:3])
    (unfinished / "result.json").unlink()
    shutil.rmtree(failed)
    failed.mkdir()
    (failed / "failure.json").write_text('{"status": "failed", "error": "too hot\\nmore"}')
    (foreign / "result.json").write_text("[]")
    said = written(sweep)
    assert "3 left out" in said
    assert "1 setting tried in 1 run, not counting 3 left out below." in said
    for folder, reason in ((unfinished, "unfinished"), (failed, "failed: too hot")):
        assert f"{folder} {reason}" in said
    assert str(foreign) in said


def test_nothing_finished_is_an_error_and_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    out = tmp_path / "report.html"
    with pytest.raises(UserError, match="no finished run in"):
        report.write([tmp_path / "empty"], out)
    with pytest.raises(UserError, match="does not exist"):
        report.write([tmp_path / "absent"], out)
    assert not out.exists()


def test_wrong_arguments_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["report"]) == 1
    assert "required: path" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 no more", b"[1, 2]"])
@pytest.mark.parametrize("name", ["predictions.npz", "metrics.jsonl", "split.npz", "config.yaml"])
def test_a_lost_or_damaged_file_costs_only_its_part(
    outputs: Path, sweep: Path, name: str, content: bytes | None
) -> None:
    for path in outputs.glob(f"runs/*/{name}"):
        path.unlink() if content is None else path.write_bytes(content)
    said = written(sweep)
    assert "Best of 2 settings" in said
    assert ("Not available: " in said) == (name == "predictions.npz")
    assert ("Learning curves" in said) == (name != "metrics.jsonl")


def leaves(value: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The paths of all values in a result."""
    if not isinstance(value, dict):
        return [path]
    return [path, *(leaf for key in value for leaf in leaves(value[key], (*path, key)))]


@pytest.mark.costly
def test_a_result_with_anything_in_it_is_no_crash(outputs: Path) -> None:
    """Each value of a result in turn is left out or another, beside a good run of its setting."""
    paths = sorted(outputs.glob("runs/*/result.json"))
    good = {path: json.loads(path.read_text()) for path in paths}
    one, other = (path for path in paths if good[path]["config"]["model"]["hidden"] == 4)
    wrongs: list[Any] = [None, "x", [], {}, math.nan]
    # Of the config's values one of each kind is enough.
    seeds = ("name", "seed", "fold")
    paths = [p for p in leaves(good[one])[1:] if p[0] != "config" or len(p) < 3 or p[2] in seeds]
    for number, (*parts, name) in enumerate(paths):
        result = copy.deepcopy(good[one])
        inner = result
        for key in parts:
            inner = inner[key]
        del inner[name]
        if number % 6 < 5:
            inner[name] = wrongs[number % 6]
        one.write_text(json.dumps(result))
        assert report.build([one.parent, other.parent]).sections


def test_two_datasets_are_two_sections(outputs: Path) -> None:
    first, *_ = sorted(outputs.glob("runs/digits-*"))
    change(first, dataset__name="other", config__dataset__name="other")
    said = written(outputs)
    assert said.count("Its test accuracy is") + said.count(": test accuracy") == 2
    assert "dataset=other: no such option" in said
