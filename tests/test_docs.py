"""The pages of docs: generated tables are current, statements are true, links resolve."""

import argparse
import dataclasses
import doctest
import importlib
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml

import test_readme
from tinylab import __version__
from tinylab.commands import COMMANDS
from tinylab.commands.completion import TRAIN_FLAGS
from tinylab.commands.parser import Parser
from tinylab.commands.train_help import EXAMPLES
from tinylab.config.metrics import METRICS
from tinylab.store import result
from tinylab.store.folder import RunFolder

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


# ---------------------------------------------------------------- what is generated


class _ParserError(Exception):
    """Brings out the parser of a command."""


def parser_of(command: str) -> argparse.ArgumentParser:
    """The parser that a command makes for its arguments."""

    def caught(self: argparse.ArgumentParser, *_: object) -> NoReturn:
        raise _ParserError(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Parser, "parse_args", caught)
        patch.setattr(Parser, "parse_intermixed_args", caught)
        with pytest.raises(_ParserError) as raised:
            importlib.import_module(f"tinylab.commands.{command}").main([])
    actual = raised.value.args[0]
    assert isinstance(actual, argparse.ArgumentParser)
    return actual


def commands() -> str:
    """A section for each command: what it does, its arguments, its examples."""
    return "\n".join(line for name in COMMANDS for line in command(name)) + "\n"


OF_TRAIN = {
    "KEY=VALUE": "config groups and keys; with `-m` several values, separated by commas",
    "-m, --multirun": "a sweep over all combinations of these values",
    "--from FOLDER": "repeat a run's config with its number of threads; KEY=VALUE changes it",
    "--cfg job": "print the config without training",
    "--info": "print Hydra's information about config files and plugins",
    "--resolve": "with `--cfg`: interpolations filled in",
    "--hydra-help": "all flags of Hydra",
}


def command(name: str) -> Iterator[str]:
    yield from (f"## {name}", "", f"{COMMANDS[name][0].upper()}{COMMANDS[name][1:]}.", "")
    if name == "train":  # Hydra reads its words
        rows = [f"| `{flag}` | {what} |" for flag, what in OF_TRAIN.items()]
        yield from ("| argument | what |", "| --- | --- |", *rows, "")
        yield from ("```text", EXAMPLES.replace("\n  ", "\n").strip(), "```", "")
        return
    parser = parser_of(name)
    rows = [row(action) for action in parser._actions if action.dest != "help"]
    yield from ("| argument | what |", "| --- | --- |", *rows, "")
    if parser.epilog:
        yield from ("```text", parser.epilog.strip(), "```", "")


def row(action: argparse.Action) -> str:
    choices = f"{{{','.join(map(str, action.choices or ()))}}}" if action.choices else ""
    value = action.metavar or choices or action.dest.upper()
    shown = " ".join(value) if isinstance(value, tuple) else value
    names = ", ".join(action.option_strings)
    typed = f"{names} {shown}" if names and action.nargs != 0 else names or shown
    words = [action.help] if action.help else []
    has_default = isinstance(action.default, str | int) and not isinstance(action.default, bool)
    if names and has_default and "default" not in (action.help or ""):
        words.append(f"default: {action.default}")
    return f"| `{typed}` | {'; '.join(words)} |"


def metrics() -> str:
    """The table of metrics."""
    table = ["| name | what | better | in `result.json` |", "| --- | --- | --- | --- |"]
    for name, each in METRICS.items():
        table.append(f"| `{name}` | {each.label} | {each.better} | `{'.'.join(each.path)}` |")
    return "\n".join(table) + "\n"


# Mark in a page -> the page, and what stands between its marks.
GENERATED: dict[str, tuple[str, Callable[[], str]]] = {
    "keys": ("config-keys.md", test_readme.key_table),
    "commands": ("commands.md", commands),
    "metrics": ("result-keys.md", metrics),
}


def marked(mark: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- {mark} -->\n)(.*?)(<!-- /{mark} -->)", re.DOTALL)


@pytest.mark.costly
@pytest.mark.parametrize("mark", GENERATED)
def test_a_generated_table_is_what_the_code_says(mark: str) -> None:
    page, made = GENERATED[mark]
    match = marked(mark).search(text(f"docs/{page}"))
    assert match is not None
    assert match[2] == made(), "run PYTHONPATH=tests python tests/test_docs.py to rewrite it"


# ---------------------------------------------------------------- what is stated


def test_the_page_of_commands_has_every_flag_of_train() -> None:
    flags = {flag for words in OF_TRAIN for flag in re.findall(r"--[\w-]+", words)}
    assert flags == {*TRAIN_FLAGS} - {"--help"}


def keys_of(kind: type, prefix: str = "") -> Iterator[str]:
    for entry in dataclasses.fields(kind):
        if entry.name != "extra":
            yield f"{prefix}{entry.name}"


def test_the_page_of_result_keys_has_every_key_and_no_other() -> None:
    page = text("docs/result-keys.md").partition("## The file\n")[2]
    documented = set(re.findall(r"^\| `([\w.]+)` \|", page, re.MULTILINE))
    expected = {"format", "status", *keys_of(result.Result), *keys_of(result.TestPart, "test.")}
    expected |= {*keys_of(result.Dataset, "dataset."), *keys_of(result.Seconds, "seconds.")}
    expected |= {*keys_of(result.Environment, "environment.")}
    assert documented - NOT_OF_THE_RECORD == expected


# Metrics of a part that a result keeps as extras.
NOT_OF_THE_RECORD = {
    "test.balanced_accuracy", "test.macro_f1", "test.top5_accuracy", "test.nll", "test.ece",
}  # fmt: skip


def test_the_page_of_the_run_folder_names_every_file_of_it() -> None:
    page = text("docs/run-folder.md")
    for value in vars(RunFolder(Path("run"))).values():
        if value != Path("run"):
            assert re.search(rf"`{re.escape(value.name)}/?`", page), value


def test_the_changelog_and_the_citation_have_this_version() -> None:
    assert f"## {__version__}\n" in text("CHANGELOG.md")
    assert yaml.safe_load(text("CITATION.cff"))["version"] == __version__


def test_every_classifier_is_a_python_of_ci() -> None:
    project = tomllib.loads(text("pyproject.toml"))["project"]
    jobs = yaml.safe_load(text(".github/workflows/ci.yml"))["jobs"]
    versions = jobs["test"]["strategy"]["matrix"]["python-version"]
    stated = [line.rpartition(" ")[2] for line in project["classifiers"] if ":: 3." in line]
    assert set(stated) <= set(versions)
    assert (ROOT / "src/tinylab/py.typed").is_file()


def examples(page: Path) -> doctest.DocTest:
    blocks = re.findall(r"^```python\n(>>>.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    return doctest.DocTestParser().get_doctest("\n".join(blocks), {}, page.name, str(page), 0)


WITH_EXAMPLES = [page for page in PAGES if examples(page).examples]


@pytest.mark.costly
@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=lambda page: page.name)
def test_examples_print_what_the_page_says(page: Path) -> None:
    failures: list[str] = []
    doctest.DocTestRunner().run(examples(page), out=failures.append)
    assert not failures, "".join(failures)


# ---------------------------------------------------------------- what leads somewhere


def pages_of(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
        return
    for each in nav.values() if isinstance(nav, dict) else nav:
        yield from pages_of(each)


def test_the_navigation_has_every_page_once() -> None:
    assert sorted(pages_of(yaml.safe_load(text("mkdocs.yml"))["nav"])) == [p.name for p in PAGES]


def test_no_message_names_a_file_of_docs_which_packages_do_not_have() -> None:
    for file in (ROOT / "src").rglob("*.py"):
        assert not re.search(r"docs/[\w-]+\.md", file.read_text(encoding="utf-8")), file


@pytest.mark.parametrize(
    "name", ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in PAGES)]
)
def test_links_of_a_page_lead_to_files(name: str) -> None:
    for target in re.findall(r"\]\(([^)#]+?)(?:#[\w-]+)?\)", text(name)):
        if "://" not in target:
            assert (ROOT / name).parent.joinpath(target).is_file(), target


def test_the_site_loads_nothing_from_elsewhere() -> None:
    assert "://" not in text("mkdocs.yml")
    assert "url(" not in text("docs/site.css")
    assert yaml.safe_load(text("mkdocs.yml"))["theme"]["font"] is False


def rewrite() -> None:
    for mark, (page, made) in GENERATED.items():
        path = DOCS / page
        between = made()
        path.write_text(
            marked(mark).sub(lambda m, new=between: m[1] + new + m[3], path.read_text())
        )


if __name__ == "__main__":
    rewrite()
