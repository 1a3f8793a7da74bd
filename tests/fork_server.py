"""A process with the modules of its command line imported, that forks a child for every request.

So a test can start, kill and restart the real command dozens of times without paying seconds of
imports for each. The parent runs no torch kernel, so the children start as a fresh process would.

Reads one JSON request a line: {"arguments": [...], "cwd": ..., "max_file_bytes": null,
"copies": 1}. Answers "started PID" and, when the child has ended, "ended STATUS" (negative: killed
by that signal); with more copies, that many children run at once and each has its number in both
lines.

With --socket=PATH it answers typed_tinylab.py instead, any number at a time: each sends its three
streams with {"arguments": [...], "cwd": ..., "environment": {...}} and gets the exit code.
"""

import importlib
import json
import os
import resource
import socket
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


def listen(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(16)
        print("listening", flush=True)
        while True:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                answer(connection)
            connection.close()
            while reaped():
                pass


def reaped() -> bool:
    """Whether a child had ended."""
    try:
        return os.waitpid(-1, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return False


def answer(connection: socket.socket) -> None:
    """The child: the command as if it were typed there."""
    sent, streams, _, _ = socket.recv_fds(connection, 1 << 20, 3)
    request = json.loads(sent)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["cwd"])
    from tinylab import cli

    code = cli.run(request["arguments"])
    sys.stdout.flush()
    sys.stderr.flush()
    connection.sendall(str(code).encode())
    os._exit(code)


if __name__ == "__main__":
    names = sys.argv[1:]
    address = names.pop(0).removeprefix("--socket=") if names[0].startswith("--socket=") else None
    for name in names:
        importlib.import_module(name)
    if address is None:
        serve()
    else:
        listen(address)
