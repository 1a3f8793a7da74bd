"""The argument parser of the commands."""

import argparse
from pathlib import Path
from typing import NoReturn

from tinylab.errors import UserError
from tinylab.system.project import default_outputs


class Parser(argparse.ArgumentParser):
    """Report errors as elsewhere in tinylab: one line, exit code 1."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog}: {message}")

    def add_outputs(self) -> None:
        """Add ``--outputs``, the folder with runs and sweeps."""
        self.add_argument(
            "--outputs",
            type=Path,
            default=default_outputs(),
            metavar="FOLDER",
            help="folder with runs and sweeps (default: the project's, or outputs)",
        )
