"""Spaces: keys that vary together, settings one by one, and combinations that are left out."""

import csv
import itertools
import re
import shlex
from pathlib import Path

import pytest

from tinylab import cli
from tinylab.errors import UserError
from tinylab.sweeps import search
from tinylab.sweeps.combinations import is_value
from tinylab.sweeps.grid import combinations_of, expand
from tinylab.sweeps.job import Composer
from tinylab.sweeps.proposals import Study
from tinylab.sweeps.search import Search
from tinylab.sweeps.space import read

pytestmark = pytest.mark.costly

WIDTHS, RATES = "model.hidden=8,16,32", "optim.lr=0.1,0.2,0.3"
ZIP = "sweep.zip=[[model.hidden,optim.lr]]"
SEARCH = ["sweep.search=random", "sweep.trials=9"]


def labels(composer: Composer, *arguments: str) -> list[str]:
    space = read(["model=mlp", *arguments], composer)
    return [" ".join(each.values()) for each in combinations_of(space)]


def test_zipped_keys_go_together(composer: Composer) -> None:
    assert labels(composer, WIDTHS, RATES, ZIP) == ["8 0.1", "16 0.2", "32 0.3"]
    both = labels(composer, WIDTHS, RATES, ZIP, "seed=0,1")
    assert both == ["8 0.1 0", "8 0.1 1", "16 0.2 0", "16 0.2 1", "32 0.3 0", "32 0.3 1"]


def test_listed_settings_are_run_as_they_are(composer: Composer) -> None:
    listed = "sweep.settings=[{model.hidden: 8, optim.lr: 0.1}, {model.hidden: 16}]"
    assert labels(composer, listed) == ["8 0.1", "16"]
    assert labels(composer, listed, "seed=0,1") == ["8 0.1 0", "8 0.1 1", "16 0", "16 1"]


def test_a_setting_may_choose_an_option_and_its_keys(composer: Composer) -> None:
    listed = "sweep.settings=[{model: mlp, model.layers: 3}, {model: baseline, model.filters: 2}]"
    jobs = expand(read([listed], composer), composer)
    assert [job.config.model.name for job in jobs] == ["mlp", "baseline"]
    assert [job.label for job in jobs] == [
        "model=mlp model.layers=3",
        "model=baseline model.filters=2",
    ]


def test_excluded_combinations_are_left_out(composer: Composer) -> None:
    every = [f"{w} {r}" for w, r in itertools.product((8, 16, 32), (0.1, 0.2, 0.3))]
    partial = "sweep.exclude=[{model.hidden: 32}]"
    assert labels(composer, WIDTHS, RATES, partial) == every[:6]
    whole = "sweep.exclude=[{model.hidden: 32, optim.lr: 0.10}, {optim.lr: 0.3, model.hidden: 8}]"
    kept = [each for each in every if each not in ("32 0.1", "8 0.3")]
    assert labels(composer, WIDTHS, RATES, whole) == kept


@pytest.mark.parametrize(
    ("text", "value", "is_same"),
    [
        ("0.10", 0.1, True), ("1e-3", 0.001, True), ("32", 32, True), ("32", 33, False),
        ("mlp", "mlp", True), ("'mlp'", "mlp", True), ("true", True, True), ("1", True, False),
        ("null", None, True), ("mlp", 3, False),
    ],
)  # fmt: skip
def test_a_typed_value_is_known_however_it_is_written(
    text: str, value: object, is_same: bool
) -> None:
    assert is_value(text, value) == is_same


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([WIDTHS, "optim.lr=0.1,0.2", ZIP], "model.hidden has 3, optim.lr has 2"),
        ([WIDTHS, ZIP], "optim.lr is not swept; the swept keys: model.hidden"),
        ([WIDTHS, RATES, "sweep.zip=[[model.hidden,optim.lrr]]"], "did you mean 'optim.lr'?"),
        ([WIDTHS, RATES, "sweep.zip=[[model.hidden]]"], "expected two or more different keys"),
        ([WIDTHS, RATES, ZIP[:-1] + ",[optim.lr,model.hidden]]"], "in another group of sweep.zip"),
        ([*SEARCH, WIDTHS, "optim.lr=interval(0.1,1)", ZIP], "has no list of values to iterate "
        "over"),
        ([WIDTHS, "sweep.settings=[{model.hidden: 4}]"], "is also set outside the list"),
        (["model.hidden=4", "sweep.settings=[{model.hidden: 4}]"], "is also set outside the list"),
        (["sweep.settings=[{model.hiden: 4}]"], "model.hiden: unknown key (did you mean"),
        (["sweep.settings=[{}]"], "is empty"),
        (["sweep.settings=[{sweep.seed: 4}]"], "sweep.seed applies to the whole sweep"),
        (["sweep.settings=[{optim.lr: 0.1},{optim.lr: 0.1}]"], "are the same run"),
        ([WIDTHS, "sweep.exclude=[{optim.lr: 4}]"], "not swept; the swept keys: model.hidden"),
        ([WIDTHS, "sweep.exclude=[{model.hidden: 4}]"], "expected one of its values 16, 32, 8"),
        ([WIDTHS, "sweep.exclude=[{}]"], "would exclude everything"),
        (["model.hidden=8,16", "sweep.exclude=[{model.hidden: 8},{model.hidden: 16}]"],
         "every combination is excluded"),
        ([*SEARCH, WIDTHS, "seed=0,1", "sweep.exclude=[{seed: 1}]"], "repeats every setting over"),
        ([*SEARCH, "seed=0,1,2", WIDTHS, "sweep.zip=[[model.hidden,seed]]"],
         "a search repeats each setting over seed"),
        ([*SEARCH, WIDTHS, "seed=interval(0,3)"], "repeats need a list of values"),
        ([*SEARCH, "seed=0,1"], "nothing to search over; seeds alone repeat one setting"),
    ],
)  # fmt: skip
def test_what_cannot_go_together_is_refused_in_two_lines(
    arguments: list[str], words: str, composer: Composer
) -> None:
    with pytest.raises(UserError) as refusal:
        check(["model=mlp", *arguments], composer)
    assert words in str(refusal.value)
    assert len(str(refusal.value).splitlines()) <= 2


def check(arguments: list[str], composer: Composer) -> None:
    space = read(arguments, composer)
    if space.settings.search == "grid":
        expand(space, composer)
    else:
        search.check(space, composer)


def test_seeds_may_be_zipped(composer: Composer) -> None:
    zipped = ["seed=0,1", "split.seed=5,6", "sweep.zip=[[seed,split.seed]]"]
    space = read([*SEARCH, WIDTHS, *zipped], composer)
    assert space.repeats == ({"seed": "0", "split.seed": "5"}, {"seed": "1", "split.seed": "6"})


def test_a_search_proposes_zipped_and_listed_values_together(
    composer: Composer, tmp_path: Path
) -> None:
    listed = "sweep.settings=[{model.layers: 1, model.dropout: 0.1}, {model.layers: 2}]"
    arguments = [
        *SEARCH, "model=mlp", WIDTHS, RATES, ZIP, listed, f"outputs={tmp_path}",
        "sweep.exclude=[{model.hidden: 8, model.layers: 2}]", "name=x",
    ]  # fmt: skip

    def plan() -> Search:
        space = read(arguments, composer)
        checked = search.check(space, composer)
        return Search(space, composer, search.folder_of(space, checked[0].config), checked, [])

    first = plan()
    jobs = list(iter(first.next_job, None))
    widths = {"8": "0.1", "16": "0.2", "32": "0.3"}
    dropout = {"1": "0.1", "2": None}
    assert len(jobs) == 5, "of 6 combinations one is excluded"
    for job in jobs:
        assert widths[job.varied["model.hidden"]] == job.varied["optim.lr"]
        assert dropout[job.varied["model.layers"]] == job.varied.get("model.dropout")
    assert [job.label for job in plan().jobs] == [job.label for job in jobs]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("optim.lr=0.001,0.1", "'optim.lr=interval(0.001,0.1)'"),
        ("optim.lr=1e-3,1", "'optim.lr=interval(0.001,1)'"),
        ("optim.lr=0.001,0.01,0.1", None),
        ("model.hidden=4,8", None),
        ("optim=adam,sgd", None),
        ("optim.lr=interval(0.001,0.1)", None),
    ],
)
def test_two_listed_values_may_mean_an_interval(
    typed: str, meant: str | None, composer: Composer
) -> None:
    space = read(["sweep.search=tpe", "sweep.trials=9", "model=mlp", typed], composer)
    assert space.meant() == meant


def test_pairs_count_once_in_a_search(composer: Composer) -> None:
    space = read([*SEARCH, "model=mlp", WIDTHS, RATES, ZIP], composer)
    assert Study(space.axes, space.settings).size == 3


def test_a_yaml_file_may_pair_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf" / "sweep").mkdir(parents=True)
    (tmp_path / "conf" / "sweep" / "pairs.yaml").write_text(
        "defaults: [default, _self_]\n"
        "space: {model.hidden: 'choice(4,8)', optim.lr: 'choice(0.01,0.02)'}\n"
        "zip: [[model.hidden, optim.lr]]\n"
    )
    command = [
        "train", "-m", "--config-dir", "conf", "sweep=pairs", "model=mlp", "train.epochs=1",
        "train.batch_size=512", "jobs=1", "name=x", "seed=0,1",
    ]  # fmt: skip
    assert cli.run(command) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    assert "model.hidden=8 optim.lr=0.02" in out, "the settings are labeled by both keys"
    with Path("outputs/sweeps/x/leaderboard.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["model.hidden"], row["optim.lr"]) for row in rows} == {
        ("4", "0.01"),
        ("8", "0.02"),
    }
    assert len(rows) == 4


DOCS = Path(__file__).parents[2] / "docs" / "sweeps.md"
COMMANDS = re.findall(r"^tinylab train -m (.*)$", DOCS.read_text(), re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_of_the_docs_can_start(command: str, composer: Composer) -> None:
    assert len(COMMANDS) >= 6
    check(shlex.split(command, comments=True), composer)
