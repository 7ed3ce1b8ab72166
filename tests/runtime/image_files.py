"""Small image files, by Pillow and byte by byte."""

import struct
import zlib
from collections.abc import Mapping, Sequence
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

PNG_START = b"\x89PNG\r\n\x1a\n"
ASCII, SHORT, LONG = 2, 3, 4  # types of TIFF


def blobs(width: int, height: int, seed: int = 0) -> Image.Image:
    """Draw blobs of colour: noise would compress to the same size at any quality."""
    colours = np.random.default_rng(seed).integers(0, 256, (height // 4 + 2, width // 4 + 2, 3), dtype=np.uint8)
    return Image.fromarray(colours).resize((width, height), Image.Resampling.BICUBIC)


def encode(picture: Image.Image, kind: str, **options: object) -> bytes:
    data = BytesIO()
    picture.save(data, kind, **options)
    return data.getvalue()


def by_pillow(data: bytes) -> NDArray[np.uint8]:
    with Image.open(BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB"))


def exif(orientation: int, order: str = "<") -> bytes:
    """EXIF data of one tag, the orientation."""
    start = b"II*\0" if order == "<" else b"MM\0*"
    value = struct.pack(order + "HxxHI", orientation, 0, 0)[:4]
    return start + struct.pack(order + "IHHHI", 8, 1, 274, SHORT, 1) + value + bytes(4)


def chunk(kind: bytes, payload: bytes) -> bytes:
    """A chunk of PNG."""
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def png(
    size: tuple[int, int],
    depth: int,
    colour_type: int,
    rows: Sequence[bytes],
    *chunks: bytes,
    coded: bytes | None = None,
) -> bytes:
    """A PNG of rows without filters; `coded` replaces their compressed form, and `chunks` come before it."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, depth, colour_type, 0, 0, 0))
    coded = zlib.compress(b"".join(b"\0" + row for row in rows)) if coded is None else coded
    return PNG_START + head + b"".join(chunks) + chunk(b"IDAT", coded) + chunk(b"IEND", b"")


def tiff(tags: Mapping[int, int | Sequence[int]], strips: Sequence[bytes], order: str = "<") -> bytes:
    """A TIFF of one page. Values are of type LONG; strips' offsets and sizes are added where `tags` has none."""
    strips_at = 8
    offsets = [strips_at + sum(map(len, strips[:index])) for index in range(len(strips))]
    all_tags = {273: offsets, 279: [len(strip) for strip in strips], **tags}
    body = b"".join(strips)
    directory_at = strips_at + len(body)
    more_at = directory_at + 2 + 12 * len(all_tags) + 4
    directory = struct.pack(order + "H", len(all_tags))
    more = b""
    for tag, value in sorted(all_tags.items()):
        values = [value] if isinstance(value, int) else list(value)
        packed = struct.pack(f"{order}{len(values)}I", *values)
        if len(values) > 1:
            pointer = struct.pack(order + "I", more_at + len(more))
            more += packed
            packed = pointer
        directory += struct.pack(order + "HHI", tag, LONG, len(values)) + packed
    start = b"II*\0" if order == "<" else b"MM\0*"
    return start + struct.pack(order + "I", directory_at) + body + directory + bytes(4) + more
