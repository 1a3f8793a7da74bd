"""``sweep.report=live``: the page of a sweep is written anew as its jobs end."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator

from tinylab.config.schema import Config
from tinylab.store.sweep import SweepFolder
from tinylab.ui.console import say


@contextlib.contextmanager
def report(folder: SweepFolder, config: Config) -> Iterator[None]:
    """In the block, have ``tinylab report --watch`` write the page where the config asks for it.

    A process of its own: a page of many runs takes seconds, in which no job would be answered.
    """
    if config.sweep.report != "live":
        yield
        return
    say(f"report  {folder.report_file}, rewritten as jobs end")
    command = [sys.executable, "-m", "tinylab", "report", str(folder.path), "--watch"]
    nowhere = subprocess.DEVNULL
    watching = subprocess.Popen(command, stdin=nowhere, stdout=nowhere, stderr=nowhere)
    try:
        yield
    finally:
        watching.terminate()  # it writes the page whole or not at all
        watching.wait()
