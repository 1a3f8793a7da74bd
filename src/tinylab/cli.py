"""The command line: dispatches commands and maps every outcome to an exit code."""

import contextlib
import importlib
import os
import shlex
import sys
from collections.abc import Sequence

from tinylab import __version__
from tinylab.commands import COMMANDS
from tinylab.config.values import did_you_mean
from tinylab.errors import Stopped, UserError
from tinylab.system.machine import forget_garbage, relaxed_gc, tuned
from tinylab.ui.console import drop_unwritten, say

EXAMPLES = """\
  tinylab train                                train on digits: offline, in seconds
  tinylab train -m dataset=mnist seed=0,1,2    a sweep; see tinylab train --help"""


def main() -> None:
    """Entry point of the console command."""
    # Whoever started us closed it. The next file opened would get its descriptor, and our output.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    with relaxed_gc():  # also for what ``run`` leaves behind, but not at its own end
        status = run(sys.argv[1:])
        forget_garbage()
    sys.exit(_with_streams_closed(status))


def _with_streams_closed(status: int) -> int:
    """Return the exit code: a lost answer is an error, lost progress output is not."""
    fault = drop_unwritten()
    if fault is None:
        return status
    with contextlib.suppress(OSError):
        print(f"tinylab: standard output: {fault.strerror}", file=sys.stderr, flush=True)
    return status if sys.argv[1:2] == ["train"] else status or 1


def run(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit code.

    0: success. 1: an error that the user can fix, shown without a traceback. 128 + N: stopped by
    signal N, with the state saved.
    """
    try:
        with tuned():
            return _dispatch(list(arguments))
    except UserError as error:
        print(f"tinylab: {error}", file=sys.stderr)
        return 1
    except Stopped as stop:
        return 128 + stop.signum
    except KeyboardInterrupt:
        print("\ntinylab: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone
        return 1


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        say(help_text())
        return 0
    if arguments[0] == "--version":
        say(f"tinylab {__version__}")
        return 0
    name = arguments[0]
    if name not in COMMANDS:
        raise UserError(_unknown(name, arguments))
    importlib.import_module(f"tinylab.commands.{name}").main(arguments[1:])
    return 0


def _unknown(name: str, arguments: list[str]) -> str:
    if "=" in name or name in ("-m", "--multirun"):
        return f"{name}: expected a command first: tinylab train {shlex.join(arguments)}"
    known = list(COMMANDS)
    return f"{name}: no such command{did_you_mean(name, known)}; available: {', '.join(known)}"


def help_text() -> str:
    """Return the output of ``tinylab`` without a command."""
    listed = "\n".join(f"  {name:10} {what}" for name, what in COMMANDS.items())
    return f"""\
tinylab {__version__}: a laboratory for small-image experiments

usage: tinylab COMMAND ...

{listed}

Examples:
{EXAMPLES}"""
