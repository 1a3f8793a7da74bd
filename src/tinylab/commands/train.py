"""``tinylab train``: one run, or with ``-m`` a sweep."""

from pathlib import Path

from tinylab.commands.train_help import help_text
from tinylab.config.options import without_code
from tinylab.errors import UserError


def main(arguments: list[str]) -> None:
    """Run the command. Raises UserError for what the user can mend."""
    if "--help" in arguments or "-h" in arguments:
        without_code(arguments)
        print(help_text())
        return
    # Hydra, half of the time of a short answer: not for --help.
    from tinylab.commands.train_job import job
    from tinylab.config.compose import replay, run_hydra

    if "--from" in arguments:
        place = arguments.index("--from")
        if place + 1 == len(arguments):
            raise UserError("--from: expected the folder of a run after it")
        from tinylab.store.folder import RunFolder

        files = RunFolder(Path(arguments[place + 1]))
        overrides = arguments[:place] + arguments[place + 2 :]
        arguments = replay(files.path, files.config(), overrides)
    run_hydra(job, arguments)
