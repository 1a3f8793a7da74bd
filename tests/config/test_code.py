"""Which code decides a result: what is only for people does not, and what is not chosen neither."""

import functools
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from option_records import AdamConfig, BaselineConfig, DigitsConfig, MlpConfig, SgdConfig
from tinylab.config import code, option, options
from tinylab.config.schema import Config

pytestmark = pytest.mark.costly

CONFIG = Config(dataset=DigitsConfig(), model=MlpConfig(), optim=AdamConfig())
REAL = option.PACKAGE
SOURCE = '''"""A module."""

from x import y


def f(a: int, b: float = 0.5) -> int:
    """Docs."""
    # a reason
    if a < 0:
        raise ValueError(f"{a}: expected 0 or more")
    say("words")
    return a + 1
'''
FOR_PEOPLE = [
    ('"""A module."""', '"""Another text."""'),
    ('    """Docs."""\n', ""),
    ("# a reason", "# another"),
    ("a: int, b: float = 0.5", "a, b=0.5"),
    ("-> int", "-> float"),
    ("expected 0 or more", "expected another"),
    ('say("words")', 'say("other", end="")'),
    ("a + 1", "(a  +  1)"),
]
FOR_THE_RESULT = [
    ("a + 1", "a + 2"),
    ("b: float = 0.5", "b: float = 0.6"),
    ("a < 0", "a <= 0"),
    ("raise ValueError", "raise TypeError"),
    ("from x import y", "from x import z"),
    ("    return a + 1", "    return a + 1\n\n\ndef g(): ..."),
]


def digest(path: Path, source: str) -> str:
    path.write_text(source)
    return code.facts(path).digest


@pytest.mark.parametrize(("old", "new"), FOR_PEOPLE, ids=lambda text: text[:12])
def test_what_is_for_people_does_not_count(tmp_path: Path, old: str, new: str) -> None:
    assert old in SOURCE
    path = tmp_path / "m.py"
    assert digest(path, SOURCE) == digest(path, SOURCE.replace(old, new))


@pytest.mark.parametrize(("old", "new"), FOR_THE_RESULT, ids=lambda text: text[:12])
def test_what_may_change_a_result_counts(tmp_path: Path, old: str, new: str) -> None:
    assert old in SOURCE
    path = tmp_path / "m.py"
    assert digest(path, SOURCE) != digest(path, SOURCE.replace(old, new))


def test_the_help_of_a_key_does_not_count_and_its_default_does(tmp_path: Path) -> None:
    path = tmp_path / "m.py"
    source = 'def f(width: int = option(8, "channels", at_least=1)): ...\n'
    assert digest(path, source) == digest(path, source.replace("channels", "width"))
    assert digest(path, source) != digest(path, source.replace("8", "9"))


# ---------------------------------------------------------------- the package


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pyc = shutil.ignore_patterns("__pycache__")
    return shutil.copytree(REAL, tmp_path_factory.mktemp("source") / "tinylab", ignore=pyc)


@pytest.fixture
def package(own_cache: Path, copied: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the source, to be edited: afterwards it is again what it was."""
    for module in (code, option, options):
        monkeypatch.setattr(module, "PACKAGE", copied)
    # Tables of its own: what other tests hold stays that of the real one.
    for name in ("options", "_builtin"):
        read = functools.cache(getattr(options, name).__wrapped__)
        monkeypatch.setattr(options, name, read)
    monkeypatch.setattr(code, "_kept", functools.cache(code._kept.__wrapped__))
    yield copied
    for file in copied.rglob("*.py"):
        original = REAL / file.relative_to(copied)
        if not original.exists():
            file.unlink()
        elif file.read_bytes() != original.read_bytes():
            shutil.copyfile(original, file)


def of(config: Config) -> str:
    if option.PACKAGE != REAL:
        options.options.cache_clear()
        options._builtin.cache_clear()
    return code.of_result(config)


def edit(file: Path, more: str = "\nEDITED = 1\n") -> None:
    assert file.is_file()
    file.write_text(file.read_text() + more)


@pytest.mark.parametrize(
    "name",
    [
        "training/capture.py", "training/loop.py", "training/step.py", "training/metrics.py",
        "training/optim.py", "data/split.py", "data/augment.py", "models/__init__.py",
        "models/mlp.py", "training/optimizers/adam.py", "data/digits.py", "system/runtime.py",
    ],
)  # fmt: skip
def test_code_that_decides_a_result_outdates_it(package: Path, name: str) -> None:
    before = of(CONFIG)
    edit(package / name)
    assert of(CONFIG) != before


@pytest.mark.parametrize(
    "name",
    [
        "config/schema.py", "config/values.py", "ui/display.py", "store/folder.py", "cli.py",
        "models/resnet.py", "models/baseline.py", "training/optimizers/sgd.py", "data/mnist.py",
        "data/scene15.py",
    ],
)  # fmt: skip
def test_other_code_outdates_nothing(package: Path, name: str) -> None:
    before = of(CONFIG)
    edit(package / name)
    assert of(CONFIG) == before


@pytest.mark.parametrize("name", ["training/capture.py", "models/mlp.py", "data/split.py"])
def test_a_comment_outdates_nothing(package: Path, name: str) -> None:
    before = of(CONFIG)
    edit(package / name, "\n# a remark\n")
    assert of(CONFIG) == before


def test_a_new_option_outdates_nothing_and_its_edit_only_its_own_runs(package: Path) -> None:
    before = of(CONFIG)
    new = package / "models" / "linear.py"
    new.write_text("@model\ndef linear(image_shape, num_classes, bias=True):\n    return 1\n")
    assert of(CONFIG) == before
    chosen = Config(DigitsConfig(), model=options.record("model", "linear"), optim=AdamConfig())
    at_first = of(chosen)
    new.write_text(new.read_text().replace("return 1", "return 2"))
    assert of(CONFIG) == before
    assert of(chosen) != at_first


def test_options_that_share_code_share_its_changes(package: Path) -> None:
    muon = Config(DigitsConfig(), model=MlpConfig(), optim=options.record("optim", "muon"))
    before = of(muon)
    edit(package / "training/optimizers/adam.py")  # which trains Muon's output layer
    assert of(muon) != before


def test_configs_of_other_options_have_other_code() -> None:
    others = [
        Config(DigitsConfig(), model=BaselineConfig(), optim=AdamConfig()),
        Config(DigitsConfig(), model=MlpConfig(), optim=SgdConfig()),
    ]
    assert len({code.of_result(config) for config in (CONFIG, *others)}) == 3


def test_every_module_of_the_core_is_there() -> None:
    assert all((option.PACKAGE / part).exists() for part in code.CORE)


def test_an_older_digest_is_accepted_as_long_as_the_files_are_those_it_was_compared_with(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {f.relative_to(package).as_posix(): code.facts(f).digest for f in package.rglob("*.py")}
    monkeypatch.setattr(code, "_same_bits", lambda: {"older": files})
    assert code.is_same("older", CONFIG)
    assert not code.is_same("another", CONFIG)
    edit(package / "models/resnet.py")
    assert code.is_same("older", CONFIG), "no part of this config"
    edit(package / "training/step.py")
    assert not code.is_same("older", CONFIG)
    assert code.is_same(code.of_result(CONFIG), CONFIG)


def test_the_table_of_equal_bits_names_files_that_are_there() -> None:
    for files in code._same_bits().values():
        assert all((option.PACKAGE / name).is_file() for name in files)


def note_equal_bits(recorded: str, unequal: Sequence[str]) -> None:
    """Note that results recorded with a digest have the bits of today's code.

    Only after the two have been compared: the same configs trained by both, weights_sha256 equal.
    unequal: files of options that may give other bits, so that results of these are outdated.
    """
    parts = [path for part in code.CORE for path in [option.PACKAGE / part]]
    files = [file for part in parts for file in ([part] if part.is_file() else part.rglob("*.py"))]
    today = {f.relative_to(option.PACKAGE).as_posix(): code.facts(f).digest for f in sorted(files)}
    today = {name: digest for name, digest in today.items() if name not in unequal}
    table = Path(code.__file__).with_name("same_bits.json")
    known = json.loads(table.read_text())
    table.write_text(json.dumps({**known, recorded: today}, indent=1) + "\n")


if __name__ == "__main__":
    note_equal_bits(sys.argv[1], sys.argv[2:])
