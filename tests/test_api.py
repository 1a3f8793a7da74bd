"""The laboratory from Python: the same runs as from the shell, and a process left as it was."""

import ast
import gc
import importlib.util
import json
import logging
import os
import random
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.singleton import Singleton
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

import tinylab
from tinylab import cli
from tinylab.api import swept
from tinylab.api.arguments import arguments
from tinylab.api.trained import TrainedRun
from tinylab.config.schema import Config
from tinylab.errors import Stopped, UserError
from tinylab.ui.display import RunDisplay

pytestmark = pytest.mark.costly
EXAMPLES = Path(__file__).parents[1] / "examples"
SMALL: dict[str, Any] = {"model": "mlp", "train.epochs": 1, "model.hidden": 32, "threads": 1}
IN_SHELL = ["model=mlp", "train.epochs=1", "model.hidden=32", "threads=1"]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the runs of this module lie."""
    return tmp_path_factory.mktemp("api")


@pytest.fixture(scope="module")
def trained(outputs: Path) -> TrainedRun:
    """A run that Python has trained, with a name that needs quotes."""
    return tinylab.train(SMALL, seed=1, outputs=outputs, name="it is one")


# ---------------------------------------------------------------- start


def test_importing_tinylab_imports_nothing_else() -> None:
    code = (
        "import sys; before = set(sys.modules); import tinylab; dir(tinylab); "
        "print(*(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"tinylab"} == set(done.stdout.split())


def test_each_public_name_is_there_and_is_no_module() -> None:
    for name in tinylab.PUBLIC:
        assert name in dir(tinylab)
        assert callable(getattr(tinylab, name))
        assert importlib.util.find_spec(f"tinylab.{name}") is None
    with pytest.raises(AttributeError, match="no attribute 'fit'"):
        tinylab.fit  # noqa: B018


# ---------------------------------------------------------------- arguments


@settings(max_examples=10)  # of 0.2 s; tests/config/test_overrides.py has the many
@given(st.text().filter(lambda text: text != "???"))
@example("${oc.env:HOME}")
@example("\\${x}\\")
@example("it's \\'so\\'")
@example("null")
@example("1e3")
def test_any_text_comes_back_as_it_was_given(text: str) -> None:
    config = tinylab.compose({"dataset": "folder", "dataset.root": text}, outputs=text)
    assert (config.outputs, config.dataset.root) == (text, text)  # type: ignore[attr-defined]


def test_the_mark_of_a_missing_value_is_refused() -> None:
    with pytest.raises(UserError, match=r"outputs='\?\?\?': expected another string"):
        tinylab.compose(outputs="???")


def test_values_are_typed_as_a_shell_would_have_them() -> None:
    given = arguments(
        ["model=mlp", {"optim.lr": np.float32(0.5), "x": [1, "a b", None]}],
        {"seed": np.int64(1), "deterministic": False, "name": None, "outputs": Path("/o/p-1")},
    )
    assert given == [
        "model=mlp", "optim.lr=0.5", "x=[1,'a b',null]",
        "seed=1", "deterministic=false", "name=null", "outputs=/o/p-1",
    ]  # fmt: skip


def test_lists_are_axes_of_a_sweep_but_for_its_own_keys() -> None:
    given = arguments(
        [{"sweep.x": [["a", "b"]]}], {"seed": range(3), "model": ["mlp", "baseline"]}, True
    )
    assert given == ["sweep.x=[[a,b]]", "seed=0,1,2", "model=mlp,baseline"]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: tinylab.compose(modle="mlp"), "modle: unknown key .did you mean 'model'?"),
        (lambda: tinylab.compose("-m", "seed=0,1"), "-m: expected an override.*tinylab.sweep"),
        (lambda: tinylab.compose(3), "3: expected an override"),
        (lambda: tinylab.train(seed=[0, 1]), r"each: tinylab.sweep\('seed=0,1'\)"),
        (lambda: tinylab.train("seed=0,1"), r"expected tinylab.sweep\('seed=0,1'\)"),
        (lambda: tinylab.train(model=["mlp"]), r"each: tinylab.sweep\('model=mlp'\)"),
        (lambda: tinylab.train(model=nn.Linear(1, 1)), 'then use code="linear.py", model="linear"'),
        (lambda: tinylab.compose({1: 2}), "1: expected a key"),
        (lambda: tinylab.compose(model=nn.Linear), "model=Linear: expected a name.*%%writefile"),
        (lambda: tinylab.compose(seed=1j), "seed=1j: expected a number, .* not complex"),
        (lambda: tinylab.train({"optim.lr": -1}), "optim.lr=-1.*: expected"),
        (
            lambda: tinylab.train(train={"epochs": 3}),
            r"train={'epochs': 3}: expected \"train.epochs=3\" or {'train.epochs': 3}$",
        ),
        (lambda: tinylab.sweep({"optim": {"lr": [1, 2]}}), r"expected \"optim.lr=1,2\" or"),
        (lambda: tinylab.sweep(seed=[]), "seed=.*: expected at least one value"),
        (lambda: tinylab.load("nowhere"), "nowhere: not there"),
        (lambda: tinylab.compare("nowhere"), "no finished run in nowhere"),
        (lambda: tinylab.compare(test="z"), "test=z: expected one of"),
        (lambda: tinylab.report("nowhere"), "nowhere"),
    ],
)
def test_a_mistake_is_refused_in_words(call: Any, words: str) -> None:
    with pytest.raises(tinylab.UserError, match=f"(?s){words}"):
        call()


# ---------------------------------------------------------------- one run


def test_the_shell_finds_what_python_has_trained(
    trained: TrainedRun, outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["train", *IN_SHELL, "seed=1", f"outputs={outputs}"]) == 0
    assert f"already finished: test accuracy {trained.test.accuracy:.2%}" in capsys.readouterr().out
    assert [path.name for path in (outputs / "runs").glob("*-*")] == [trained.name]
    command = trained.result.command
    assert shlex.split(command)[:3] == ["tinylab", "train", "model=mlp"]
    capsys.readouterr()
    assert cli.run(shlex.split(command)[1:]) == 0
    assert "already finished" in capsys.readouterr().out


def test_python_finds_what_the_shell_has_trained(
    digits_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tinylab.train({"train.epochs": 6}, outputs=digits_run.parents[1])
    assert "already finished" in capsys.readouterr().out
    assert run.path == digits_run
    assert tinylab.load(digits_run).result == run.result


def test_a_run_reports_all_findings(trained: TrainedRun) -> None:
    assert isinstance(trained.config, Config)
    assert trained.config.name == "it is one"
    assert list(trained.metrics["epoch"]) == [1]
    assert trained.confusion.to_numpy().tolist() == trained.result.confusion
    assert trained.confusion.index.name == "true"
    wrong = trained.mistakes()
    assert len(wrong) == trained.test.num - np.trace(trained.confusion.to_numpy())
    assert (wrong["true"] != wrong["predicted"]).all()
    assert wrong["probability"].is_monotonic_decreasing
    assert f"{trained.test.accuracy:.2%}" in repr(trained)
    page = trained._repr_html_()
    assert "data:image/png;base64," in page
    assert "it is one" not in page
    assert trained.plot()._repr_png_().startswith(b"\x89PNG")


def test_a_run_predicts_as_in_its_own_test(trained: TrainedRun, tmp_path: Path) -> None:
    from tinylab import data
    from tinylab.data.folder import png_bytes

    splits = data.load(trained.config.dataset, trained.config.split)
    images = splits.data.pixels[splits.split.test]
    kept = trained.run.files.predictions(with_probabilities=True)
    assert kept is not None
    probabilities = trained.predict_proba(images)
    np.testing.assert_allclose(probabilities, kept.probabilities, atol=1e-3)
    names = trained.predict(images[:, 0])  # gray images need no channel
    assert list(names) == [trained.classes[label] for label in kept.predicted]
    file = tmp_path / "one.png"
    file.write_bytes(png_bytes(images[0]))
    assert list(trained.predict([file])) == list(trained.predict(str(file))) == [names[0]]
    assert trained.predict(images[:0]).shape == (0,)
    assert isinstance(trained.model, nn.Module)
    assert not trained.model.training


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((2, 8, 8)), r"expected uint8 \(N, 1, 8, 8\) or \(N, 8, 8\), not float64"),
        (np.zeros((2, 8, 8)), "by 255"),
        (np.zeros((2, 3, 8, 8), np.uint8), r"not uint8 \(2, 3, 8, 8\)"),
        ("none.png", "1 of 1 files cannot be read; first: none.png"),
        ([], "no image file"),
    ],
)
def test_what_cannot_be_predicted_is_refused(trained: TrainedRun, images: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        trained.predict(images)


def test_an_interrupt_saves_and_raises_and_the_same_call_goes_on(
    outputs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(RunDisplay, "epoch", lambda *_: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            tinylab.train(SMALL, {"train.epochs": 2}, seed=2, outputs=outputs)
    assert signal.getsignal(signal.SIGINT) is handler
    assert "stopped, checkpoint saved" in capsys.readouterr().out
    run = tinylab.train(SMALL, {"train.epochs": 2}, seed=2, outputs=outputs)
    assert run.result.resumed_at == [{"epoch": 1, "step": 0}]
    assert "\x1b" not in capsys.readouterr().out


def test_another_signal_does_afterwards_what_it_would_have_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stop(*_: object) -> None:
        raise Stopped(signal.SIGUSR1)

    seen: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: seen.append(number))
    try:
        monkeypatch.setattr("tinylab.api.functions.train_config", stop)
        with pytest.raises(Stopped):
            tinylab.train(SMALL)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert seen == [signal.SIGUSR1]


# ---------------------------------------------------------------- nothing stays changed


def state() -> dict[str, Any]:
    """What a process has once, and a notebook wants to find as it left it."""
    memory = torch.utils.deterministic
    return {
        "threads": torch.get_num_threads(),
        "determinism": torch.get_deterministic_debug_mode(),
        "benchmark": torch.backends.cudnn.benchmark,
        "fill": memory.fill_uninitialized_memory,  # type: ignore[attr-defined]
        "torch": torch.get_rng_state().tolist(),
        "numpy": np.random.get_state()[1].tolist(),  # type: ignore[index,union-attr]
        "random": random.getstate(),
        "environment": dict(os.environ),
        "garbage": (gc.get_threshold(), gc.isenabled(), gc.get_freeze_count()),
        "signals": [signal.getsignal(number) for number in signal.valid_signals()],
        "folder": os.getcwd(),
        "arguments": (list(sys.argv), list(sys.path)),
        "logging": (logging.root.level, list(logging.root.handlers)),
        "tinylab's log": list(logging.getLogger("tinylab").handlers),
        "streams": (sys.stdout, sys.stderr, sys.excepthook),
        "hydra": sorted(kind.__name__ for kind in Singleton._instances),
        "schema": {name: sorted(group) for name, group in ConfigStore.instance().repo.items()
                   if isinstance(group, dict)},
    }  # fmt: skip


@pytest.fixture
def a_hydra_of_the_user(tmp_path: Path) -> Iterator[None]:
    """Hydra is in use already, with a config and a group of names that tinylab has too."""
    (tmp_path / "config.yaml").write_text("seed: 7\nmodel: mine\n")
    before = Singleton.get_state()
    GlobalHydra.instance().clear()
    ConfigStore.instance().store(group="model", name="mlp", node={"mine": True})
    with initialize_config_dir(str(tmp_path), version_base="1.2"):
        yield
        assert compose("config") == {"seed": 7, "model": "mine"}
        assert ConfigStore.instance().load("model/mlp.yaml").node == {"mine": True}
    Singleton.set_state(before)


@pytest.mark.usefixtures("a_hydra_of_the_user", "trained")
def test_nothing_of_the_process_stays_changed(outputs: Path) -> None:
    torch.manual_seed(5)
    before = state()
    tinylab.train(SMALL, seed=3, outputs=outputs)
    for call in (lambda: tinylab.train(SMALL, seed=3, outputs=outputs), tinylab.compose):
        call()
    with pytest.raises(UserError):
        tinylab.train(SMALL, {"train.batch_size": 10**6}, outputs=outputs)
    after = state()
    assert {name: after[name] for name in before if after[name] != before[name]} == {}


# ---------------------------------------------------------------- many runs


@pytest.fixture(scope="module")
def sweep(outputs: Path, trained: TrainedRun) -> Any:
    """A sweep of two runs, of which ``trained`` is one."""
    return tinylab.sweep(SMALL, seed=[1, 4], outputs=outputs, name="two")


def test_a_sweep_runs_what_is_missing_and_is_the_shells_too(
    sweep: swept.Sweep, trained: TrainedRun, outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep.path == outputs / "sweeps" / "two"
    assert [run.config.seed for run in sweep.runs] == [1, 4]
    assert sweep.runs[0].result == trained.result
    best = max(sweep.runs, key=lambda run: run.result.metric("val_accuracy") or 0)
    assert sweep.best.name == best.name
    assert set(sweep.leaderboard["seed"]) == {1, 4}
    shown = sweep._repr_html_()
    assert shown.count("<th>") <= 8, "what a cell of a notebook is wide enough for"
    assert "val_accuracy" in shown
    capsys.readouterr()
    typed = ["train", "-m", *IN_SHELL, "seed=1,4", f"outputs={outputs}", "name=two"]
    assert cli.run(typed) == 0
    assert "2 already finished" in capsys.readouterr().out


def test_runs_is_a_table_with_a_row_per_run(sweep: swept.Sweep, outputs: Path) -> None:
    table = tinylab.runs(outputs)
    assert isinstance(table, pd.DataFrame)
    assert {"run", "state", "optim.lr", "model", "val_accuracy", "folder"} <= set(table.columns)
    assert set(table["folder"]) == {str(path) for path in (outputs / "runs").glob("*-*")}
    assert list(tinylab.runs(outputs, "seed=4")["run"]) == [sweep.runs[1].name]
    assert tinylab.runs(outputs / "empty").empty


def test_comparisons_are_shown_as_the_command_shows_them(
    sweep: swept.Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    differences = tinylab.compare(sweep)
    assert [len(each.rows) for each in differences] == [1]
    assert tinylab.compare(*sweep.runs, metric="val_loss")[0].num_runs == 2
    with pytest.raises(tinylab.UserError, match="metric=accuracy: expected one of val_accuracy"):
        tinylab.compare(sweep, metric="accuracy")
    assert tinylab.compare(sweep, rope=0.5)[0].rope == 0.005
    capsys.readouterr()
    assert cli.run(["compare", str(sweep.path)]) == 0
    assert capsys.readouterr().out.strip() == repr(differences).strip()
    assert differences._repr_html_().startswith("<pre ")


def test_a_report_is_written_where_it_is_asked_for(sweep: swept.Sweep, tmp_path: Path) -> None:
    file = tinylab.report(sweep, out=tmp_path / "page.html")
    assert file.read_text().startswith("<!doctype html>") or "<html" in file.read_text()
    assert tinylab.report(sweep.path) == sweep.path / "report.html"


def test_what_is_wrong_with_a_sweep_is_said_as_for_one_run(outputs: Path) -> None:
    with pytest.raises(UserError, match=r"^job 1 of 2: train.batch_size=-1: expected") as refusal:
        tinylab.sweep(SMALL, {"train.batch_size": [-1, 32]}, outputs=outputs)
    assert "tinylab:" not in str(refusal.value)


def test_an_interrupted_sweep_has_ended_before_it_raises(
    outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    show, started = swept._show, []
    popen = subprocess.Popen

    def interrupted(output: Any) -> None:
        if len(started) == 1:
            started.append(output.readline())
            raise KeyboardInterrupt
        show(output)

    def note(*args: Any, **options: Any) -> subprocess.Popen[str]:
        started.append(popen(*args, **options))
        return started[0]

    monkeypatch.setattr(swept, "_show", interrupted)
    monkeypatch.setattr(subprocess, "Popen", note)
    with pytest.raises(KeyboardInterrupt):
        tinylab.sweep(SMALL, {"train.epochs": 500}, seed=[5, 6], outputs=outputs)
    assert started[0].returncode in (-signal.SIGTERM, 128 + signal.SIGTERM)
    assert "sweep of 2 jobs" in started[1]


def test_tables_without_pandas_name_the_remedy(
    trained: TrainedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match="pip install pandas"):
        trained.metrics  # noqa: B018


# ---------------------------------------------------------------- notebooks


def names_after(notebook: str) -> dict[str, Any]:
    """What the cells of a notebook of ours define, which are executed one by one."""
    content = json.loads((EXAMPLES / notebook).read_text(encoding="utf-8"))
    names: dict[str, Any] = {}
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            execute("".join(cell["source"]), names)
    return names


def execute(cell: str, names: dict[str, Any]) -> None:
    """As a notebook would; what the last line gives must have something to show."""
    if cell.startswith("%%writefile "):
        first, _, text = cell.partition("\n")
        Path(first.split()[1]).write_text(text)
        return
    lines = ast.parse(cell)
    last = lines.body[-1]
    if isinstance(last, ast.Expr):
        lines.body.pop()
    exec(compile(lines, "cell", "exec"), names)
    if isinstance(last, ast.Expr):
        shown = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
        assert getattr(shown, "_repr_html_", shown.__repr__)() or shown._repr_png_()


def test_the_first_notebooks_cells_run_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names = names_after("first_steps.ipynb")
    assert "did you mean 'model'?" in capsys.readouterr().out
    predicted = names["run"].predict(names["images"]).astype(int)
    assert (predicted == names["digits"].target).mean() > 0.9


def test_the_cells_of_the_notebook_on_own_code_run_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # as a kernel's working folder is
    names = names_after("own_code.ipynb")
    assert "wrong.py:12, in forward (x: 2x1x12x12)" in capsys.readouterr().out
    classes = np.array(["top", "middle", "bottom"])
    assert (names["predicted"] == classes[names["labels"]]).mean() > 0.7
    assert len(names["table"]) == 7
    assert names["best"].name in set(names["table"]["run"])
    plt.close("all")


# Its cells run in order above; a kernel of its own ended once in an InvalidStateError of
# jupyter_client, for reasons not found.
@pytest.mark.slow
@pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("nbclient", "ipykernel"))),
    reason="nbclient and ipykernel are not installed: pip install 'tinylab[dev]'",
)
@pytest.mark.parametrize("name", ["first_steps.ipynb", "own_code.ipynb"])
def test_a_notebook_runs_in_a_kernel(tmp_path: Path, name: str) -> None:
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(EXAMPLES / name, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png;base64" in str(output) for output in outputs)
    assert not any("\x1b" in output.get("text", "") for output in outputs)
