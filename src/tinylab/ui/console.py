"""Output for people: lines on the screen and in the run's log, and progress bars."""

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_log = logging.getLogger("tinylab")
_log.setLevel(logging.INFO)
_log.propagate = False


class _ScreenHandler(logging.Handler):
    """Writes to the current sys.stdout, so that a live display or a test can replace it.

    ``fault``: why a line was lost, unless the reader of the output has gone.
    """

    fault: OSError | None = None

    def emit(self, record: logging.LogRecord) -> None:
        # A closed reader (`tinylab train | head`), a full disk under `> log`, or a closed stream (a
        # ValueError) must not stop the training.
        try:
            # A file name may not be encodable for the terminal.
            encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
            line = self.format(record).encode(encoding, "backslashreplace").decode(encoding)
            print(line, flush=True)
        except OSError as error:
            self.fault = self.fault if isinstance(error, BrokenPipeError) else error
        except ValueError:
            pass


_screen = _ScreenHandler()
_log.addHandler(_screen)


def say(line: str) -> None:
    """Show a line on the screen, and in the run's log if one is open."""
    _log.info("%s", line)


def printable(name: str) -> str:
    """Escape control characters and undecodable bytes: ``\\n``, ``\\x1b``, ``\\udcff``."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in name
    )


def counted(number: int, noun: str) -> str:
    """As in ``1 job`` and ``2 jobs``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def in_bytes(count: int) -> str:
    """As in ``1.2 MB``."""
    from rich.filesize import decimal

    return decimal(count)


@contextlib.contextmanager
def log_to(path: Path) -> Iterator[Callable[[str], None]]:
    """Copy all output to ``path`` inside the block.

    Yields a function that writes a text to that log only. If the log cannot be written, it is
    skipped.
    """
    handler = _file_handler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    # A full disk must not stop training for a line of the log.
    handler.handleError = lambda record: None  # type: ignore[method-assign]
    _log.addHandler(handler)

    def write(text: str) -> None:
        handler.emit(logging.LogRecord("tinylab", logging.INFO, "", 0, text, None, None))

    try:
        yield write
    finally:
        _log.removeHandler(handler)
        with contextlib.suppress(OSError):
            handler.close()


def _file_handler(path: Path) -> logging.Handler:
    try:
        return logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    except OSError:
        return logging.NullHandler()


# Set where a notebook's cell, such as ``!tinylab train``, shows the output: by Jupyter's server, by
# Colab, by Kaggle. They run commands in a pseudo terminal, but show each redrawn bar as new lines.
# VS Code starts its kernels itself and sets VSCODE_PID in some of them alone (not under WSL and
# not on remote hosts), but every kernel names its own backend to matplotlib
# (ipykernel.kernelapp.init_gui_pylab), and no terminal does, that of VS Code neither.
NOTEBOOKS = ("JPY_PARENT_PID", "COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE")
KERNELS_BACKEND = "backend_inline"


def is_terminal() -> bool:
    """Return whether the screen supports a live display: not a notebook or plain-text terminal."""
    wants_plain = os.environ.get("TERM") == "dumb" or os.environ.get("NO_COLOR")
    in_kernel = os.environ.get("MPLBACKEND", "").endswith(KERNELS_BACKEND)
    is_notebook = in_kernel or any(name in os.environ for name in NOTEBOOKS)
    try:
        return sys.stdout.isatty() and not wants_plain and not is_notebook
    except (AttributeError, ValueError):  # None, or closed
        return False


@contextlib.contextmanager
def said_if_slow(words: str, seconds: float = 2.0) -> Iterator[None]:
    """Show a line on a terminal if the block takes longer than ``seconds``."""
    if not is_terminal():
        yield
        return
    timer = threading.Timer(seconds, say, [words])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def drop_unwritten() -> OSError | None:
    """At the end of a process, keep Python from raising for what the streams could not write.

    Returns why standard output is incomplete, unless its reader has gone.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return _screen.fault


def track(items: Iterable[T], what: str, total: int) -> Iterator[T]:
    """Yield ``items`` under a progress bar; without a terminal, print a single line instead."""
    if not is_terminal():
        say(f"{what}: {total:,} ...")
        yield from items
        return
    from rich.progress import track as rich_track  # 0.3 s, only if it is shown

    yield from rich_track(items, description=what, total=total, transient=True)
