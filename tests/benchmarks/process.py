"""Runs programs, and measures them from outside: time, peak memory, the moment of an event.

Linux counts a child's peak memory from its parent's: who imports this must import nothing large.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

POLL_SECONDS = 0.005
# Set where a machine keeps Python from caching what it compiles, as images of containers do; then
# every start compiles all modules, torch's thousands too, and this measures Python's compiler.
UNCACHED = "PYTHONDONTWRITEBYTECODE"
BYTES = 1 if sys.platform == "darwin" else 1024  # the unit of ru_maxrss


@dataclass(frozen=True)
class Ended:
    """A program that ran to its end.

    seconds: from its start to its end. peak_mb: resident memory in 10^6 bytes, of the largest
    process where it has children. output: standard output.
    """

    seconds: float
    peak_mb: float
    output: str


def run(command: Sequence[str], status: int = 0, **environment: str) -> Ended:
    """Run to the end. Raises RuntimeError, with what was said, where the exit status is another."""
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=errors, env=_with(environment))
        _, ended, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(ended)
        output.seek(0)
        errors.seek(0)
        said = output.read()
        if process.returncode != status:
            raise RuntimeError(f"{' '.join(command)}: {said[-2000:]}{errors.read()[-2000:]}")
    return Ended(seconds, usage.ru_maxrss * BYTES / 1e6, said)


@contextlib.contextmanager
def running(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """In the block another program runs, and is then killed."""
    process = subprocess.Popen(command)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def seconds_until(
    command: Sequence[str], happened: Callable[[str], bool], **environment: str
) -> float:
    """From the start until ``happened``, which is given what was said so far; then kill it.

    Raises RuntimeError where the program ends before.
    """
    with tempfile.NamedTemporaryFile("w+") as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=_with(environment)
        )
        try:
            while process.poll() is None:
                if happened(Path(output.name).read_text(errors="replace")):
                    return time.perf_counter() - started
                time.sleep(POLL_SECONDS)
        finally:
            process.kill()
            process.wait()
        said = Path(output.name).read_text(errors="replace")
    raise RuntimeError(f"{' '.join(command)}: ended too early: {said[-2000:]}")


def _with(environment: dict[str, str]) -> dict[str, str]:
    """This process's environment and more, as it is on a user's machine."""
    inherited = {name: value for name, value in os.environ.items() if name != UNCACHED}
    return {**inherited, **environment}
