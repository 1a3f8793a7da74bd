"""A training step recorded as a CUDA graph, and replayed instead of launched kernel by kernel.

A small network's kernels take less time than launching them one by one; a replay is a single
launch. The memory that a recorded step reads and writes is fixed, so each batch is copied into the
buffers of the first one. The requirements for a step that can be recorded:
https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator

import torch

from tinylab.training.step import Batch
from tinylab.ui.console import say

WARM_UP = 3  # warmup steps before recording: libraries initialize, cuDNN selects its kernels


class CaptureError(Exception):
    """A step that cannot be recorded; the message says why."""


class Captured:
    """A step that is recorded when it is first taken, and replayed from then on.

    Recording takes a few steps to warm up; ``snapshot`` copies the state of training before them,
    and the function that it returns restores it. So every step, the first one too, is a replay,
    and training that goes on from a checkpoint repeats the bits of training that was not stopped.
    A batch of another form, as that of an epoch without augmentation, is recorded again. A step
    that cannot be recorded is taken as it is, and one line says so.
    """

    def __init__(
        self, step: Callable[[Batch], None], snapshot: Callable[[], Callable[[], None]]
    ) -> None:
        self._step, self._snapshot = step, snapshot
        self._buffers: Batch | None = None
        self._replay: Callable[[], None] | None = None

    def __call__(self, batch: Batch) -> None:
        """Take the step with ``batch``."""
        if self._buffers is None or self._buffers.shapes() != batch.shapes():
            self._replay = None
            self._buffers = batch.buffers()
            self._record(self._buffers)
        if self._replay is None:
            self._step(batch)
            return
        for own, new in zip(self._buffers.tensors(), batch.tensors(), strict=True):
            own.copy_(new)
        self._replay()

    def _record(self, buffers: Batch) -> None:
        restore = self._snapshot()
        try:
            self._replay = record(lambda: self._step(buffers))
        except CaptureError as error:
            say(f"cuda    no CUDA graph, kernels are launched one by one: {error}")
        restore()


def record(step: Callable[[], None]) -> Callable[[], None]:
    """Warm up, record ``step`` on the current device, and return its replay.

    Recording itself executes nothing. Dropout's generator advances with each replay as with each
    step: PyTorch passes its seed and offset to the graph. Raises CaptureError.
    """
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    try:
        with torch.cuda.stream(stream):
            step()
            _refuse_waiting(step, WARM_UP - 1)
    finally:  # a refused step, too, has launched kernels, whose work must be undone
        torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, stream=stream):
            step()
    except RuntimeError as error:
        raise CaptureError(_first_line(error)) from error
    return graph.replay


def _refuse_waiting(step: Callable[[], None], times: int) -> None:
    """Run steps in which the host must not wait for the device.

    Recording would fail too, but leave PyTorch's allocator in an inconsistent state.
    """
    try:
        with no_waiting():
            for _ in range(times):
                step()
    except RuntimeError as error:
        if "synchronizing CUDA operation" not in str(error):
            raise  # it fails with or without recording
        raise CaptureError("part of the step waits for the device") from error


@contextlib.contextmanager
def no_waiting() -> Iterator[None]:
    """Raise RuntimeError if the host would wait for the device inside the block."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Synchronization debug mode is a prototype")
        before = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode(before)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
