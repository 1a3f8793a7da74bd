"""The real command in processes that can be killed, started in milliseconds."""

import contextlib
import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

TINYLAB = (
    "tinylab.cli", "tinylab.commands.train_job", "tinylab.experiment.run", "tinylab.training.loop",
    "matplotlib.backends.backend_agg", "torch.utils.tensorboard.writer",
)  # fmt: skip
# What tinylab imports for a training, without tinylab: for a source that changes between commands.
LIBRARIES = ("cv2", "hydra.compose", "matplotlib.figure", "rich.live", "sklearn.datasets", "torch")


class Server:
    """The other end of fork_server.py, with ``modules`` imported once for all commands."""

    def __init__(
        self, modules: tuple[str, ...] = TINYLAB, env: dict[str, str] | None = None
    ) -> None:
        program = [sys.executable, str(Path(__file__).with_name("fork_server.py")), *modules]
        self.process = subprocess.Popen(
            program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
        )

    def start(self, cwd: Path, arguments: list[str], max_file_bytes: int | None = None) -> int:
        """Start ``tinylab arguments`` in ``cwd``; returns its process id."""
        [pid] = self._start(cwd, arguments, max_file_bytes, copies=1)
        return pid

    def wait(self) -> int:
        """Its exit code, or minus the signal that killed it."""
        [code] = self._answer("ended")
        return code

    def run(self, cwd: Path, arguments: list[str], max_file_bytes: int | None = None) -> int:
        self.start(cwd, arguments, max_file_bytes)
        return self.wait()

    def run_at_once(self, cwd: Path, arguments: list[str], copies: int) -> list[int]:
        """Run the same command in so many processes at once; returns their exit codes."""
        self._start(cwd, arguments, None, copies)
        return self._answer("ended")

    def stop_after(self, cwd: Path, arguments: list[str], seconds: float, signum: int) -> int:
        """Start, wait, send a signal to the whole group; returns how it ended."""
        assert self.process.stdout is not None
        pid = self.start(cwd, arguments)
        ended, _, _ = select.select([self.process.stdout], [], [], seconds)
        if not ended:
            with contextlib.suppress(ProcessLookupError):  # it has ended in between
                os.killpg(pid, signum)
        return self.wait()

    def _start(
        self, cwd: Path, arguments: list[str], max_file_bytes: int | None, copies: int
    ) -> list[int]:
        assert self.process.stdin is not None
        request = {
            "arguments": arguments, "cwd": str(cwd), "max_file_bytes": max_file_bytes,
            "copies": copies,
        }  # fmt: skip
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self._answer("started")

    def _answer(self, word: str) -> list[int]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().split()
        assert line[0] == word, line
        return [int(number) for number in line[1:]]

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


@contextlib.contextmanager
def typed(folder: Path) -> Iterator[dict[str, str]]:
    """The environment of a shell in which ``tinylab`` starts in milliseconds.

    ``python`` is that of the tests. ``folder`` gets the program and its socket.
    """
    program, address = folder / "tinylab", folder / "socket"
    client = Path(__file__).with_name("typed_tinylab.py")
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -ESs "{client}" "$@"\n')
    program.chmod(0o755)
    server = Path(__file__).with_name("fork_server.py")
    command = [sys.executable, str(server), f"--socket={address}", *TINYLAB]
    folders = os.pathsep.join([str(folder), str(Path(sys.executable).parent), os.environ["PATH"]])
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"
        yield {**os.environ, "PATH": folders, "TYPED_TINYLAB": str(address)}
        process.kill()
