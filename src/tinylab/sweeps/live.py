"""``sweep.report=live``: rewrite the sweep's page whenever a job ends."""

import contextlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from tinylab import reporting
from tinylab.config.schema import Config
from tinylab.store.sweep import SweepFolder
from tinylab.ui.console import say


@contextlib.contextmanager
def report(folder: SweepFolder, config: Config) -> Iterator[None]:
    """Inside the block, keep the page up to date if the config asks for it.

    In a process of its own: a page of many runs takes seconds, during which no job would be served.
    """
    if config.sweep.report != "live":
        yield
        return
    say(f"report  {folder.report_file}, written when the first job ends, and again as others do")
    watching = multiprocessing.get_context("spawn").Process(target=_watch, args=[folder.path])
    watching.start()
    try:
        yield
    finally:
        watching.terminate()
        watching.join()


def _watch(path: Path) -> None:
    """The child: rewrite the page until the sweep has ended, is stopped or was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C: the parent stops it, as the jobs
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # removes a file that is half written
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (a page never disturbs a sweep)
    parent = multiprocessing.parent_process()
    sweep = SweepFolder(path)
    for seconds in reporting.updates(sweep, sweep.report_file):
        if parent is not None:
            parent.join(seconds)
            if not parent.is_alive():
                return
