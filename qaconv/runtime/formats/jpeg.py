"""Decode JPEG files with libjpeg-turbo, and reject those whose pixels are incomplete or wrong (ITU-T T.81).

libjpeg decodes a damaged file and warns. Each warning is an error here, except those that no pixel depends on.
A segment is a marker, two bytes of length, and a payload. It is given as its marker and the payload's start and end.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

START = b"\xff\xd8\xff"
END = b"\xff\xd9"
SOF_SEQUENTIAL = (0xC0, 0xC1, 0xC9)
SOF_PROGRESSIVE = (0xC2, 0xCA)
DHT, EOI, SOS, DQT, APP0, APP1, APP14 = 0xC4, 0xD9, 0xDA, 0xDB, 0xE0, 0xE1, 0xEE
# Stuffed bytes, TEM, RST and SOI start no segment, and 0xFF fills.
MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
NO_SEGMENT = frozenset((0x00, 0x01, *range(0xD0, 0xD9), 0xFF))
MOST_SCANS = 32  # of a progressive JPEG, which has about ten; each is a walk over all pixels
MOST_STRAY_BYTES = 16  # between two segments; more may be a segment that was overwritten
ZERO_RUN = bytes(32)  # a block of 63 coefficients of -1 has 24, which is the most without an end-of-block code
UNKNOWN_SAMPLING = "Could not determine subsampling"  # libjpeg-turbo's message

Segment = tuple[int, int, int]


@dataclass(frozen=True)
class JpegHead:
    """A JPEG file up to its first scan.

    Attributes:
        height: rows as stored.
        width: columns as stored.
        is_progressive: whether scans refine coefficients.
        components: the components' ids.
        exif: EXIF data, empty if there is none.
        segments: segments up to the first scan's header, which is the last.
    """

    height: int
    width: int
    is_progressive: bool
    components: bytes
    exif: bytes
    segments: list[Segment]


def read_head(data: bytes) -> JpegHead:
    """Read a file's head without decoding pixels.

    Raises:
        ValueError: the head has no scan, several frames, or none that is baseline, extended or progressive.
    """
    segments = list_segments(data, first=SOS)
    if not segments or segments[-1][0] != SOS:
        raise ValueError("no scan")
    exif = b""
    frames = []
    for marker, start, end in segments:
        if marker == APP1 and not exif and data.startswith(b"Exif\0\0", start):
            exif = data[start:end]
        elif marker in SOF_SEQUENTIAL or marker in SOF_PROGRESSIVE:
            frames.append((marker, start, end))
    if not frames:
        raise ValueError("not baseline, extended or progressive")
    if len(frames) > 1:
        raise ValueError("several frames, must have one")
    marker, start, end = frames[0]
    return JpegHead(
        height=data[start + 1] << 8 | data[start + 2],
        width=data[start + 3] << 8 | data[start + 4],
        is_progressive=marker in SOF_PROGRESSIVE,
        components=data[start + 6 : end : 3],
        exif=exif,
        segments=segments,
    )


def decode(data: bytes, head: JpegHead) -> NDArray[np.uint8]:
    """Decode a file to RGB [H, W, 3] as stored.

    Raises:
        ValueError: the file is damaged, ends early, has more than `MOST_SCANS` scans, or has a chroma sampling that
            libjpeg-turbo's interface does not know.
    """
    _check_tables(data, head)
    _check_scans(data, head)
    try:
        return _decode_strictly(data, head)
    except ValueError as error:
        if UNKNOWN_SAMPLING in str(error):
            raise ValueError("unusual chroma sampling; save it as 4:4:4 or 4:2:0") from error
        tidied = _without_harmless_faults(data, head)
        if tidied == data:
            raise
        try:
            return _decode_strictly(tidied, head)
        except ValueError:
            raise error from None  # the fault of the file itself


def list_segments(data: bytes, first: int = EOI) -> list[Segment]:
    """List the segments up to the first one of a marker. Entropy-coded data and stray bytes lie between segments.

    Args:
        data: a JPEG file.
        first: marker of the last segment to list. Default: all up to the end of the image.
    """
    segments = []
    position = 2
    last = len(data) - 4
    marker = 0
    while marker != first and position <= last:
        marker = data[position + 1]
        if data[position] != 0xFF or marker in NO_SEGMENT:
            match = MARKER.search(data, position + 1)
            position = match.start() if match else len(data)
            marker = 0
        elif marker != EOI:
            end = position + 2 + (data[position + 2] << 8 | data[position + 3])
            segments.append((marker, position + 4, end))
            position = end
        else:
            break
    return segments


def _decode_strictly(data: bytes, head: JpegHead) -> NDArray[np.uint8]:
    if len(head.components) != 4:
        rgb: NDArray[np.uint8] = simplejpeg.decode_jpeg(data)
        return rgb
    inverted = simplejpeg.decode_jpeg(data, "CMYK")  # as Adobe's programs write it, and as Pillow reads all
    return np.asarray(Image.fromarray(255 - inverted, "CMYK").convert("RGB"))


def _check_tables(data: bytes, head: JpegHead) -> None:
    for marker, start, end in head.segments:
        if marker == DHT:
            _check_huffman_tables(data[start:end])
        elif marker == DQT:
            _check_quantization_tables(data[start:end])


@lru_cache  # most files share a few tables
def _check_huffman_tables(payload: bytes) -> None:
    """Check that the symbols of a segment's tables are not overwritten with zeros, which libjpeg accepts."""
    start = 17
    while start < len(payload):
        end = start + sum(payload[start - 16 : start])
        if payload.count(0, start, end) > 1:
            raise ValueError("a Huffman table has a symbol twice")
        start = end + 17


@lru_cache
def _check_quantization_tables(payload: bytes) -> None:
    """Check that no 8-bit entry of a segment's tables is 0, which libjpeg accepts."""
    start = 0
    while start < len(payload):
        is_16_bit = payload[start] > 15
        end = start + (129 if is_16_bit else 65)
        if not is_16_bit and payload.find(0, start + 1, end) >= 0:
            raise ValueError("a quantization table has a zero")
        start = end


def _check_scans(data: bytes, head: JpegHead) -> None:
    """Check that every coefficient is sent in full, and that the scan is not overwritten with zeros.

    Raises:
        ValueError: one of the two is not so, or there are too many scans.
    """
    _, start, end = head.segments[-1]
    if not head.is_progressive and data[start] == len(head.components):
        if data.find(ZERO_RUN, end) >= 0:
            _check_zero_run(data, head)
        return
    scans = [segment for segment in list_segments(data) if segment[0] == SOS]
    if len(scans) > MOST_SCANS:
        raise ValueError(f"{len(scans):,} scans, must have at most {MOST_SCANS}")
    missing_bits = {component: [16] * 64 for component in head.components}  # of each coefficient; 16 if never sent
    for _, start, end in scans:
        first, last, bits = data[end - 3 : end] if head.is_progressive else (0, 63, 0)
        for component in data[start + 1 : end - 3 : 2]:
            if component in missing_bits and first <= last < 64:
                missing_bits[component][first : last + 1] = [bits & 15] * (last + 1 - first)
    if any(map(any, missing_bits.values())):
        raise ValueError("ends before its last scan")


def _check_zero_run(data: bytes, head: JpegHead) -> None:
    """Check that a run of zeros in the only scan can be flat blocks, whose end-of-block code is the table's first.

    Zeros over a part of a scan often decode without a warning, as the codes fall into step again.
    """
    _, start, end = head.segments[-1]
    scan_end = MARKER.search(data, end)
    coded = data[end : scan_end.start() if scan_end else len(data)].rstrip(b"\0")
    if ZERO_RUN not in coded:
        return
    first_symbols = _first_symbols(data, head)
    if any(first_symbols.get(0x10 | selector & 15) for selector in data[start + 2 : end - 3 : 2]):
        raise ValueError("a part of the scan is overwritten with zeros")


def _first_symbols(data: bytes, head: JpegHead) -> dict[int, int]:
    """Return the symbol whose Huffman code is all zeros, by table: four bits of class and four of number."""
    first_symbols = {}
    for marker, start, end in head.segments:
        while marker == DHT and start + 17 < end:
            first_symbols[data[start]] = data[start + 17]
            start += 17 + sum(data[start + 1 : start + 17])
    return first_symbols


def _without_harmless_faults(data: bytes, head: JpegHead) -> bytes:
    """Copy a file without the faults that libjpeg warns of although no pixel depends on them.

    These are stray bytes between two segments, zeros between a scan and the next marker, an unknown revision of JFIF,
    an unknown colour transform (which libjpeg takes for YCbCr or YCCK), and a sequential scan whose spectrum is not
    0..63.
    """
    parts = [data[:2]]
    previous_end = 2
    is_in_scan = False
    for marker, start, end in list_segments(data):
        parts.append(_tidy_gap(data[previous_end : start - 4], is_in_scan))
        payload = bytearray(data[start:end])
        if marker == APP0 and payload.startswith(b"JFIF\0") and len(payload) > 5:
            payload[5] = 1
        elif marker == APP14 and payload.startswith(b"Adobe") and len(payload) > 11 and payload[11] > 2:
            payload[11] = 2 if len(head.components) == 4 else 1
        elif marker == SOS and not head.is_progressive:
            payload[-3:] = (0, 63, 0)
        parts += [data[start - 4 : start], bytes(payload)]
        is_in_scan = marker == SOS
        previous_end = end
    end_marker = MARKER.search(data, previous_end)
    if end_marker is None:
        return data
    parts += [_tidy_gap(data[previous_end : end_marker.start()], is_in_scan), END]
    return b"".join(parts)


def _tidy_gap(gap: bytes, is_in_scan: bool) -> bytes:
    if is_in_scan:
        return gap[: len(gap.rstrip(b"\0")) + 1]  # libjpeg accepts one zero, which may belong to a stuffed 0xFF
    return b"" if len(gap) <= MOST_STRAY_BYTES else gap
