"""How commands read their arguments."""

import argparse
from typing import Any, NoReturn

from tinylab.errors import UserError


class Parser(argparse.ArgumentParser):
    """Errors as everywhere in tinylab: one line, exit code 1."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_argument("--flags", action=_Flags, nargs=0, help=argparse.SUPPRESS)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog}: {message}")


class _Flags(argparse.Action):
    """``--flags`` prints all flags, one a line, for completion."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        shown = [each for each in parser._actions if each.help != argparse.SUPPRESS]
        print(*(flag for each in shown for flag in each.option_strings), sep="\n")
        parser.exit()
