"""``tinylab train``: train a run, or a sweep with ``-m``."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tinylab.commands.train_help import help_text
from tinylab.config.options import use
from tinylab.errors import UserError
from tinylab.system.machine import cores
from tinylab.ui.console import say

if TYPE_CHECKING:
    from tinylab.store.folder import RunFolder


def main(arguments: list[str]) -> None:
    """Run the command. Raises UserError for errors that the user can fix."""
    if "--help" in arguments or "-h" in arguments:
        use(arguments)
        say(help_text())
        return
    # Hydra takes half of the time of a short answer; --help does not need it.
    from tinylab.commands.train_job import job
    from tinylab.config.compose import replay, run_hydra

    if "--from" in arguments:
        index = arguments.index("--from")
        if index + 1 == len(arguments):
            raise UserError("--from: expected the folder of a run after it")
        from tinylab.store.folder import RunFolder

        files = RunFolder(Path(arguments[index + 1]))
        overrides = arguments[:index] + arguments[index + 2 :]
        arguments = replay(files.path, files.config(), overrides, _threads(files, overrides))
        _say_edited(files, overrides)
    run_hydra(job, arguments)


def _threads(files: "RunFolder", overrides: Sequence[str]) -> int | None:
    """Return a run's number of CPU threads, limited to the cores here (None: the default)."""
    if any(override.lstrip("+").startswith("threads=") for override in overrides):
        return None
    threads = files.threads()
    if threads is not None and threads > cores():
        say(
            f"{files.name} was trained with {threads} threads, but this machine has {cores()} "
            "cores: results will not be bit-identical"
        )
        return cores()
    return threads


def _say_edited(files: "RunFolder", overrides: Sequence[str]) -> None:
    """Warn if the user's own code differs from the code that the run was trained with."""
    from tinylab.config import code

    given = {override.partition("=")[0] for override in overrides}
    saved = {name: value for name, value in files.config().items() if name not in given}
    if edited := files.edited_since(code.own_of(saved)):
        say(
            f"{' or '.join(file.name for file in edited)} has changed since {files.name}: this "
            f"trains a new run with the current code; the run's copy is in {files.code_folder}"
        )
