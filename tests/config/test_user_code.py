"""Options of a user's own file: read and not executed, refused in words, and part of the code."""

import dataclasses
import importlib
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from option_records import AdamConfig, DigitsConfig, MlpConfig
from tinylab import cli
from tinylab.commands.completion import answers
from tinylab.commands.train_help import help_text
from tinylab.config import code, options, user_code
from tinylab.config.compose import compose_plain
from tinylab.config.identity import run_id
from tinylab.config.keys import entries
from tinylab.config.schema import Config
from tinylab.errors import UserError

SOURCE = '''import tinylab
from torch import nn

@tinylab.model
class Tiny(nn.Module):
    """A net of mine."""
    def __init__(self, image_shape, num_classes, width: int = 16, dropout: float = 0.1):
        super().__init__()
        self.layer = nn.Linear(image_shape[1], num_classes)

    def forward(self, x):
        return self.layer(x.mean((1, 2)))
'''


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "tiny.py"
    file.write_text(SOURCE)
    return file


def config() -> Config:
    model = options.record("model", "tiny")
    return Config(dataset=DigitsConfig(), model=model, optim=AdamConfig())


def test_its_keys_are_those_of_the_signature(tiny: Path) -> None:
    options.use_files([tiny])
    record = options.record("model", "tiny", width=8)
    assert (record.name, record.width, record.dropout) == ("tiny", 8, 0.1)
    assert ("model.width", "tiny") in {(each.name, each.choice) for each in entries()}
    options.use_files([])
    assert "tiny" not in {each.choice for each in entries()}


def test_reading_it_does_not_execute_it(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny.write_text("raise SystemExit('executed')\n" + SOURCE)
    assert cli.run(["train", "code=tiny.py", "--help"]) == 0
    output = capsys.readouterr().out
    assert "model.width=16" in output
    assert "A net of mine." in output
    assert answers("tinylab train code=tiny.py model=tin") == ["model=tiny"]
    assert cli.run(["train", "code=tiny.py", "model=tiny", "--cfg", "job"]) == 0


def test_a_permanent_file_is_completed_and_shown(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINYLAB_CODE", str(tiny))
    assert answers("tinylab train model=tiny model.wi") == ["model.width="]
    assert "model=tiny" in help_text()


def test_a_broken_file_does_not_stop_completion(tiny: Path) -> None:
    tiny.write_text("def (")
    assert answers("tinylab train code=tiny.py model=ml") == ["model=mlp"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["model=tiny", "model.widht=8"], "did you mean 'model.width'?"),
        (["model=tiny", "model.width=wide"], "model.width=wide: expected an integer"),
        (["model=tyny"], "model=tyny: no such option (did you mean 'tiny'?)"),
        (["model=tiny", "code=other.py"], "code=other.py: no such file"),
        (["code=tiny.py,b.py"], "code=[tiny.py,b.py]"),
    ],
)
def test_what_is_wrong_is_refused_before_it_is_executed(
    tiny: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    tiny.write_text("raise SystemExit('executed')\n" + SOURCE)
    assert cli.run(["train", "code=tiny.py", *arguments]) == 1
    output = capsys.readouterr().err
    assert words in output
    assert len(output.splitlines()) <= 2


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("class Tiny", "class Mlp", "models/mlp.py\n"),
        ("width: int = 16", "width: int", "width: expected a default"),
        ("width: int = 16", "width=nn.ReLU", "expected a plain value"),
        ("width: int = 16", "name: str = 'a'", "name: expected another name"),
        ("@tinylab.model", "@tinylab.model(name='../x')", "expected letters"),
        ("@tinylab.model", "@tinylab.optimizer", "num_classes: expected a default"),
        ("@tinylab.model", "@tinylab.model(widht=8)", "widht: expected one of name"),
        ("@tinylab.model", "@tinylab.dataset", "image_shape: expected a default"),
        ("@tinylab.model", "", "expected a class or function decorated by @tinylab.model"),
        ("(image_shape[1]", "((image_shape[1]", "was never closed"),
    ],
)
def test_a_file_that_declares_no_fit_option_is_refused(
    tiny: Path, old: str, new: str, words: str
) -> None:
    tiny.write_text(SOURCE.replace(old, new))
    with pytest.raises(UserError) as refused:
        options.use([f"code={tiny}"])
    assert words in str(refused.value)
    assert str(tiny) in str(refused.value)
    assert len(str(refused.value).splitlines()) <= 2
    assert options.users_files() == []


PARTS = """import tinylab, torch

@tinylab.loss
def focal(logits, targets, gamma: float = 2.0):
    "A loss of mine."

@tinylab.loss
class Margin:
    def __init__(self, margin: float = 1.0): ...

@tinylab.augmentation(name="rough")
def noise(images, generator, amount: float = 0.1): ...

@tinylab.optimizer(schedule="cosine", weight_decay=0.1)
class Lion(torch.optim.Optimizer):
    def __init__(self, params, lr, beta: float = 0.9): ...

@tinylab.schedule
def poly(step, steps, power: float = 1.0): ...
"""


def test_each_kind_of_part_joins_its_group(
    tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.write_text(PARTS)
    monkeypatch.setenv("TINYLAB_CODE", str(tiny))
    words = ["loss=margin", "loss.margin=2", "augment=rough", "augment.amount=0.2",
             "augment.flip=true", "optim=lion", "optim.beta=0.5", "schedule=poly",
             "schedule.power=3"]  # fmt: skip
    assert cli.run(["train", *words, "--cfg", "job"]) == 0
    parsed = yaml.safe_load(capsys.readouterr().out)
    assert parsed["loss"] == {"name": "margin", "margin": 2.0}
    assert parsed["schedule"] == {"name": "poly", "power": 3.0}
    assert (
        parsed["optim"].items() >= {"beta": 0.5, "weight_decay": 0.1, "schedule": "cosine"}.items()
    )
    assert parsed["augment"].items() >= {"name": "rough", "amount": 0.2, "flip": True}.items()
    assert answers("tinylab train loss=focal loss.") == ["loss.gamma="]
    assert "augment.amount=" in answers("tinylab train augment=rough augment.")
    assert "augment.flip=" in answers("tinylab train augment=scenes augment.f")
    assert "A loss of mine." in help_text()


def test_a_key_of_an_own_loss_beside_one_without_keys_is_refused_with_the_remedy(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.write_text(PARTS)
    typed = ["-m", f"code={tiny}", "loss=focal,cross_entropy", "loss.gamma=1"]
    assert cli.run(["train", *typed]) == 1
    assert capsys.readouterr().err == (
        "tinylab: loss.gamma: belongs to loss=focal, not to loss=cross_entropy; expected, instead "
        "of loss= and loss.gamma=,\n"
        "  'sweep.settings=[{loss: focal, loss.gamma: 1}, {loss: cross_entropy}]'\n"
    )
    assert cli.run(["train", f"code={tiny}", "loss.gamma=1"]) == 1
    assert "belongs to loss=focal; loss=cross_entropy has no keys" in capsys.readouterr().err


def test_the_built_in_parts_are_no_part_of_an_id_and_own_ones_are(tiny: Path) -> None:
    tiny.write_text(PARTS)
    options.use_files([tiny])
    plain = Config(dataset=DigitsConfig(), model=MlpConfig(), optim=AdamConfig())
    assert run_id(plain) == "digits-mlp-8b7c6b79c0"
    parts = {"loss": "focal", "schedule": "poly", "augment": "rough"}
    own = [dataclasses.replace(plain, **{group: options.record(group, name)})
           for group, name in parts.items()]  # fmt: skip
    again = dataclasses.replace(plain, loss=options.record("loss", "focal", gamma=1))
    assert len({run_id(each) for each in (plain, *own, again)}) == 5
    digests = {code.of_result(each) for each in own}
    assert code.of_result(plain) not in digests
    kept = pickle.loads(pickle.dumps(own[0]))
    assert (kept.loss, kept.schedule.name) == (own[0].loss, "default")


def test_an_own_schedule_is_chosen_by_its_group(tiny: Path) -> None:
    tiny.write_text(PARTS)
    options.use_files([tiny])
    with pytest.raises(UserError, match=r"optim\.schedule=poly: .* choose yours by schedule=poly"):
        AdamConfig(schedule="poly")
    tiny.write_text(PARTS.replace("def poly", "def cosine"))
    options.use_files([tiny])
    assert AdamConfig(schedule="cosine").schedule == "cosine"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("def focal(logits, targets", "def focal(logits", "expected logits and targets as"),
        ("def focal(logits, targets", "def focal(a, b, c", "c: expected a default"),
        ("margin: float = 1.0", "margin", "margin: expected a default"),
        ("amount: float", "flip: float", "flip: expected another name"),
        ("power: float", "name: float", "name: expected another name"),
        ("(self, params, lr, ", "(self, params, rate, ", "rate: expected a default"),
        ("def poly(step, steps", "def poly(step, steps=1", "expected step and steps as the first"),
        ("class Margin", "class Cross_Entropy", '@tinylab.loss(name="my_cross_entropy")'),
        ("rough", "scenes", '@tinylab.augmentation(name="my_scenes")'),
    ],
)  # fmt: skip
def test_a_part_that_does_not_fit_its_group_is_refused(
    tiny: Path, old: str, new: str, words: str
) -> None:
    tiny.write_text(PARTS.replace(old, new))
    with pytest.raises(UserError) as refused:
        options.use_files([tiny])
    assert words in str(refused.value)
    assert len(str(refused.value).splitlines()) <= 2


def test_a_name_of_two_files_is_refused_with_both(tiny: Path) -> None:
    other = tiny.with_name("other.py")
    other.write_text(SOURCE)
    with pytest.raises(UserError, match=r"tiny\.py\n") as refused:
        options.use_files([tiny, other])
    assert str(other) in str(refused.value)


def test_a_list_of_files_is_read(tiny: Path) -> None:
    tiny.with_name("b.py").write_text(SOURCE.replace("class Tiny", "class Other"))
    assert user_code.named(["code=[tiny.py, 'b.py']"]) == [tiny, tiny.with_name("b.py")]
    options.use_files(user_code.named(["code=[tiny.py,b.py]"]))
    assert {"tiny", "other", "mlp"} <= set(options.options("model"))


def test_a_module_that_can_be_imported_is_named_without_its_file(tiny: Path) -> None:
    package = tiny.parent / "mypkg"
    (package / "deep").mkdir(parents=True)
    tiny.rename(package / "deep" / "nets.py")  # no __init__.py: a namespace package
    (package / "__init__.py").write_text("raise SystemExit('executed')\n")
    assert user_code.named(["code=mypkg.deep.nets"]) == [package / "deep" / "nets.py"]
    with pytest.raises(UserError, match=r"code=mypkg\.nets: no such file"):
        user_code.named(["code=mypkg.nets"])


def test_a_forgotten_suffix_is_hinted_at_where_no_module_is_meant(tiny: Path) -> None:
    (tiny.parent / "parts").mkdir()
    tiny.rename(tiny.parent / "parts" / "tiny.py")
    with pytest.raises(UserError, match=r"did you mean parts/tiny\.py\?"):
        user_code.named(["code=parts/tiny"])


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ([], "; tiny.py declares it: add code=tiny.py"),
        (["code=b.py"], "; tiny.py declares it: add code=[b.py,tiny.py]"),
    ],
)
def test_a_file_here_that_declares_the_option_is_hinted_at(
    tiny: Path, capsys: pytest.CaptureFixture[str], typed: list[str], words: str
) -> None:
    tiny.with_name("b.py").write_text(SOURCE.replace("class Tiny", "class Other"))
    tiny.with_name("broken.py").write_text("@tinylab.model\nclass Tiny(:\n")
    assert cli.run(["train", "model=tiny", *typed]) == 1
    assert capsys.readouterr().err == f"tinylab: model=tiny: no such option{words}\n"


def test_a_permanent_file_that_code_replaces_is_hinted_at(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = tiny.parent / "far" / "tiny.py"
    elsewhere.parent.mkdir()
    tiny.rename(elsewhere)
    tiny.write_text(SOURCE.replace("class Tiny", "class Other"))
    monkeypatch.setenv("TINYLAB_CODE", "far/tiny.py")
    assert cli.run(["train", "model=tiny", "code=tiny.py"]) == 1
    assert "add code=[tiny.py,far/tiny.py]" in capsys.readouterr().err


def test_a_class_of_a_notebook_cell_is_refused_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cell = type("Tiny", (), {"__module__": "__main__"})
    monkeypatch.setattr(sys.modules["__main__"], "Tiny", cell, raising=False)
    with pytest.raises(
        UserError, match=r'%%writefile tiny\.py in a cell\), then use code="tiny\.py"'
    ):
        compose_plain(["model=tiny"])


@pytest.mark.costly
def test_a_pickled_config_knows_its_file_in_another_process(tiny: Path) -> None:
    options.use_files([tiny])
    kept = pickle.dumps(config())
    options.use_files([])
    assert pickle.loads(kept).model.width == 16
    program = "import pickle, sys; print(pickle.load(sys.stdin.buffer).model.name)"
    asked = [sys.executable, "-c", program]
    completed = subprocess.run(asked, input=kept, capture_output=True, check=True)
    assert completed.stdout.strip() == b"tiny"


# ---------------------------------------------------------------- identity


def test_the_id_counts_the_name_and_keys_and_not_the_place(tiny: Path, tmp_path: Path) -> None:
    options.use_files([tiny])
    first, digest = run_id(config()), code.of_result(config())
    moved = tmp_path / "elsewhere" / "renamed.py"
    moved.parent.mkdir()
    moved.write_text(SOURCE)
    options.use_files([moved])
    assert (run_id(config()), code.of_result(config())) == (first, digest)


def test_code_that_is_null_changes_no_id() -> None:
    made = Config(dataset=DigitsConfig(), model=MlpConfig(), optim=AdamConfig())
    assert run_id(made) == "digits-mlp-8b7c6b79c0"


def test_an_edit_changes_the_code_of_its_own_runs_and_of_no_others(tiny: Path) -> None:
    options.use_files([tiny])
    other = Config(dataset=DigitsConfig(), model=MlpConfig(), optim=AdamConfig())
    before, others = code.of_result(config()), code.of_result(other)
    tiny.write_text(SOURCE.replace('"""A net of mine."""', '"""Words."""  # and a remark'))
    assert code.of_result(config()) == before
    tiny.write_text(SOURCE.replace("mean", "amax"))
    assert code.of_result(config()) != before
    assert code.of_result(other) == others


@pytest.mark.parametrize(
    ("statement", "place"),
    [
        ("import helpers", "helpers.py"),
        ("from helpers import f", "helpers.py"),
        ("from parts import deep", "parts/deep.py"),
        ("import parts.deep", "parts/__init__.py"),
        ("from parts import f", "parts/near.py"),  # parts/__init__.py: from .near import f
    ],
)
def test_what_it_imports_from_beside_it_counts(tiny: Path, statement: str, place: str) -> None:
    folder = tiny.parent
    (folder / "parts").mkdir()
    for name in ("helpers.py", "unused.py", "parts/deep.py", "parts/near.py"):
        (folder / name).write_text("def f(): return 1\n")
    (folder / "parts" / "__init__.py").write_text("from .near import f\n")
    tiny.write_text(f"{statement}\n{SOURCE}")
    options.use_files([tiny])
    before = code.of_result(config())
    (folder / "unused.py").write_text("def f(): return 2\n")
    assert code.of_result(config()) == before
    (folder / place).write_text("from .near import f\nX = 33\n")
    assert code.of_result(config()) != before


def test_nothing_that_comes_with_a_run_is_found_as_its_code(tiny: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "run"
    copied = run / "code" / "tiny.py"
    copied.parent.mkdir(parents=True)
    copied.write_text(SOURCE)
    (run.parent / "beside.py").write_text(SOURCE)
    named = [str(copied), str(run.parent / "beside.py"), os.path.relpath(tiny), str(tiny)]
    assert user_code.of_run(named, run) == [tiny]
    saved = {"model": {"name": "tiny"}, "code": [str(run.parent / "beside.py")]}
    with pytest.raises(UserError, match=r"beside\.py, which lies beside this folder and may have"):
        code.know(saved, run)


# ---------------------------------------------------------------- import


def test_it_is_imported_again_after_an_edit_with_its_neighbors(tiny: Path) -> None:
    helper = tiny.with_name("my_helper.py")
    helper.write_text("SIZE = 1\n")
    tiny.write_text("from my_helper import SIZE\n" + SOURCE)
    options.use_files([tiny])
    first = options.options("model")["tiny"].load()
    assert options.options("model")["tiny"].load() is first
    helper.write_text("SIZE = 22\n")
    second = options.options("model")["tiny"].load()
    assert sys.modules[second.__module__].SIZE == 22  # type: ignore[attr-defined]


LATE = """import tinylab
{statement}

def late():
    {statement}
    return {value}

@tinylab.model
def {name}(image_shape, num_classes):
    return {value}, late()
"""


@pytest.mark.parametrize(
    ("statement", "value", "place"),
    [
        ("import the_same", "the_same.X", "the_same.py"),
        ("from the_same import X", "X", "the_same.py"),
        ("from folder_of.the_same import X", "X", "folder_of/the_same.py"),
        ("from folder_of import the_same", "the_same.X", "folder_of/the_same.py"),
        ("from package_of import the_same", "the_same.X", "package_of/the_same.py"),
        ("import package_of.deep.the_same as a", "a.X", "package_of/deep/the_same.py"),
    ],
)
def test_two_folders_have_modules_of_one_name(
    tmp_path: Path, statement: str, value: str, place: str
) -> None:
    files = []
    for name in ("one", "two"):
        file = tmp_path / name / f"{name}.py"
        helper = file.parent / place
        helper.parent.mkdir(parents=True)
        helper.write_text(f"X = {name!r}\n")
        if place.startswith("package_of"):
            for folder in helper.relative_to(file.parent).parents[:-1]:
                (file.parent / folder / "__init__.py").touch()
        file.write_text(LATE.format(statement=statement, value=value, name=name))
        files.append(file)
    options.use_files(files)
    for name in ("one", "two", "one"):
        assert options.options("model")[name].load()(0, 0) == (name, name)


def test_a_module_of_the_notebooks_own_stays_and_is_not_taken_for_one_beside_the_file(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = tiny.parent / "notebook"
    notebook.mkdir()
    (notebook / "some_helper.py").write_text("X = 1\n")
    monkeypatch.syspath_prepend(notebook)
    theirs = importlib.import_module("some_helper")
    tiny.with_name("some_helper.py").write_text("X = 2\n")
    tiny.write_text("from some_helper import X\n" + SOURCE)
    options.use_files([tiny])
    for _ in range(2):
        made = options.options("model")["tiny"].load()
        assert sys.modules[made.__module__].X == 2  # type: ignore[attr-defined]
        assert sys.modules["some_helper"] is theirs


def test_a_named_part_is_of_the_folder_that_is_named(tmp_path: Path) -> None:
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "entry.py").write_text("import nets_beside\n")
        text = f"def make(image_shape, num_classes): return {name!r}\n"
        (folder / "nets_beside.py").write_text(text)
    for name in ("one", "two", "one"):
        options.use_files([tmp_path / name / "entry.py"])
        options.add_named("model", "nets_beside:make")
        assert options.options("model")["nets_beside:make"].load()(0, 0) == name


def test_its_folder_does_not_hide_the_modules_of_python(tiny: Path) -> None:
    tiny.with_name("types.py").write_text("raise RuntimeError('not to be imported')\n")
    options.use_files([tiny])
    options.options("model")["tiny"].load()
    assert sys.path[0] != str(tiny.parent)
    assert str(tiny.parent) in sys.path


def test_the_remedy_of_a_relative_import_without_a_package_is_said(tiny: Path) -> None:
    tiny.with_name("helpers.py").touch()
    tiny.write_text("from .helpers import f\n" + SOURCE)
    options.use_files([tiny])
    with pytest.raises(UserError, match=r"write: from helpers import \.\.\., without the dot"):
        options.options("model")["tiny"].load()


def test_a_mistake_while_it_is_imported_shows_its_own_lines(tiny: Path) -> None:
    tiny.with_name("wrong_helper.py").write_text("def f():\n    return 1 / 0\n\n\nX = f()\n")
    tiny.write_text("import wrong_helper\n" + SOURCE)
    options.use_files([tiny])
    with pytest.raises(UserError) as error:
        options.options("model")["tiny"].load()
    assert str(error.value).splitlines() == [
        "tiny.py cannot be imported: ZeroDivisionError: division by zero",
        f"  {tiny}:1, in <module>",
        "    import wrong_helper",
        f"  {tiny.with_name('wrong_helper.py')}:5, in <module>",
        "    X = f()",
        f"  {tiny.with_name('wrong_helper.py')}:2, in f",
        "    return 1 / 0",
    ]


@pytest.mark.costly
def test_import_tinylab_brings_nothing_with_it() -> None:
    program = "import sys, tinylab; tinylab.model; print(*sys.modules)"
    completed = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    loaded = completed.stdout.decode().split()
    assert not {"torch", "numpy", "hydra", "yaml", "omegaconf"} & set(loaded)


def test_another_file_is_told_from_an_edited_one(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny.parent)
    options.use_files([tiny])
    before = code.recorded(config())
    other = tiny.with_name("other.py")
    other.write_text(tiny.read_text() + "\nMORE = 1\n")
    options.use_files([other])
    made = dataclasses.replace(config(), code="marks.py")
    for listed in (str(tiny), [str(tiny)], [str(tiny), "marks.py"]):
        message = code.changed(before["code_sha256"], before, made, listed)
        assert message == f"trained from {tiny.name}, now from other.py"
    for edited in (str(other), [str(other), str(tiny)], None):
        message = code.changed(before["code_sha256"], before, made, edited)
        assert message == "other.py has changed since"
