"""Overrides are checked before anything is composed: what is wrong is named with its remedy."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from tinylab.config import overrides
from tinylab.config.overrides import checked, parse, typed
from tinylab.errors import UserError


def refusal(*arguments: str) -> str:
    with pytest.raises(UserError) as error:
        checked(arguments)
    text = str(error.value)
    assert text.count("\n") <= 1
    return text


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["optim.lr=0.1"],
        ["optim.lr=1"],
        ["optim.lr=1e-3"],
        ["model=mlp", "model.layers=3"],
        ["dataset=folder", "dataset.root=/data/my photos"],
        ["dataset=folder", "dataset.root='/data/a,b (c)'"],
        ["model.squeeze=null", "model=resnet"],
        ["train.compile=yes"],
        ["experiment=scene15_best", "model.width=8"],
        ["experiment=mnist_best", "optim.rest_lr=0.1"],
        ["-m", "seed=0,1,2"],
        ["--multirun", "seed=range(5)", "model=baseline,mlp"],
        ["-m", "model=baseline,mlp", "model.hidden=8,9"],
        ["-m", "optim.lr=tag(log,interval(1e-4,1e-1))"],
        ["-m", "model=glob(*)"],
        ["hydra.launcher.partition=gpu"],
        ["+hydra.launcher.ray.init.address=auto"],
        ["name=my_run"],
        ["outputs=${oc.env:HOME}/x"],
        ["~experiment"],
    ],
)
def test_what_is_right_passes(arguments: list[str]) -> None:
    assert sorted(checked(arguments)) == sorted(arguments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["seed=0,1,2"], "add -m: tinylab train -m seed=0,1,2"),
        (["model.width=choice(1,2)"], "add -m"),
        (["~optim"], "every config has optim, so it cannot be left out"),
        (["~optim.lr"], "such as optim.lr="),
        (["~nix"], "nix: unknown key"),
        (["-m", "--cfg", "job", "seed=0,1"], "-m with --cfg: only a single config"),
        (["--cfg", "jobs"], "--cfg jobs: expected one of job, hydra, all (did you mean 'job'?)"),
        (["--multirun=true", "seed=0,1"], "expected --multirun alone"),
        (["optim.lr =0.1"], "expected no spaces around =: optim.lr=0.1"),
        (["--info=al"], "did you mean 'all'"),
        (["lr=0.1"], "lr: unknown key (did you mean optim.lr?)"),
        (["epochs=3"], "did you mean train.epochs?"),
        (["dropout=0.1"], "did you mean model.dropout?"),
        (["optim.lrr=0.1"], "did you mean 'optim.lr'?"),
        (["Optim.LR=0.1"], "did you mean 'optim.lr'?"),
        (["optim.learning_rate=0.1"], "did you mean 'optim.lr'?"),
        (["optim.wd=0.1"], "did you mean 'optim.weight_decay'?"),
        (["optm=adam"], "did you mean 'optim'?"),
        (["dataset=MNIST"], "dataset=MNIST: no such option (did you mean 'mnist'?)"),
        (["model=ressnet"], "did you mean 'resnet'?"),
        (["dataset.root=x"], "dataset.root: belongs to dataset=folder, dataset=mnist"),
        (["model.width=3"], "model.width: belongs to model=resnet; model=baseline has model."),
        (["model=mlp", "model.filters=3"], "belongs to model=baseline; model=mlp has"),
        (["experiment=scene15_best", "model.filters=3"], "model=resnet has model.width"),
        (["optim.nesterov=true"], "belongs to optim=sgd; optim=adam has"),
        (["train.epoch=3"], "did you mean 'train.epochs'?"),
        (["train.epochs=3.5"], "train.epochs=3.5: expected an integer"),
        (["train.epochs=ten"], "train.epochs=ten: expected an integer"),
        (["train.epochs=true"], "expected an integer"),
        (["train.epochs=[1]"], "expected an integer"),
        (["seed=[0,1,2]"], "to try each: -m seed=0,1,2"),
        (["model=[mlp,resnet]"], "to try each: -m model=mlp,resnet"),
        (["train.lr=0.1"], "did you mean optim.lr?"),
        (["mnist"], "did you mean dataset=mnist?"),
        (["optim.lr=fast"], "optim.lr=fast: expected a number"),
        (["train.ema=big"], "train.ema=big: expected null or a number"),
        (["train.epochs=null"], "train.epochs=null: expected an integer"),
        (["train.compile=maybe"], "train.compile=maybe: expected true or false"),
        (["-m", "optim.lr=0.1,fast"], "optim.lr=fast: expected a number"),
        (["-m", "model=mlp,nothing"], "model=nothing: no such option"),
        (["+foo=1"], "foo: unknown key; a leading + cannot add one"),
        (["optim.lr"], "optim.lr: expected key=value"),
        (["dataset.root=a(b"], "needs its own quotes"),
        (["name=a=b"], "needs its own quotes"),
        (["name=it's"], "needs its own quotes"),
        (["--epochs=3"], "--epochs: no such flag"),
        (["--multi-run"], "did you mean '--multirun'?"),
        (["--config-dir"], "--config-dir: expected a value, as in --config-dir FOLDER"),
        (["--cfg", "optim.lr=0.1"], "--cfg: expected a value, as in --cfg job"),
        (["seed=0..5"], "expected an integer; to try each: -m 'seed=range(0,6)'"),
        (["seed=0-4"], "-m 'seed=range(0,5)'"),
        (
            ["seed=0,", "1,", "2"],
            "seed=0,: ends with a comma; write the values of a sweep without spaces",
        ),
        (["-m", "seed=0,1,"], "seed=0,1,: ends with a comma"),
        (["=3"], "=3: expected key=value, such as"),
        (['optim.lr="0.1'], "a quotation mark is missing: expected one at each end, or none"),
        (["optim.lr=“0.1”"], "expected a plain number or word, such as optim.lr=0.001"),
        (["train.epochs=3 seed=2"], "expected one key=value per word"),
        (["-m", "seed=range(3"], "a closing parenthesis is missing; expected 'seed=range(3)'"),
        (
            ["-m", "optim.lr=tag(log,interval(1e-4,1e-1)"],
            "parenthesis is missing; expected 'optim.lr=tag(log,interval(1e-4,1e-1))'",
        ),
        (["-m", "seed=choice(1,2))"], "parenthesis too many; expected 'seed=choice(1,2)'"),
        (["-m", "optim.lr=tag(log,1,2)"], "expected 'optim.lr=interval(LOW,HIGH)', or"),
        (["-m", "optim.lr=interval(1)"], "log scale 'optim.lr=tag(log,interval(LOW,HIGH))'"),
        (["optim.lr=log(1e-4, 1e-1)"], "sweep.trials=20 'optim.lr=tag(log,interval(1e-4,1e-1))'"),
        (["optim.lr=1e-4..1e-1"], "sweep.trials=20 'optim.lr=tag(log,interval(1e-4,1e-1))'"),
        (["-m", "optim.lr=0.01:0.1"], "a number; to search an interval: -m sweep.search=tpe "),
        (["model.dropout=0.1-0.5"], "sweep.trials=20 'model.dropout=interval(0.1,0.5)'"),
        (["model.hidden=uniform(16,512)"], "'model.hidden=int(interval(16,512))'"),
        (["sweep.zip=model"], "sweep.zip=model: expected lists of swept keys, such as sweep.zip=["),
        (["sweep.zip=[seed,model]"], "expected lists of swept keys, such as sweep.zip=[["),
        (["sweep.settings=[1]"], "such as 'sweep.settings=[{model.hidden: 64, optim.lr: 0.1}]'"),
        (["sweep.exclude=x"], "such as 'sweep.exclude=[{model.hidden: 64, optim.lr: 0.1}]'"),
        (["sweep.space=x"], "or the keys themselves, as in -m optim.lr=0.01,0.1"),
        (["-m", "seed=range(0,3,0)"], "expected a step other than 0"),
        (["schedule=cosine"], "did you mean optim.schedule=cosine?"),
        (["--config-dir", "not/there", "seed=1"], "--config-dir not/there: no such folder"),
        (["seed=", "3"], "3: expected key=value, without spaces, such as"),
        (["optim.lr==0.1"], "(did you mean optim.lr=0.1?)"),
        (["optim.lr=0,001"], "or, with a decimal point: optim.lr=0.001"),
        (["split.val=10%"], "split.val=10%: expected null or a number; 10% is 0.1"),
        (["device=cuda:0,1"], "device=cuda:0,1: a run uses one device, such as device=cuda:0"),
        (["dataset.sise=8"], "did you mean 'dataset.image_size'?"),
        (["model.widht=8"], "did you mean model.width, which belongs to model=resnet?"),
        (["model=resnet", "model.widht=8"], "did you mean 'model.width'?"),
        (["optim.momentun=1"], "did you mean optim.momentum, which belongs to optim="),
        (
            ["-m", "model=mlp,resnet", "model.width=8,16"],
            "model.width: belongs to model=resnet, not to model=mlp; expected, instead of model= "
            "and model.width=,\n  'sweep.settings=[{model: resnet, model.width: 8}, {model: "
            "resnet, model.width: 16}, {model: mlp}]'",
        ),
        (
            ["-m", "model=mlp,resnet", "model.width=int(interval(1,9))"],
            "model=mlp has model.hidden",
        ),
        (["-m", "model=mlp,resnet", "model.width=glob(*)"], "model=mlp has model.hidden"),
        (["model=resnet50"], "model=torchvision model.arch=resnet50"),
        (["dataset=./photos"], "for a folder of images: dataset=folder dataset.root=./photos"),
        (["dataset=cifar10"], "did you mean dataset=torchvision dataset.set=CIFAR10?"),
        (["dataset=fashion-mnist"], "did you mean dataset=torchvision dataset.set=FashionMNIST?"),
        (["train.augment=flip"], "did you mean augment=...?"),
        (["augment=flip"], "augment=flip: no such option (did you mean augment.flip=...?)"),
        (["+experiment=mnist_best"], "chosen without +: experiment=mnist_best"),
        (["+dataset=mnist"], "chosen without +: dataset=mnist"),
    ],
)
def test_what_is_wrong_is_refused_with_the_remedy(arguments: list[str], said: str) -> None:
    assert said in refusal(*arguments)


@pytest.mark.parametrize(
    "value",
    [
        "a(b", "a=b", "it's", "a, b", "{", "\\", "ä]", "it's \\ x", "a$b's", "d'\\'", "'`!",
        r"w(\d)_",
    ],
)  # fmt: skip
def test_the_quoting_that_is_proposed_is_right(value: str) -> None:
    try:
        overrides.parse(f"name={value}")
    except UserError as error:
        import shlex

        [typed] = shlex.split(str(error).partition("\n")[2])
        assert overrides.parse(typed).value() == value


def test_quotes_within_a_value_are_proposed_plainly() -> None:
    assert refusal("name=it's").endswith("\n  \"name='it\\'s'\"")


def test_a_folder_that_is_there_is_proposed_as_one_of_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "dataset.root" not in refusal("dataset=pictures")
    (tmp_path / "pictures").mkdir()
    assert "dataset=folder dataset.root=pictures" in refusal("dataset=pictures")


def test_information_of_hydra_needs_no_value_after_its_flag() -> None:
    assert checked(["--info", "seed=1"]) == ["--info", "all", "seed=1"]


def test_flags_may_stand_anywhere_and_keep_their_values(tmp_path: Path) -> None:
    typed = ["seed=1", "--config-dir", str(tmp_path), "optim.lr=0.1", "--cfg", "job", "--resolve"]
    result = checked(typed)
    assert result == [
        "--config-dir",
        str(tmp_path),
        "--cfg",
        "job",
        "--resolve",
        "seed=1",
        "optim.lr=0.1",
    ]


def test_a_config_folder_of_the_users_joins_ours(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "wide.yaml").write_text("defaults: [resnet, _self_]\nwidth: 64\n")
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /model: wide\n"
    )
    flag = ["--config-dir", str(tmp_path)]
    assert checked([*flag, "model=wide", "model.depth=2"])
    assert checked([*flag, "experiment=mine", "model.depth=2"])
    assert "model=resnet has model.width" in refusal(*flag, "experiment=mine", "model.filters=2")
    assert "valid here: baseline, mlp, resnet, timm, torchvision, wide" in refusal(
        *flag, "model=wid_"
    )


def test_a_forgotten_package_line_is_named_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("train: {epochs: 3}\n")
    said = refusal("--config-dir", str(tmp_path), "experiment=mine")
    assert "mine.yaml: expected '# @package _global_' as its first line" in said


TEXTS = st.text() | st.text("'\"\\${}:, a1.-/=[]\n")
PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS


@given(PLAIN | st.lists(PLAIN))
@example("${oc.env:HOME}")
@example("\\\\${x}'\\")
@example("${")
@example("null")
@example("1e3")
def test_a_value_is_read_back_as_it_was_typed(value: Any) -> None:
    read = OmegaConf.create({"x": parse(f"x={typed(value)}").value()})
    if value != "???" and not (isinstance(value, list) and "???" in value):
        assert OmegaConf.to_container(read, resolve=True) == {"x": value}
