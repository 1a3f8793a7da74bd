"""Small PNG files (W3C PNG specification, third edition, sections 5 and 11), as data addresses."""

import base64
import struct
import zlib

import numpy as np
from numpy.typing import NDArray


def data_address(image: NDArray[np.uint8]) -> str:
    """An image, uint8 (C, H, W) with C 1 (gray) or 3 (red, green, blue), as a data: address."""
    return "data:image/png;base64," + base64.b64encode(encode(image)).decode()


def encode(image: NDArray[np.uint8]) -> bytes:
    """An image, uint8 (C, H, W) with C 1 or 3, as the bytes of a PNG file."""
    C, H, W = image.shape
    rows = image.transpose(1, 2, 0).reshape(H, W * C)
    unfiltered = np.pad(rows, ((0, 0), (1, 0)))  # each row begins with the number of its filter
    header = struct.pack(">IIBBBBB", W, H, 8, {1: 0, 3: 2}[C], 0, 0, 0)
    body = zlib.compress(unfiltered.tobytes(), 9)
    chunks = ((b"IHDR", header), (b"IDAT", body), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
