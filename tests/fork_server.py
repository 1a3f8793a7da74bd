"""A process with the modules of its command line imported, that forks a child for every request.

So a test can start, kill and restart the real command dozens of times without paying seconds of
imports for each. The parent runs no torch kernel, so the children start as a fresh process would.

Reads one JSON request a line: {"arguments": [...], "cwd": ..., "max_file_bytes": null,
"copies": 1}.
Answers "started PID" and, when the child has ended, "ended STATUS" (negative: killed by that
signal); with more copies, that many children run at once and each has its number in both lines.
"""

import importlib
import json
import os
import resource
import sys


def serve() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        children = [fork(request) for _ in range(request["copies"])]
        print("started", *children, flush=True)
        statuses = [os.waitpid(pid, 0)[1] for pid in children]
        print("ended", *map(os.waitstatus_to_exitcode, statuses), flush=True)


def fork(request: dict) -> int:
    pid = os.fork()
    if pid == 0:
        run(request)
    return pid


def run(request: dict) -> None:
    """The child: becomes a process group of its own, with its output in screen.log."""
    os.setsid()
    os.chdir(request["cwd"])
    screen = os.open("screen.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(screen, 1)
    os.dup2(screen, 2)
    if request["max_file_bytes"] is not None:
        limit = request["max_file_bytes"]
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    from tinylab import cli  # the source of the moment, unless the parent has it

    os._exit(cli.run(request["arguments"]))


if __name__ == "__main__":
    for name in sys.argv[1:]:
        importlib.import_module(name)
    serve()
