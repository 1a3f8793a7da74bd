"""Parts that are named by module and class: read without executing, refused in words, recorded."""

import pickle
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from option_records import AdamConfig, DigitsConfig
from tinylab import cli
from tinylab.commands.completion import answers
from tinylab.config import code, modules, named, options, user_code
from tinylab.config.compose import compose_plain
from tinylab.config.identity import identity, run_id
from tinylab.config.option import Option
from tinylab.config.schema import Config, is_plain_name
from tinylab.errors import UserError

NETS = '''raise SystemExit("executed")
from typing import Callable, Optional
from ._more import *
from .deep import Renamed as Known

class Net:
    """A net of theirs."""
    def __init__(self, in_channels, num_classes: int = 1000, depth: int = 3, drop: float = 0,
                 act: Optional[str] = None, norm: Callable = print, scale="a", name="b"): ...

class Wider(Net):
    """A wider one."""

def build(pretrained=False, **kwargs): ...

def needs(image_shape, layers, width: int): ...

Alias = Net
'''


@pytest.fixture(autouse=True)
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installed library, version 1.0, whose import would end the process."""
    monkeypatch.delenv("TINYLAB_CODE", raising=False)
    monkeypatch.setenv("TINYLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    installed = tmp_path / "site-packages"
    for name, text in {
        "nets_of_theirs/__init__.py": "raise SystemExit('executed')\n",
        "nets_of_theirs/zoo.py": NETS,
        "nets_of_theirs/_more.py": "def starred(num_classes, size: int = 2): ...\n",
        "nets_of_theirs/deep.py": "class Renamed:\n    def __init__(self, bits: int = 1): ...\n",
        "nets_of_theirs-1.0.dist-info/METADATA": "Name: nets-of-theirs\nVersion: 1.0\n",
        "nets_of_theirs-1.0.dist-info/top_level.txt": "nets_of_theirs\n",
    }.items():
        (installed / name).parent.mkdir(parents=True, exist_ok=True)
        (installed / name).write_text(text)
    monkeypatch.syspath_prepend(installed)
    modules.version.cache_clear()
    yield installed
    monkeypatch.undo()
    options.use_files([])
    modules.version.cache_clear()


def config(option: str, **values: Any) -> Config:
    options.add_named("model", option, values)
    model = options.record("model", option, **values)
    return Config(dataset=DigitsConfig(), model=model, optim=AdamConfig())


def keys(option: str) -> dict[str, Any]:
    options.add_named("model", option)
    return {key.name: key.default for key in options.options("model")[option].declaration.keys}


@pytest.mark.parametrize(
    ("group", "attribute", "takes"),
    [
        ("loss", "blend", ["input", "target", "share"]),  # two places, whatever they are called
        ("loss", "Focal", ["gamma"]),  # of a class an instance is called
        ("optim", "Sgd", ["params", "lr"]),
        ("augment", "shaken", ["images", "generator", "sd"]),  # flip is a built-in key
        ("dataset", "blobs", ["n"]),
    ],
)
def test_parts_of_every_group_are_named(
    group: str, attribute: str, takes: list[str], library: Path
) -> None:
    (library / "nets_of_theirs" / "parts.py").write_text(
        "def blend(input, target, share: float = 0.5): ...\n"
        "class Focal:\n    def __init__(self, gamma=2.0): ...\n"
        "class Sgd:\n    def __init__(self, params, lr=0.1, betas=(0.9, 0.99)): ...\n"
        "def shaken(images, generator, sd=0.1, flip=True): ...\n"
        "def blobs(n=10, normalize=None): ...\n"
    )
    option = f"nets_of_theirs.parts:{attribute}"
    options.add_named(group, option)
    made = options.options(group)[option]
    assert list(made.declaration.takes) == takes
    assert made.is_of_library
    assert made.record().name == option


@pytest.mark.parametrize(
    ("attribute", "expected"),
    [
        ("Net", {"depth": 3, "drop": 0, "act": None, "scale": "a"}),
        ("Wider", {"depth": 3, "drop": 0, "act": None, "scale": "a"}),
        ("Alias", {"depth": 3, "drop": 0, "act": None, "scale": "a"}),
        ("starred", {"size": 2}),
        ("Known", {"bits": 1}),
        ("build", {"pretrained": False}),
    ],
)
def test_its_keys_are_the_parameters_that_the_data_does_not_give(
    attribute: str, expected: dict[str, Any]
) -> None:
    assert keys(f"nets_of_theirs.zoo:{attribute}") == expected


def test_it_is_shown_completed_and_composed_without_being_executed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    net = "model=nets_of_theirs.zoo:Wider"
    assert cli.run(["train", net, "--help"]) == 0
    output = capsys.readouterr().out
    assert "model=nets_of_theirs.zoo:Wider  model.depth=3" in output
    assert "A wider one." in output
    assert answers(f"tinylab train {net} model.d") == ["model.depth=", "model.drop="]
    assert cli.run(["train", net, "model.depth=5", "--cfg", "job"]) == 0
    assert "depth: 5" in capsys.readouterr().out
    assert "nets_of_theirs" not in sys.modules


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["model=nets_of_their.zoo:Net"], "no module nets_of_their.zoo, neither installed nor"),
        (["model=nets_of_theirs.zo:Net"], "did you mean 'nets_of_theirs.zoo'?"),
        (["model=nets_of_theirs.zoo:Nett"], "no class or function Nett (did you mean 'Net'?) in"),
        (
            ["model=nets_of_theirs.zoo:needs"],
            "layers and width has no default and is not given by the data",
        ),
        (["model=nets_of_theirs.zoo:Net", "model.dept=1"], "did you mean 'model.depth'?"),
        (["model=nets_of_theirs.zoo:Net", "model.depth=deep"], "depth=deep: expected an integer"),
        (["model=nets_of_theirs.zoo:Net", "+model.more=1"], "a leading + cannot add one"),
        (["model=nets_of_theirs.zoo:build", "model.a=1"], "to its **kwargs: +model.a=1"),
        (["optim=nets_of_theirs.zoo:needs"], "layers and width has no default"),
        (["model=tinylab.models.mlp:Mlp"], "options are chosen by name"),
        (["model=beside:Net"], "add code=beside.py"),
    ],
)
def test_what_is_wrong_is_refused_in_two_lines(
    library: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    Path("beside.py").write_text(NETS)
    assert cli.run(["train", *arguments]) == 1
    output = capsys.readouterr().err
    assert words in output
    assert len(output.splitlines()) <= 2


# ---------------------------------------------------------------- **kwargs


def test_what_is_typed_with_a_plus_is_a_key_that_counts() -> None:
    build = "nets_of_theirs.zoo:build"
    made = compose_plain([f"model={build}", "+model.sizes=[1,2]", "+model.act=relu"])
    assert (made.model.sizes, made.model.act) == ([1, 2], "relu")  # type: ignore[attr-defined]
    assert identity(made)["model"] == {
        "name": build, "pretrained": False, "sizes": [1, 2], "act": "relu"
    }  # fmt: skip
    assert pickle.loads(pickle.dumps(made)) == made


def test_what_another_command_has_typed_with_a_plus_changes_no_id() -> None:
    plain = run_id(compose_plain(["model=nets_of_theirs.zoo:build"]))
    compose_plain(["model=nets_of_theirs.zoo:build", "+model.act=relu"])
    assert run_id(compose_plain(["model=nets_of_theirs.zoo:build"])) == plain


# ---------------------------------------------------------------- the call


class Called:
    """Stands for what is imported: it keeps what it is called with."""

    def __call__(self, **values: Any) -> dict[str, Any]:
        return values


def called(made: Config, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(Option, "load", lambda self: Called())
    return dict(options.of(made.model).make(made.model, (3, 8, 9), 7))


def test_the_data_gives_what_the_signature_has(monkeypatch: pytest.MonkeyPatch) -> None:
    assert called(config("nets_of_theirs.zoo:Net", depth=4), monkeypatch) == {
        "in_channels": 3, "num_classes": 7, "depth": 4, "drop": 0.0, "act": None, "scale": "a"
    }  # fmt: skip
    further = config("nets_of_theirs.zoo:build", num_classes=9, other=None)
    assert called(further, monkeypatch) == {"pretrained": False, "num_classes": 9}


# ---------------------------------------------------------------- identity


@pytest.mark.parametrize("option", ["nets_of_theirs.zoo:Net", "a.b.ä:Größe", f"m:{'x' * 300}"])
def test_the_name_of_its_folder_is_plain(option: str) -> None:
    record = options.record("model", "mlp")
    record.name = option
    made = object.__new__(Config)
    made.__dict__.update(vars(Config(DigitsConfig(), model=options.record("model", "mlp"),
                                     optim=AdamConfig())))  # fmt: skip
    made.model = record
    name = run_id(made)
    assert re.fullmatch(r"digits-[A-Za-z0-9_.]+-[0-9a-f]{10}", name)
    assert is_plain_name(name)
    assert len(name) <= 100


def test_another_version_of_the_library_outdates_and_changes_no_id(library: Path) -> None:
    made = config("nets_of_theirs.zoo:Net")
    recorded, before = code.recorded(made), run_id(made)
    assert recorded["libraries"] == "nets_of_theirs 1.0"
    assert code.changed(recorded["code_sha256"], recorded, made) is None
    (library / "nets_of_theirs-1.0.dist-info" / "METADATA").write_text("Name: x\nVersion: 1.1\n")
    modules.version.cache_clear()
    assert code.changed(recorded["code_sha256"], recorded, made) == (
        "made with nets_of_theirs 1.0, but this is nets_of_theirs 1.1"
    )
    assert run_id(made) == before
    assert code.own_files(made) == []


def test_of_a_module_of_the_users_the_content_counts(tmp_path: Path) -> None:
    package = tmp_path / "work" / "nets_of_mine"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "part.py").write_text("from .other import X\nclass Net:\n    pass\n")
    (package / "other.py").write_text("X = 1\n")
    options.use_files(user_code.named(["code=work/nets_of_mine/part.py"]))
    made = config("nets_of_mine.part:Net")
    assert {file.name for file in code.own_files(made)} == {"__init__.py", "part.py", "other.py"}
    before = code.recorded(made)
    assert "libraries" not in before
    (package / "other.py").write_text("X = 22\n")
    message = code.changed(before["code_sha256"], before, made)
    assert message is not None
    assert "other.py" in message
    assert "has changed since" in message


def test_an_edited_signature_is_read_again(library: Path) -> None:
    assert "depth" in keys("nets_of_theirs.zoo:Net")
    file = library / "nets_of_theirs" / "zoo.py"
    file.write_text(NETS.replace("depth: int", "layers_more: int"))
    options.use_files([])
    assert "layers_more" in keys("nets_of_theirs.zoo:Net")


# ---------------------------------------------------------------- import


def test_a_module_of_a_package_may_import_relatively(tmp_path: Path) -> None:
    package = tmp_path / "relative_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "part.py").write_text("from .other import X\ndef net(num_classes): return X\n")
    (package / "other.py").write_text("X = 1\n")
    for typed in ("relative_package.part", "relative_package/part.py"):
        options.use_files(user_code.named([f"code={typed}"]))
        options.add_named("model", "relative_package.part:net")
        assert options.options("model")["relative_package.part:net"].load()(10) == 1


def test_what_cannot_be_imported_is_described_in_words(library: Path) -> None:
    (library / "nets_of_theirs" / "__init__.py").write_text("import no_such_library\n")
    options.add_named("model", "nets_of_theirs.zoo:Net")
    with pytest.raises(UserError, match=r"zoo cannot be imported: ModuleNotFoundError: .*no_such"):
        options.options("model")["nets_of_theirs.zoo:Net"].load()


# ---------------------------------------------------------------- runs of others


def test_a_library_is_executed_for_a_run_only_where_it_was_trained_with(tmp_path: Path) -> None:
    option = "nets_of_theirs.zoo:Net"
    saved = {"model": {"name": option, "depth": 3}, "code": None}
    with pytest.raises(UserError, match="was never trained on this machine") as refused:
        code.require(saved, None, tmp_path)
    assert "add code=nets_of_theirs.zoo" in str(refused.value)
    options.without_code(["code=nets_of_theirs.zoo"])
    code.require(saved, None, tmp_path)
    options.without_code(["code=null"])
    named.keep([option])
    code.require(saved, None, tmp_path)


def test_a_run_cannot_consent_for_the_user(tmp_path: Path, library: Path) -> None:
    file = library / "nets_of_theirs" / "zoo.py"
    saved = {"model": {"name": "nets_of_theirs.zoo:Net"}, "code": str(file)}
    options.without_code(["code=null"])
    with pytest.raises(UserError, match="was never trained on"):
        code.require(saved, None, tmp_path / "runs" / "run")
