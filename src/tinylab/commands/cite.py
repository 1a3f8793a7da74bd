"""``tinylab cite``: BibTeX entries for tinylab, a run's dataset and the methods it used."""

import argparse
import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tinylab import __version__
from tinylab.commands.parser import Parser
from tinylab.config.compose import compose_plain
from tinylab.config.options import without_code
from tinylab.errors import UserError
from tinylab.store.collect import collect
from tinylab.store.folder import RunFolder
from tinylab.store.sweep import SweepFolder
from tinylab.ui.console import say

TINYLAB = f"""\
@software{{tinylab,
  author  = {{{{tinylab developers}}}},
  title   = {{tinylab: Reproducible Experiments on Small Images}},
  version = {{{__version__}}},
  year    = {{2026}}
}}"""
REFERENCES = Path(__file__).with_name("references.bib")
USED = object()  # any value but null, 0 and none
# Config key, its value, and the entries of REFERENCES that are then cited.
WORKS: tuple[tuple[str, object, tuple[str, ...]], ...] = (
    ("dataset.name", "digits", ("alpaydin1998digits", "pedregosa2011sklearn")),
    ("dataset.name", "mnist", ("lecun1998mnist",)),
    ("dataset.name", "scene15", ("lazebnik2006scene15", "feifei2005scene", "oliva2001scene")),
    ("dataset.set", "CIFAR10", ("krizhevsky2009cifar",)),
    ("dataset.set", "CIFAR100", ("krizhevsky2009cifar",)),
    ("dataset.set", "FashionMNIST", ("xiao2017fashion",)),
    ("dataset.set", "EMNIST", ("cohen2017emnist",)),
    ("dataset.set", "KMNIST", ("clanuwat2018kmnist",)),
    ("dataset.set", "SVHN", ("netzer2011svhn",)),
    ("model.name", "resnet", ("he2016resnet",)),
    ("model.name", "torchvision", ("torchvision2016",)),
    ("model.name", "timm", ("wightman2019timm",)),
    ("model.squeeze", USED, ("hu2018squeeze",)),
    ("model.init", "glorot", ("glorot2010init",)),
    ("model.dropout", USED, ("srivastava2014dropout",)),
    ("optim.name", "adam", ("kingma2015adam",)),
    ("optim.name", "adamw", ("loshchilov2019adamw",)),
    ("optim.name", "muon", ("jordan2024muon",)),
    ("optim.schedule", "cosine", ("loshchilov2017sgdr",)),
    ("optim.schedule", "onecycle", ("smith2018onecycle",)),
    ("augment.mixup", USED, ("zhang2018mixup",)),
    ("augment.cutmix", USED, ("yun2019cutmix",)),
    ("augment.cutout", USED, ("devries2017cutout",)),
    ("augment.elastic", USED, ("ronneberger2015unet",)),
    ("augment.no_aug_epochs", USED, ("ge2021yolox",)),
    ("train.label_smoothing", USED, ("szegedy2016inception",)),
    ("train.ema", USED, ("polyak1992averaging",)),
)


def main(arguments: list[str]) -> None:
    """Run the command. Raises UserError for anything but a run folder or a config key."""
    words = _parser().parse_args(without_code(arguments)).what
    folders = [Path(word) for word in words if "=" not in word or Path(word).is_dir()]
    overrides = [word for word in words if Path(word) not in folders]
    if folders and overrides:
        raise UserError("tinylab cite: expected run folders or config keys, not both")
    configs = [config for folder in folders for config in _configs(folder)]
    if overrides:
        configs.append(dataclasses.asdict(compose_plain(overrides)))
    say("\n\n".join([TINYLAB, *bibtex(configs)]))


def _configs(folder: Path) -> list[dict[str, Any]]:
    """Return the config of a run, or of all finished runs of a sweep. Raises UserError."""
    if SweepFolder(folder).is_sweep():
        return [run.files.config() for run in collect([folder])[0]]
    return [RunFolder(folder).config()]


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="tinylab cite",
        description="Print BibTeX entries for tinylab and for what a run or config uses.",
        epilog="""examples:
  tinylab cite                                  tinylab alone
  tinylab cite outputs/runs/RUN                 also a run's dataset and methods, or a sweep's
  tinylab cite experiment=mnist_best > refs.bib""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "what", nargs="*", metavar="RUN", help="run folders, or config keys (key=value)"
    )
    return parser


def bibtex(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the entries for these configs without repetition; a comment if the data has none."""
    known = entries()
    cited = dict.fromkeys(name for config in configs for name in _cited(config))
    unknown = dict.fromkeys(text for config in configs for text in _without_entry(config))
    return [*(known[name] for name in cited), *unknown]


def entries() -> dict[str, str]:
    """Return the entries of REFERENCES by BibTeX key."""
    texts = REFERENCES.read_text(encoding="utf-8").strip().split("\n\n")
    return {re.split(r"[{,]", text, maxsplit=2)[1]: text for text in texts}


def _cited(config: Mapping[str, Any]) -> Iterator[str]:
    for key, wanted, names in WORKS:
        value = _value(config, key)
        if value == wanted or (wanted is USED and value not in (None, 0, "none")):
            yield from names


def _without_entry(config: Mapping[str, Any]) -> Iterator[str]:
    data = {value for key, value, _ in WORKS if key.startswith("dataset.")}
    name, which = _value(config, "dataset.name"), _value(config, "dataset.set")
    if name not in data and which not in data:
        words = f"dataset={name}" + (f" dataset.set={which}" if which else "")
        yield f"% {words}: no entry available; cite the source of these images"


def _value(config: Mapping[str, Any], key: str) -> Any:
    section, _, name = key.partition(".")
    values = config.get(section)
    return values.get(name) if isinstance(values, Mapping) else None
