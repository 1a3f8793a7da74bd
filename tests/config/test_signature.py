"""Options are read from source as Python itself would understand their signatures."""

import inspect
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinylab.config import options, signature
from tinylab.config.option import FOLDERS
from tinylab.errors import UserError

HEAD = "import tinylab\n\n\n@tinylab.model\n"


def declared(tmp_path: Path, source: str) -> signature.Declaration:
    file = tmp_path / "mine.py"
    file.write_text(source)
    [result] = signature.read(file)
    return result


def keys(tmp_path: Path, parameters: str) -> dict[str, signature.Key]:
    """The keys of a model with these parameters beside the two that the data gives."""
    head = f"{HEAD}class Tiny:\n    def __init__(self, image_shape, num_classes, {parameters}):\n"
    result = declared(tmp_path, f"{head}        pass\n")
    assert result.takes[:2] == ("image_shape", "num_classes")
    return {key.name: key for key in result.keys}


@pytest.mark.parametrize(
    ("parameter", "expected", "default"),
    [
        ("width: int = 16", int, 16),
        ("rate: float = 1e-3", float, 1e-3),
        ("rate: float = -1", float, -1),
        ("wide: bool = True", bool, True),
        ("kind: str = 'relu'", str, "relu"),
        ("width: int | None = None", int | None, None),
        ("rate: None | float = 0.5", float | None, 0.5),
        ("width=64", int, 64),
        ("kind='x'", str, "x"),
        ("wide=False", bool, False),
        ("kind: Literal['a', 'b'] = 'a'", str, "a"),
        ("kind: typing.Literal['a', 'b'] | None = None", str | None, None),
    ],
)
def test_a_parameter_becomes_a_typed_key(
    tmp_path: Path, parameter: str, expected: Any, default: Any
) -> None:
    [key] = keys(tmp_path, parameter).values()
    assert (key.declared, key.default) == (expected, default)
    assert type(key.default) is type(default)


def test_a_literal_is_a_text_with_choices(tmp_path: Path) -> None:
    [key] = keys(tmp_path, "kind: Literal['a', 'b'] = 'a'").values()
    assert key.check is not None
    assert key.check.one_of == ("a", "b")


def test_help_limits_and_flags_are_read_where_the_key_is(tmp_path: Path) -> None:
    typed = "width: int = option(8, 'channels', at_least=1, identity=False, initial=True)"
    [key] = keys(tmp_path, typed).values()
    assert (key.default, key.help, key.identity, key.initial) == (8, "channels", False, True)
    assert key.check is not None
    assert key.check.expected() == "1 or more"


@pytest.mark.parametrize(
    ("parameter", "said"),
    [
        ("layers=(1, 2)", "expected a type"),
        ("width=None", "expected a type"),
        ("act: Callable = None", "expected int, float, bool, str"),
        ("width: int | str = 1", "expected int, float, bool, str"),
        ("width: int = SIZE", "expected a plain value"),
    ],
)
def test_what_cannot_be_a_key_is_refused_by_file_line_and_name(
    tmp_path: Path, parameter: str, said: str
) -> None:
    with pytest.raises(
        UserError, match=rf"mine\.py:5: {parameter.split(':')[0].split('=')[0]}.*{said}"
    ):
        keys(tmp_path, parameter)


def test_a_function_and_a_dataclass_are_options_too(tmp_path: Path) -> None:
    function = declared(tmp_path, f"{HEAD}def Tiny(image_shape, num_classes, *, width=3): ...\n")
    assert (function.name, [key.name for key in function.keys]) == ("tiny", ["width"])
    fields = "    kind: ClassVar[int] = 1\n    width: int = 3\n    other = 4\n"
    record = declared(tmp_path, f"@dataset\n@dataclass\nclass Mine:\n{fields}")
    assert (record.group, record.takes) == ("dataset", ("width",))


def test_nothing_is_executed(tmp_path: Path) -> None:
    trap = f"open({str(tmp_path / 'sprung')!r}, 'w')\n"
    declared(tmp_path, f"{trap}{HEAD}class Tiny:\n    def __init__(self, a=1): ...\n")
    assert not (tmp_path / "sprung").exists()


def test_a_file_without_options_has_none(tmp_path: Path) -> None:
    file = tmp_path / "plain.py"
    file.write_text("def model(): ...\n@cache\ndef f(): ...\n")
    assert signature.read(file) == []


PLAIN = st.one_of(
    st.integers(-9, 9), st.booleans(), st.floats(allow_nan=False, allow_infinity=False), st.text()
)


@given(st.dictionaries(st.from_regex(r"[a-z]{1,5}_", fullmatch=True), PLAIN, max_size=4))
def test_defaults_are_those_that_python_gives(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    parameters = ", ".join(f"{name}={value!r}" for name, value in values.items())
    source = f"def tiny(image_shape, num_classes, {parameters}): ...\n"
    result = declared(folder, f"{HEAD}{source}")
    namespace: dict[str, Any] = {}
    exec(source, namespace)
    parts = inspect.signature(namespace["tiny"]).parameters.values()
    expected = {p.name: p.default for p in parts if p.default is not p.empty}
    assert {key.name: key.default for key in result.keys} == expected


@pytest.mark.parametrize("group", [group for group in FOLDERS if FOLDERS[group][0]])
def test_what_is_read_of_the_built_in_options_is_what_their_code_says(group: str) -> None:
    for option in options.options(group).values():
        made = option.load()
        parts = inspect.signature(made).parameters
        for key in option.declaration.keys:
            assert parts[key.name].default == key.default, f"{option.name}: {key.name}"
        assert tuple(parts) == option.declaration.takes
        assert option.about, f"{option.name} has no docstring"
