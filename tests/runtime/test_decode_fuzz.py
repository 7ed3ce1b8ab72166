"""Whatever bytes a file has, decoding gives upright RGB or the one error, in bounded time and memory."""

import struct
import subprocess
import sys
import warnings
from pathlib import Path
from time import process_time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qaconv.runtime.decode import LARGEST_PIXELS, LONGEST_SIDE, DecodeError, decode_image
from tests.runtime.image_files import blobs, encode, exif, png, tiff

PICTURE = blobs(24, 16)
GREY_TIFF = {256: 4, 257: 4, 258: 8, 259: 1, 262: 1, 277: 1, 278: 2}
SEEDS = [
    encode(PICTURE, "JPEG", exif=b"Exif\0\0" + exif(6)),
    encode(PICTURE, "JPEG", progressive=True),
    encode(PICTURE.convert("CMYK"), "JPEG"),
    encode(PICTURE, "PNG", exif=exif(6)),
    encode(PICTURE.convert("P"), "PNG", transparency=3),
    encode(PICTURE, "BMP"),
    encode(PICTURE.convert("P"), "BMP"),
    encode(PICTURE, "WEBP"),
    encode(PICTURE.convert("RGBA"), "WEBP", lossless=True, exif=exif(6)),
    encode(PICTURE, "TIFF"),
    encode(PICTURE, "TIFF", compression="tiff_lzw"),
    encode(PICTURE.convert("P"), "TIFF", compression="tiff_adobe_deflate"),
    tiff(GREY_TIFF, [bytes(8), bytes(8)]),
    tiff({**GREY_TIFF, 258: [16, 2**32 - 1]}, [bytes(16), bytes(16)]),
]
BYTES = st.one_of(
    st.binary(min_size=1, max_size=8), st.sampled_from([b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff", bytes(64)])
)
MUTATION = st.tuples(st.sampled_from(["replace", "insert", "delete", "cut"]), st.floats(0, 1), BYTES)


def mutate(data: bytes, kind: str, share: float, piece: bytes) -> bytes:
    position = int(share * len(data))
    if kind == "cut":
        return data[:position]
    kept = position if kind == "insert" else position + len(piece)
    return data[:position] + (b"" if kind == "delete" else piece) + data[kept:]


@pytest.mark.fuzz
@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(SEEDS), st.lists(MUTATION, min_size=1, max_size=4))
def test_a_mutated_file_is_decoded_or_refused(data: bytes, mutations: list[tuple[str, float, bytes]]) -> None:
    for kind, share, piece in mutations:
        data = mutate(data, kind, share, piece)
    started = process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of damaged TIFF tags
        try:
            pixels = decode_image(data)
        except DecodeError as error:
            assert "<" not in str(error) and "\n" not in str(error)
        else:
            assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3
            assert pixels.shape[0] * pixels.shape[1] <= LARGEST_PIXELS and max(pixels.shape) <= LONGEST_SIDE
    assert process_time() - started < 2


def test_the_memory_of_a_huge_image_is_not_reserved(tmp_path: Path) -> None:
    """The peak of a process of its own: the decoders' memory is not Python's."""
    for name, data in huge_images().items():
        (tmp_path / name).write_bytes(data)
    command = [sys.executable, "-c", MEASURE, *sorted(map(str, tmp_path.iterdir()))]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert output.count("must have at most") == len(huge_images()) == 5
    assert int(output.split()[-1]) < 20_000  # of KB; the pixels would take 800 MB and more


MEASURE = """
import resource, sys
from pathlib import Path
from qaconv.runtime.decode import DecodeError, decode_image

files = [Path(name).read_bytes() for name in sys.argv[1:]]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for data in files:
    try:
        decode_image(data)
    except DecodeError as error:
        print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def huge_images() -> dict[str, bytes]:
    """Small files whose heads state 16,383 x 16,383 pixels, the most of WebP."""
    side = 16_383
    jpeg = encode(PICTURE, "JPEG")
    frame = jpeg.index(b"\xff\xc0") + 5
    webp = encode(PICTURE, "WEBP", lossless=True)
    bmp = encode(PICTURE, "BMP")
    return {
        "jpeg": jpeg[:frame] + struct.pack(">HH", side, side) + jpeg[frame + 4 :],
        "png": png((side, side), 8, 2, [bytes(1000)]),
        "bmp": bmp[:18] + struct.pack("<ii", side, side) + bmp[26:],
        "webp": webp[:21] + struct.pack("<I", (side - 1) | (side - 1) << 14) + webp[25:],
        "tiff": tiff({**GREY_TIFF, 256: side, 257: side, 278: side}, [bytes(8)]),
    }
