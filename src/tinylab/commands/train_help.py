"""The text of ``tinylab train --help``."""

from tinylab.config.groups import choices, groups
from tinylab.config.option import FOLDERS, Option
from tinylab.config.options import options
from tinylab.config.values import shown

EXAMPLES = """\
  tinylab train                                    digits, in seconds, offline
  tinylab train dataset=mnist                      MNIST
  tinylab train dataset=scene15 model=resnet augment=scenes optim=sgd train.epochs=40
  tinylab train dataset=folder dataset.root=photos dataset.image_size=64
  tinylab train model.hidden=256 optim.lr=0.003 train.batch_size=64
  tinylab train experiment=mnist_baseline          a pinned experiment
  tinylab train -m optim.lr=0.1,0.01,0.001         a sweep: one run per value
  tinylab train -m seed=range(5) model=baseline,mlp
  tinylab train -m sweep=seeds model=mlp           a predefined sweep
  tinylab train -m sweep.search=tpe sweep.trials=20 'optim.lr=tag(log,interval(1e-4,1e-1))'
  tinylab train --from outputs/runs/RUN seed=1     repeat a run's config with changes
  tinylab train code=tiny.py model=tiny            your own model, decorated by @tinylab.model
  tinylab train device=cuda train.precision=bfloat16
  tinylab train --cfg job                          show the config without training"""


def help_text() -> str:
    """Return usage, config groups and examples."""
    listed = "\n".join(f"  {group}={'|'.join(choices(group))}" for group in groups())
    return f"""\
tinylab train [key=value ...]       train one config, or resume it where it stopped
tinylab train -m key=a,b,c ...      a sweep: one run per combination

Config groups (choose one of each):
{listed}
{_own()}
Frequently used keys:
  seed=0 split.seed=0 split.val=0.1 train.epochs=10 train.batch_size=32 optim.lr=0.001
  device=auto|cpu|cuda|mps outputs=outputs fresh=true

Examples:
{EXAMPLES}

A run is saved in outputs/runs/<dataset>-<model>-<id>. The id is a hash of the config: the same
command finds its run again, resumes it if it was stopped, and returns at once if it is finished.
All flags of Hydra work too: tinylab train --hydra-help."""


def _own() -> str:
    """Return the options of the user's own files with their keys and defaults, and metrics."""
    lines = [
        f"  {group}={name}  {' '.join(_keys(group, option))}\n      {option.about}".rstrip()
        for group in FOLDERS
        for name, option in options(group).items()
        if not option.is_builtin
    ]
    lines += [
        f"  train.monitor={name}  sweep.metric=val_{name}\n      {option.about}".rstrip()
        for name, option in options("metric").items()
    ]
    return "\n".join(["\nYour own:", *lines, ""]) if lines else ""


def _keys(group: str, option: Option) -> list[str]:
    more = [f"+{group}.KEY=VALUE"] if option.declaration.takes_further else []
    return [f"{group}.{key.name}={shown(key.default)}" for key in option.declaration.keys] + more
