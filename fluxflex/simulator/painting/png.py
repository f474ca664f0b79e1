"""PNG files from rows of pixels, with nothing but zlib and struct."""

import struct
import zlib
from collections.abc import Iterable

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_RGB = 2
# Fast and small enough: the filter below has done the work that higher levels would search for.
_LEVEL = 3


def encode(width: int, height: int, rows: Iterable[bytes]) -> bytes:
    """Return the PNG of `height` rows, top first, each of `width` RGB pixels at 3 bytes."""
    size = 3 * width
    low = int.from_bytes(b"\x7f" * size)
    high = low ^ int.from_bytes(b"\xff" * size)
    packer = zlib.compressobj(_LEVEL)
    packed: list[bytes] = []
    above = 0
    for row in rows:
        here = int.from_bytes(row)
        # Each byte less the byte above it (filter "Up"), all bytes of the row at once: one big
        # integer, with the topmost bit of each byte kept from borrowing.
        change = ((here | high) - (above & low)) ^ ((here ^ ~above) & high)
        packed.append(packer.compress(b"\x02" + change.to_bytes(size)))
        above = here
    packed.append(packer.flush())
    header = struct.pack(">IIBBBBB", width, height, 8, _RGB, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", b"".join(packed)), (b"IEND", b""))
    return _SIGNATURE + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
