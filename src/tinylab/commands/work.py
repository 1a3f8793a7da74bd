"""``tinylab work``: join a shared sweep as a worker."""

import argparse
import os
from pathlib import Path

from tinylab.commands.parser import Parser
from tinylab.errors import UserError
from tinylab.store.sweep import SweepFolder

OWN_KEYS = ("jobs", "device", "threads")  # keys that each machine may set

EXAMPLES = """\
The sweep was started with: tinylab train -m ... sweep.workers=N

  tinylab work outputs/sweeps/SWEEP
  srun tinylab work outputs/sweeps/SWEEP jobs=4     four runs at once per task"""


def main(arguments: list[str]) -> None:
    """Run the command. Raises UserError if the folder has no study to work on."""
    parser = Parser(
        prog="tinylab work",
        description="Run trials of a shared sweep until it is finished.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "sweep", type=Path, help="folder of the sweep, such as outputs/sweeps/SWEEP"
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help=", ".join(OWN_KEYS))
    options = parser.parse_args(arguments)
    for override in options.overrides:
        if override.partition("=")[0] not in OWN_KEYS:
            raise UserError(f"{override}: expected one of {', '.join(OWN_KEYS)}, as in jobs=2")
    typed = _as_begun(options.sweep.absolute())
    from tinylab.commands.train_job import job
    from tinylab.config.compose import run_hydra

    run_hydra(job, [*typed, "sweep.workers=0", *options.overrides])


def _as_begun(path: Path) -> list[str]:
    """Return the arguments that started the study, which are relative to its folder."""
    state, arguments = SweepFolder(path).state() or {}, SweepFolder(path).arguments()
    shared = state.get("shared")
    if not isinstance(shared, dict) or arguments is None:
        raise UserError(
            f"{path}: expected the folder of a sweep that workers share\n"
            "  begin one with tinylab train -m ... sweep.workers=N"
        )
    started_in = Path(str(shared["started_in"]))
    if not started_in.is_dir():
        raise UserError(
            f"{path}: the sweep was started in {started_in}, which does not exist on this machine\n"
            "  expected the shared disk at the same path on every machine"
        )
    os.chdir(started_in)
    flags = [word for each in shared["config_folders"] for word in ("--config-dir", str(each))]
    own = ("hydra", "+hydra", "name=", "sweep.workers=", *(f"{key}=" for key in OWN_KEYS[:1]))
    kept = [each for each in arguments if not each.startswith(own)]
    return ["-m", *flags, *kept, f"name={path.name}"]
