"""Images that do not fit on the device: kept in main memory and copied a chunk ahead.

A chunk is a few consecutive batches in the order of use. While the device works on one, the next is
gathered into pinned memory and copied on a separate stream.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

CHUNK_BYTES = 64 << 20  # two are on the device at a time


def stream(
    stored: Tensor,
    rows: Tensor,
    bounds: list[tuple[int, int]],
    device: torch.device,
) -> Iterator[Tensor]:
    """Yield the batches ``stored[rows[start:end]]`` on ``device``; each is valid until the next.

    stored: on the CPU, contiguous, images along its first dimension. rows: int64, on the CPU.
    bounds: (start, end) of the consecutive batches.
    """
    chunks = _chunks(bounds, CHUNK_BYTES // stored[0].nbytes)
    side = None
    if device.type == "cuda":
        side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    most = max((chunk[-1][1] - chunk[0][0] for chunk in chunks), default=0)
    slots = [_Slot(stored, most, side) for _ in range(2)]
    for number, chunk in enumerate(chunks):
        slot, first = slots[number % 2], chunk[0][0]
        if number == 0:
            slot.fill(stored, rows[first : chunk[-1][1]])
        images = slot.images()
        for start, end in chunk:
            yield images[start - first : end - first]
        slot.release()
        if number + 1 < len(chunks):  # the device has the whole chunk to work on meanwhile
            following = chunks[number + 1]
            slots[1 - number % 2].fill(stored, rows[following[0][0] : following[-1][1]])


def _chunks(bounds: list[tuple[int, int]], most: int) -> list[list[tuple[int, int]]]:
    """Group consecutive batches into chunks of at most ``most`` images, or one larger batch."""
    chunks: list[list[tuple[int, int]]] = []
    for start, end in bounds:
        if chunks and end - chunks[-1][0][0] <= most:
            chunks[-1].append((start, end))
        else:
            chunks.append([(start, end)])
    return chunks


class _Slot:
    """Buffers for a chunk: pinned in main memory, and on the device; one on the CPU."""

    def __init__(self, stored: Tensor, most: int, side: torch.cuda.Stream | None) -> None:
        shape = (most, *stored.shape[1:])
        self._host = torch.empty(shape, dtype=stored.dtype, pin_memory=side is not None)
        self._images, self._side = self._host, side
        if side is not None:
            self._images = torch.empty(shape, dtype=stored.dtype, device=side.device)
            self._images.record_stream(side)
            self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._released = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._released.record()  # earlier uses of this memory have ended

    def fill(self, stored: Tensor, rows: Tensor) -> None:
        """Gather ``stored[rows]`` and start copying it, as soon as the slot is free."""
        host, images = self._host[: len(rows)], self._images[: len(rows)]
        if self._side is None:
            torch.index_select(stored, 0, rows, out=host)
            return
        self._copied.synchronize()  # the previous chunk has left the pinned memory
        torch.index_select(stored, 0, rows, out=host)
        with torch.cuda.stream(self._side):
            self._side.wait_event(self._released)
            images.copy_(host, non_blocking=True)
            self._copied.record()

    def images(self) -> Tensor:
        """Return the last filled chunk, for the current stream, which waits for it."""
        if self._side is not None:
            torch.cuda.current_stream().wait_event(self._copied)
        return self._images

    def release(self) -> None:
        """Mark that only what was queued on the current stream so far needs the chunk."""
        if self._side is not None:
            self._released.record()
