"""The argument parser of the commands."""

import argparse
from typing import NoReturn

from tinylab.errors import UserError


class Parser(argparse.ArgumentParser):
    """Report errors as elsewhere in tinylab: one line, exit code 1."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog}: {message}")
