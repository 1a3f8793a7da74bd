"""What no test may do, and what a quick one may not: seen where Python itself reports it.

An audit hook hears of every connection and every process that is begun in this one, by whatever
library. It cannot be taken away again, so it is set once and asks which test is running.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

# Processor time of the main thread; others may spin on sixteen cores while they wait. A quick test
# takes half a second at most, but in a new environment one of them compiles Numba's kernels, which
# took 7.4 s with Numba 0.61.
QUICK_SECONDS = 15.0
HERE = {"127.0.0.1", "::1", "localhost", "", None}
TORCHVISION = "torchvision.ops"  # a part that the real one imports, and no imitation in a test has
PROXY_PORT = 9  # the port of "discard", where nobody listens
NO_NETWORK = {
    "http_proxy": f"http://127.0.0.1:{PROXY_PORT}",
    "https_proxy": f"http://127.0.0.1:{PROXY_PORT}",
    "no_proxy": "127.0.0.1,localhost",
}  # for processes that tests start: no audit hook is in them
STARTS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec", "os.system"}
FREE = {"fc-list", "ldconfig", "lscpu", "uname"}  # fonts, importing torch, questions on the machine


@dataclass
class Watched:
    """The test that runs now, or nothing between tests."""

    quick: bool = False
    running: bool = False
    seen: list[str] = field(default_factory=list)


_now = Watched()


def install() -> None:
    sys.addaudithook(_hear)


@contextmanager
def watching(item: pytest.Item) -> Iterator[None]:
    """Fail the test for what it does within, even where it swallows the exception."""
    _now.quick, _now.running, _now.seen = "quick" in item.keywords, True, []
    before, had = time.thread_time(), TORCHVISION in sys.modules
    try:
        yield
    finally:
        _now.running = False
    seconds = time.thread_time() - before
    if _now.quick and seconds > QUICK_SECONDS:
        _now.seen.append(_costly(f"took {seconds:.1f} s of the processor"))
    if _now.quick and TORCHVISION in sys.modules and not had:
        _now.seen.append(_costly("imported torchvision"))
    if _now.seen:
        pytest.fail(_now.seen[0])


def forgive() -> None:
    """For the tests of the guard: what was seen so far does not count."""
    _now.running, _now.seen = True, []


def _hear(event: str, args: tuple[Any, ...], now: Watched = _now) -> None:
    if not now.running:  # asked of what is bound: at Python's end the globals of a module are gone
        return
    fault = _network(event, args) or _process(event, args)
    if fault:
        now.seen.append(fault)
        pytest.fail(fault)


def _network(event: str, args: tuple[Any, ...]) -> str:
    if event == "socket.getaddrinfo":
        outside = args[0] not in HERE
    elif event == "socket.connect" and isinstance(args[1], tuple):
        outside = args[1][0] not in HERE or args[1][1] == PROXY_PORT
    else:
        return ""
    return f"a test needs the network: {event} {args[-1]}" if outside else ""


def _process(event: str, args: tuple[Any, ...]) -> str:
    if not _now.quick or event not in STARTS or (args and Path(str(args[0])).name in FREE):
        return ""
    words = args[1] if event == "subprocess.Popen" else args[:1]
    return _costly(f"started a process: {words}")


def _costly(what: str) -> str:
    return f"a quick test {what}\n  mark it as costly, or what it uses: see tests/conftest.py"
