"""One list says which formats are read, and a file of another one is refused by its name."""

import numpy as np
import pytest
from PIL import Image

from qaconv.runtime.decode import ALLOWED_FORMATS, FORMATS, DecodeError, decode_image, find_format
from tests.runtime.image_files import blobs, encode

REFUSED: dict[str, bytes] = {
    "GIF": encode(blobs(8, 8), "GIF"),
    "JPEG 2000": encode(blobs(8, 8), "JPEG2000"),
    "AVIF": encode(blobs(16, 16), "AVIF"),
    "ICO": encode(blobs(16, 16), "ICO"),
    "PPM": encode(blobs(8, 8), "PPM"),
    "PGM": encode(blobs(8, 8).convert("L"), "PPM"),
    "PDF": encode(blobs(8, 8), "PDF"),
    "HEIC": b"\0\0\0\x18ftypheic" + bytes(50),
    "JPEG XL": b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(50),
    "Photoshop": b"8BPS\0\1" + bytes(50),
}


@pytest.mark.parametrize("kind", FORMATS)
def test_each_format_of_the_list_is_decoded(kind: str) -> None:
    data = encode(blobs(30, 60), kind)
    assert find_format(data) == kind
    assert decode_image(data).shape == (60, 30, 3)


def test_each_format_has_the_media_type_that_pillow_knows() -> None:
    assert {kind: Image.MIME[kind.upper()] for kind in FORMATS} == FORMATS


@pytest.mark.parametrize("kind", REFUSED)
def test_another_format_is_refused_by_its_name(kind: str) -> None:
    with pytest.raises(DecodeError, match=f"^is a {kind} file, allowed: {ALLOWED_FORMATS}$"):
        decode_image(REFUSED[kind])


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"<html>404</html>", b"\xff\xd8", b"RIFF\0\0\0\0WAVE", b"\0\0\0\x18ftypmp42"]
)
def test_what_is_not_an_image_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError, match=f"^is not an image, allowed: {ALLOWED_FORMATS}$"):
        decode_image(data)


def test_several_frames_are_refused() -> None:
    frames = [blobs(8, 8, seed) for seed in range(3)]
    for kind in ("PNG", "WEBP", "TIFF"):
        with pytest.raises(DecodeError, match="several frames, must have one"):
            decode_image(encode(frames[0], kind, save_all=True, append_images=frames[1:]))


def test_the_first_image_of_a_phones_jpeg_is_read() -> None:
    frames = [blobs(8, 8, seed) for seed in range(2)]
    data = encode(frames[0], "MPO", save_all=True, append_images=frames[1:])
    assert np.array_equal(decode_image(data), decode_image(encode(frames[0], "JPEG")))
