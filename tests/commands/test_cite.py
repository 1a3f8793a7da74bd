"""`tinylab cite`: BibTeX of tinylab, and of what a run or a config uses."""

import re
from pathlib import Path

import pytest
import yaml

from run_folders import finished
from tinylab import __version__, cli
from tinylab.commands.cite import WORKS, bibtex, entries
from tinylab.config import options
from tinylab.data.torchvision import SETS
from tinylab.store.sweep import SweepFolder


def cited(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    """The BibTeX keys that the command prints."""
    assert cli.run(["cite", *words]) == 0
    return re.findall(r"^@\w+\{(\w+),$", capsys.readouterr().out, re.MULTILINE)


def test_alone_it_cites_tinylab_in_this_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["cite"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("@software{tinylab,")
    assert f"version = {{{__version__}}}" in out


def test_a_config_is_cited_by_its_data_and_every_method(
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = cited(capsys, "experiment=mnist_best", "augment.mixup=0.2")
    assert result == [
        "tinylab", "lecun1998mnist", "he2016resnet", "jordan2024muon", "smith2018onecycle",
        "zhang2018mixup", "devries2017cutout", "ronneberger2015unet", "ge2021yolox",
        "szegedy2016inception", "polyak1992averaging",
    ]  # fmt: skip


def test_a_run_is_cited_as_its_config_is(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = {"dataset": {"name": "scene15"}, "optim": {"name": "sgd"}, "seed": 0}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    result = cited(capsys, str(tmp_path), str(tmp_path))
    assert result == ["tinylab", "lazebnik2006scene15", "feifei2005scene", "oliva2001scene"]


def test_a_sweep_is_cited_as_its_runs_are(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    runs = [finished(tmp_path, seed=seed) for seed in range(2)]
    sweep = SweepFolder(tmp_path / "sweeps" / "s")
    sweep.write_state(arguments=["seed=0,1"], jobs=[{"run_id": run.name} for run in runs])
    assert cited(capsys, str(sweep.path)) == cited(capsys, str(runs[0]))


def test_data_without_an_entry_is_said_in_a_comment() -> None:
    assert bibtex([{"dataset": {"name": "folder"}}]) == [
        "% dataset=folder: no entry available; cite the source of these images"
    ]
    [line] = bibtex([{"dataset": {"name": "torchvision", "set": "DTD"}}])
    assert line.startswith("% dataset=torchvision dataset.set=DTD:")


def test_what_is_neither_a_run_nor_a_key_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert cli.run(["cite", str(tmp_path / "absent")]) == 1
    assert "expected the folder of a run" in capsys.readouterr().err
    assert cli.run(["cite", str(tmp_path), "model=mlp"]) == 1
    assert "not both" in capsys.readouterr().err


def test_every_entry_is_cited_by_a_rule_and_is_whole() -> None:
    known = entries()
    assert {name for _, _, names in WORKS for name in names} == known.keys()
    for name, entry in known.items():
        assert entry.count("{") == entry.count("}"), name
        fields = set(re.findall(r"^  (\w+) += ", entry, re.MULTILINE))
        assert {"author", "title", "year"} <= fields, name


@pytest.mark.parametrize("group", ["dataset", "model", "optim"])
def test_a_rule_names_what_can_be_chosen(group: str) -> None:
    named = {value for key, value, _ in WORKS if key == f"{group}.name"}
    assert named <= options.options(group).keys()
    assert {value for key, value, _ in WORKS if key == "dataset.set"} <= SETS.keys()


def test_the_help_of_tinylab_fits_one_screen() -> None:
    assert len(cli.help_text().splitlines()) <= 24
