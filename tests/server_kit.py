"""The real command in processes that can be killed, started in milliseconds."""

import contextlib
import json
import os
import select
import subprocess
import sys
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
        assert self.process.stdin is not None
        request = {"arguments": arguments, "cwd": str(cwd), "max_file_bytes": max_file_bytes}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return int(self._answer("started"))

    def wait(self) -> int:
        """Its exit code, or minus the signal that killed it."""
        return int(self._answer("ended"))

    def run(self, cwd: Path, arguments: list[str], max_file_bytes: int | None = None) -> int:
        self.start(cwd, arguments, max_file_bytes)
        return self.wait()

    def stop_after(self, cwd: Path, arguments: list[str], seconds: float, signum: int) -> int:
        """Start, wait, send a signal to the whole group; returns how it ended."""
        assert self.process.stdout is not None
        pid = self.start(cwd, arguments)
        ended, _, _ = select.select([self.process.stdout], [], [], seconds)
        if not ended:
            with contextlib.suppress(ProcessLookupError):  # it has ended in between
                os.killpg(pid, signum)
        return self.wait()

    def _answer(self, word: str) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().split()
        assert line[0] == word, line
        return line[1]

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
