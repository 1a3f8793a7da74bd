"""``sweep.report=live``: rewrite the sweep's page whenever a job ends."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator

from tinylab.config.schema import Config
from tinylab.store.sweep import SweepFolder
from tinylab.ui.console import say


@contextlib.contextmanager
def report(folder: SweepFolder, config: Config) -> Iterator[None]:
    """Inside the block, run ``tinylab report --watch`` if the config asks for it.

    It is a separate process: a page of many runs takes seconds, during which no job would be
    served.
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
        watching.terminate()  # it writes the page atomically
        watching.wait()
