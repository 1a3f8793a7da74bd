"""The command line, as a user meets it; in this process, so that torch is imported once."""

import itertools
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from compare_kit import edit_result
from tinylab import cli
from tinylab.config import compose
from tinylab.config.groups import choices, groups
from tinylab.config.option import FOLDERS
from tinylab.config.options import options
from tinylab.store.folder import run_folder

TINY = ["train.epochs=2", "train.batch_size=128"]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def the_run(folder: Path = Path("outputs")) -> Path:
    """The only run there is."""
    [result] = (folder / "runs").glob("*/result.json")
    return result.parent


def test_tinylab_alone_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([]) == 0
    out = capsys.readouterr().out
    assert "tinylab train -m dataset=mnist" in out
    assert "Examples" in out


def test_the_help_of_train_shows_every_group_and_ten_examples(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.run(["train", "--help"]) == 0
    out = capsys.readouterr().out
    for group in groups():
        assert f"{group}={'|'.join(choices(group))}" in out
    assert out.count("\n  tinylab train") >= 10


@pytest.mark.costly
def test_a_run_leaves_every_file_of_the_contract(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["train", *TINY]) == 0
    names = {path.name for path in the_run().iterdir()}
    expected = {
        "config.yaml", "result.json", "metrics.jsonl", "predictions.npz", "split.npz",
        "last.ckpt", "best.ckpt", "curves.png", "confusion.png", "train.log",
    }  # fmt: skip
    assert expected <= names
    assert any(name.startswith("events.out.tfevents.") for name in names)
    assert not any(name.startswith(".") for name in names)
    screen = capsys.readouterr().out
    assert "95% CI" in screen
    assert "tensorboard --logdir" in screen
    log = (the_run() / "train.log").read_text()
    assert "test    accuracy" in log


@pytest.mark.costly
def test_the_result_agrees_with_the_predictions_beside_it() -> None:
    assert cli.run(["train", *TINY]) == 0
    result = json.loads((the_run() / "result.json").read_text())
    with np.load(the_run() / "predictions.npz") as predictions:
        right = predictions["predicted"] == predictions["label"]
        index = predictions["index"]
    assert result["test"]["accuracy"] == right.mean()
    assert result["test"]["num"] == len(right) == 179
    low, high = result["test"]["accuracy_ci95"]
    assert low < result["test"]["accuracy"] < high
    with np.load(the_run() / "split.npz") as split:
        assert (split["test"] == index).all()
        assert len(split["train"]) == result["dataset"]["num_train"] == 1457
    assert yaml.safe_load((the_run() / "config.yaml").read_text()) == result["config"]


@pytest.mark.costly
def test_a_finished_run_is_answered_and_not_run_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["train", *TINY]) == 0
    before = (the_run() / "result.json").stat().st_mtime_ns
    capsys.readouterr()
    assert cli.run(["train", *TINY]) == 0
    assert "already finished: test accuracy" in capsys.readouterr().out
    assert (the_run() / "result.json").stat().st_mtime_ns == before


@pytest.mark.costly
def test_the_same_command_gives_the_same_bits_and_fresh_runs_again() -> None:
    assert cli.run(["train", *TINY]) == 0
    first = json.loads((the_run() / "result.json").read_text())
    assert cli.run(["train", *TINY, "fresh=true"]) == 0
    folders = sorted(Path("outputs/runs").glob("digits-*"))
    assert len(folders) == 2, "the old folder is kept under a dated name"
    second = json.loads((folders[0] / "result.json").read_text())
    for key in ("weights_sha256", "split_sha256", "train", "val", "test", "confusion"):
        assert first[key] == second[key]


@pytest.mark.costly
def test_the_split_seed_moves_only_the_split_and_the_seed_never_does() -> None:
    results = {}
    for overrides in ((), ("seed=1",), ("split.seed=1",)):
        assert cli.run(["train", *TINY, *overrides, f"outputs=o{len(results)}"]) == 0
        folder = the_run(Path(f"o{len(results)}"))
        results[overrides] = json.loads((folder / "result.json").read_text())
    plain, seed, split = results.values()
    assert plain["split_sha256"] == seed["split_sha256"] != split["split_sha256"]
    assert plain["weights_sha256"] != seed["weights_sha256"]
    assert plain["dataset"]["fingerprint"] == split["dataset"]["fingerprint"]


@pytest.mark.costly
def test_a_run_is_repeated_from_its_folder_with_changes_on_top() -> None:
    assert cli.run(["train", *TINY, "model=mlp", "model.hidden=7", "augment=digits"]) == 0
    first = json.loads((the_run() / "result.json").read_text())
    again = ["train", "--from", str(the_run()), "outputs=again"]
    assert cli.run(again) == 0
    repeated = json.loads((the_run(Path("again")) / "result.json").read_text())
    assert repeated["run_id"] == first["run_id"]
    assert repeated["weights_sha256"] == first["weights_sha256"]
    assert cli.run(["train", "--from", str(the_run()), "model=baseline", "outputs=other"]) == 0
    other = json.loads((the_run(Path("other")) / "result.json").read_text())
    assert other["config"]["model"]["name"] == "baseline"
    assert other["config"]["augment"]["rotate"] == 10


def from_run(monkeypatch: pytest.MonkeyPatch, *words: str) -> list[str]:
    """The command line that ``tinylab train --from`` gives to Hydra."""
    given: list[list[str]] = []
    with monkeypatch.context() as patch:
        patch.setattr(compose, "run_hydra", lambda job, arguments: given.append(arguments))
        assert cli.run(["train", "--from", *words]) == 0
    return given[0]


def test_a_run_is_repeated_with_its_own_threads(
    digits_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run = shutil.copytree(digits_run, tmp_path / "run")
    monkeypatch.setattr("tinylab.commands.train.cores", lambda: 8)

    def threads(*words: str) -> list[str]:
        typed = from_run(monkeypatch, str(run), *words)
        return [word for word in typed if word.startswith("threads=")]

    for count in (1, 3, 8):  # as in a sweep, whose jobs share the cores
        edit_result(run, environment__threads=count)
        assert threads() == [f"threads={count}"]
        assert threads("threads=2") == ["threads=2"]
    assert capsys.readouterr().out == ""
    edit_result(run, environment__threads=12)
    assert threads() == ["threads=8"]
    said = capsys.readouterr().out
    assert "12 threads, but this machine has 8 cores: results will not be bit-identical" in said
    edit_result(run, environment__device="cuda")
    assert threads() == []
    (run / "result.json").unlink()
    assert threads() == []  # unfinished, and the config says nothing of them
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("threads: null", "threads: 5"))
    assert threads() == ["threads=5"]


@pytest.mark.costly
def test_a_repeated_run_of_a_sweep_has_its_bits() -> None:
    """Trained with two threads, where one thread gives other bits, and repeated without a word."""
    command = ["train", *TINY, "threads=2", "train.batch_size=256"]
    assert cli.run(command) == 0
    first = json.loads((the_run() / "result.json").read_text())
    assert cli.run(["train", "--from", str(the_run()), "outputs=again"]) == 0
    again = json.loads((the_run(Path("again")) / "result.json").read_text())
    assert again["environment"]["threads"] == first["environment"]["threads"] == 2
    assert again["weights_sha256"] == first["weights_sha256"]


@pytest.mark.costly
def test_changed_code_is_noticed_and_the_old_run_kept(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.run(["train", *TINY]) == 0
    monkeypatch.setattr("tinylab.config.code.of_result", lambda config: "another")
    capsys.readouterr()
    assert cli.run(["train", *TINY]) == 0
    assert "code has changed since; old folder kept as" in capsys.readouterr().out
    assert len(list(Path("outputs/runs").glob("digits-*"))) == 2


@pytest.mark.costly
@pytest.mark.parametrize(
    "path", ["test", "test.accuracy", "test.accuracy_ci95", "val", "environment", "dataset"]
)
def test_a_result_that_this_version_cannot_read_is_kept_and_the_run_made_again(
    path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["train", *TINY]) == 0
    file = the_run() / "result.json"
    whole = result = json.loads(file.read_text())
    *outer, name = path.split(".")
    for key in outer:
        result = result[key]
    result[name] = "another"
    file.write_text(json.dumps(whole))
    capsys.readouterr()
    assert cli.run(["list"]) == 0
    assert "damaged" in capsys.readouterr().out
    config = compose.restore(whole["config"])
    assert run_folder(config).valid_result(config) is None
    assert file.exists(), "only the holder of the run's lock may set it aside"
    assert cli.run(["train", *TINY]) == 0
    said = capsys.readouterr().out
    assert f"result.json is invalid: {path}" in said
    assert "old folder kept as" in said
    [again] = [f for f in Path("outputs/runs").glob("digits-*") if "." not in f.name]
    assert json.loads((again / "result.json").read_text())["test"]["accuracy"] > 0


WRONG = {
    "unknown key": (["optim.lrr=1"], ["optim.lrr", "did you mean 'optim.lr'"]),
    "unknown key at the top": (["sed=1"], ["sed", "did you mean 'seed'"]),
    "unknown group": (["modle=mlp"], ["modle", "did you mean 'model'"]),
    "unknown option": (["model=mpl"], ["model=mpl", "did you mean 'mlp'", "resnet"]),
    "unknown experiment": (["experiment=x"], ["experiment=x", "mnist_baseline"]),
    "another model's key": (["model=mlp", "model.filters=3"], ["model.filters", "model.hidden"]),
    "added key": (["+foo=1"], ["foo", "unknown key"]),
    "added key in a section": (["+optim.lrr=1"], ["optim.lrr", "did you mean 'optim.lr'"]),
    "forced key": (["++train.epoch=3"], ["train.epoch", "did you mean 'train.epochs'"]),
    "wrong type": (["optim.lr=fast"], ["optim.lr", "fast"]),
    "fraction of an epoch": (["train.epochs=1.5"], ["train.epochs", "1.5"]),
    "out of range": (["optim.lr=-1"], ["optim.lr=-1", "above 0"]),
    "fraction above one": (["split.val=1.5"], ["split.val=1.5", "below 1"]),
    "unknown word": (["optim.schedule=cosin"], ["cosin", "did you mean 'cosine'"]),
    "unknown flag": (["--lr=3"], ["--lr", "have no dashes"]),
    "bad syntax": (["optim.lr=[1"], ["[1"]),
    "no value": (["optim.lr"], ["optim.lr"]),
    "removed group": (["~model"], ["model"]),
    "variable of the shell": (["name=${HOME}"], ["${HOME} is not a key", '"name=$HOME"']),
    "absent variable": (["name=${oc.env:NO_SUCH_ONE}"], ["NO_SUCH_ONE is not set"]),
    "key that is filled in": (["name=${sed}"], ["did you mean 'seed'"]),
    "bad value in the last job of a sweep": (["-m", "optim.lr=0.1,-1"], ["job 2 of 2", "above 0"]),
    "bad option in a sweep": (["-m", "model=mlp,mpl"], ["model=mpl", "did you mean 'mlp'"]),
    "same job twice": (
        ["-m", "optim.lr=0.1,0.10"],
        ["optim.lr=0.1 and optim.lr=0.1 are", "same run"],
    ),
    "large batch": (["train.batch_size=5000"], ["train.batch_size=5000", "1457"]),
    "absent device": (["device=cuda:7"], ["device=cuda:7", "cpu"]),
    "malformed device": (["device=gpu"], ["device=gpu", "cuda:N"]),
    "large kernel": (["model.kernel_size=9"], ["model.kernel_size=9", "8x8"]),
    "many stages": (["model=resnet", "model.stages=6"], ["model.stages=6", "8x8"]),
    "official test set resized": (
        ["dataset=folder"],
        ["dataset.root", "class folders"],
    ),
    "absent folder": (["dataset=folder", "dataset.root=nowhere"], ["nowhere"]),
    "early stopping without validation": (
        ["split.val=0", "train.patience=3"],
        ["train.patience", "split.val=0"],
    ),
    "two ways to test": (["split.folds=5", "split.test=0.2"], ["split.test=0.2", "split.folds=5"]),
    "folder of a run that is none": (
        ["--from", "nowhere"],
        ["nowhere: expected the folder of a run (it does not exist)"],
    ),
}


@pytest.mark.parametrize(("arguments", "said"), WRONG.values(), ids=WRONG.keys())
def test_wrong_input_is_refused_in_words_and_leaves_nothing(
    arguments: list[str], said: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["train", *arguments]) == 1
    error = capsys.readouterr().err
    for words in said:
        assert words in error
    assert "Traceback" not in error
    assert 1 <= len(error.strip().splitlines()) <= 2
    assert not list(Path().glob("outputs/runs/*"))


@pytest.mark.costly
def test_commands_that_are_printed_can_be_pasted(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["train", *TINY, "model=mlp", "model.layers=0", "outputs=my runs"]) == 0
    assert "tensorboard --logdir 'my runs/runs'" in capsys.readouterr().out
    assert cli.run(["name=a b"]) == 1
    assert "tinylab train 'name=a b'" in capsys.readouterr().err
    assert cli.run(["train", "name='a b','c d'"]) == 1
    said = capsys.readouterr().err.strip()
    assert shlex.split(said.rpartition("add -m: ")[2]) == [
        "tinylab", "train", "-m", "name='a b','c d'",
    ]  # fmt: skip


def test_a_forgotten_command_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["model=mlp"]) == 1
    assert "tinylab train model=mlp" in capsys.readouterr().err
    assert cli.run(["trian"]) == 1
    assert "did you mean 'train'" in capsys.readouterr().err


def test_an_unwritable_output_folder_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").write_text("in the way")
    assert cli.run(["train", *TINY, "outputs=file"]) == 1
    error = capsys.readouterr().err
    assert "cannot be written" in error
    assert "outputs=FOLDER" in error


@pytest.mark.costly
def test_a_full_disk_is_explained_and_harms_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", refuse)
        assert cli.run(["train", *TINY]) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert cli.run(["train", *TINY]) == 0
    assert json.loads((the_run() / "result.json").read_text())["status"] == "finished"


def test_a_loss_that_is_no_number_fails_with_the_remedy(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.run(["train", *TINY, "optim=sgd", "optim.lr=1e30"]) == 1
    error = capsys.readouterr().err
    assert "became non-finite" in error
    assert "lower optim.lr" in error
    [folder] = Path("outputs/runs").glob("digits-*")
    assert json.loads((folder / "failure.json").read_text())["status"] == "failed"
    log = (folder / "train.log").read_text()
    assert "became non-finite" in log
    assert "Traceback" not in log
    assert not (folder / "result.json").exists()


def test_an_error_of_torch_that_the_user_can_fix_comes_with_the_remedy(
    capsys: pytest.CaptureFixture[str],
) -> None:
    wrong = ["model=resnet", "model.stages=4", "train.batch_size=1", "train.epochs=1"]
    assert cli.run(["train", *wrong]) == 1
    error = capsys.readouterr().err
    assert "train.batch_size of at least 2" in error
    assert "Traceback" not in error


@pytest.mark.costly
def test_a_refused_override_and_a_finished_run_import_no_torch() -> None:
    program = """
import sys
from tinylab import cli
cli.run(["train", "optim.lrr=1"])
cli.run(["train", "--help"])
cli.run(["train", "train.epochs=2", "train.batch_size=128"])
print("TORCH" if "torch" in sys.modules else "LEAN")
"""
    assert cli.run(["train", *TINY]) == 0
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "already finished" in done.stdout
    assert done.stdout.strip().endswith("LEAN"), done.stdout + done.stderr


@pytest.mark.costly
@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [(["--help"], "hydra"), (["optim.lr=-1"], "numpy"), (["optim.lrr=1"], "numpy")],
    ids=["help", "value", "key"],
)
def test_an_answer_waits_for_no_library_that_it_does_not_need(
    arguments: list[str], heavy: str
) -> None:
    program = f"""
import sys
from tinylab import cli
cli.run(["train", *{arguments}])
assert "{heavy}" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


@pytest.mark.costly
def test_what_is_registered_to_run_at_exit_runs() -> None:
    program = """
import atexit, sys
from tinylab import cli
atexit.register(print, "at exit")
sys.argv = ["tinylab", "--version"]
cli.main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.endswith("at exit\n")


def test_all_of_hydras_flags_work(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["train", "--cfg", "job", "model=mlp"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["model"]["name"] == "mlp"


# tests/experiment/test_recipes.py composes each experiment.
EACH_GROUP = [
    [(group, choice) for choice in choices(group)] for group in groups() if group != "experiment"
]
NEEDED = {"set": "CIFAR10"}  # else any text will do


@pytest.mark.parametrize("several", list(itertools.zip_longest(*EACH_GROUP)))
def test_every_yaml_composes_to_a_checked_config(several: list[tuple[str, str] | None]) -> None:
    """One choice of each group at a time: composing takes most of the time."""
    configs = []
    arguments = []
    for group, choice in filter(None, several):
        option = options(group).get(choice) if group in FOLDERS else None
        required = option.required if option is not None else ()
        needed = [f"{group}.{key}={NEEDED.get(key, 'x')}" for key in required]
        arguments += [f"{group}={choice}", *needed]
    compose.run_hydra(lambda cfg: configs.append(compose.to_config(cfg)), arguments)
    assert len(configs) == 1
