"""A file whose pixels are incomplete or wrong is refused, and one whose faults change no pixel is accepted."""

import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from qaconv.runtime.decode import DecodeError, decode_image
from qaconv.runtime.formats import jpeg
from tests.runtime.image_files import blobs, chunk, encode, png, tiff

PICTURE = blobs(64, 128)
JPEGS: dict[str, bytes] = {
    "4:2:0": encode(PICTURE, "JPEG"),
    "4:4:4": encode(PICTURE, "JPEG", subsampling=0),
    "4:2:2": encode(PICTURE, "JPEG", subsampling=1),
    "grey": encode(PICTURE.convert("L"), "JPEG"),
    "CMYK": encode(PICTURE.convert("CMYK"), "JPEG"),
    "progressive": encode(PICTURE, "JPEG", progressive=True),
    "restart markers": encode(PICTURE, "JPEG", restart_marker_rows=1),
}
BASELINE = [name for name in JPEGS if name != "progressive"]
END = b"\xff\xd9"


def scan_start(data: bytes) -> int:
    return jpeg.read_head(data).segments[-1][2]


def inside_scan(data: bytes, share: float) -> int:
    """A position in the first scan of a baseline JPEG, not behind a 0xFF."""
    start = scan_start(data)
    position = start + int(share * (len(data) - start))
    return position + 1 if data[position - 1] == 0xFF else position


def edit(data: bytes, position: int, replacement: bytes) -> bytes:
    return data[:position] + replacement + data[position + len(replacement) :]


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("name", BASELINE)
def test_zeros_over_a_part_of_the_scan_are_refused(name: str, share: float) -> None:
    data = JPEGS[name]
    with pytest.raises(DecodeError, match="cannot be decoded as JPEG: "):
        decode_image(edit(data, inside_scan(data, share), bytes(64)))


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("name", JPEGS)
def test_an_early_end_marker_is_refused(name: str, share: float) -> None:
    data = JPEGS[name]
    position = inside_scan(data, share)
    for early in (data[:position] + END, data[:position] + END + data[position:]):
        with pytest.raises(DecodeError, match="cannot be decoded as JPEG: "):
            decode_image(early)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("name", JPEGS)
def test_a_truncated_jpeg_is_refused(name: str, kept: float) -> None:
    data = JPEGS[name]
    for part in (data[: int(kept * len(data))], data[:-1], data[:-2]):
        with pytest.raises(DecodeError, match="cannot be decoded as JPEG: "):
            decode_image(part)


def test_a_progressive_jpeg_without_its_last_scans_is_refused() -> None:
    data = JPEGS["progressive"]
    scans = [start - 4 for marker, start, _ in jpeg.list_segments(data) if marker == jpeg.SOS]
    assert len(scans) > 5
    for position in scans[1:]:
        with pytest.raises(DecodeError, match="ends before its last scan"):
            decode_image(data[:position] + END)


@pytest.mark.parametrize("name", ["4:2:0", "grey"])
def test_a_quantization_table_of_zeros_is_refused(name: str) -> None:
    data = JPEGS[name]
    table = data.index(b"\xff\xdb") + 5
    with pytest.raises(DecodeError, match="a quantization table has a zero"):
        decode_image(edit(data, table + 20, bytes(40)))


@pytest.mark.parametrize("name", ["4:2:0", "grey", "progressive"])
def test_a_huffman_table_of_zeros_is_refused(name: str) -> None:
    data = JPEGS[name]
    table = data.index(b"\xff\xc4") + 5
    for position, count in ((table, 16), (table + 18, 9), (table + 16, 64)):
        with pytest.raises(DecodeError, match="cannot be decoded as JPEG: "):
            decode_image(edit(data, position, bytes(count)))


def test_a_swapped_restart_marker_is_refused() -> None:
    data = JPEGS["restart markers"]
    with pytest.raises(DecodeError, match="cannot be decoded as JPEG: "):
        decode_image(edit(data, data.index(b"\xff\xd1"), b"\xff\xd5"))


def test_a_jpeg_of_two_frames_is_refused() -> None:
    data = JPEGS["4:2:0"]
    start = data.index(b"\xff\xc0")
    frame = data[start : start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")]
    with pytest.raises(DecodeError, match="several frames, must have one"):
        decode_image(data[:start] + frame + data[start:])


def test_a_jpeg_of_unusual_sampling_is_refused_as_its_damage_would_not_be_noticed() -> None:
    data = JPEGS["4:4:4"]
    frame = data.index(b"\xff\xc0")
    with pytest.raises(DecodeError, match="unusual chroma sampling"):
        decode_image(edit(data, frame + 11, b"\x31"))


HARMLESS: dict[str, Callable[[bytes], bytes]] = {
    "text after the end": lambda data: data + b"SEFT" * 50,
    "zeros after the end": lambda data: data + bytes(500),
    "a second image": lambda data: data + data,
    "fill bytes before the end": lambda data: data[:-2] + b"\xff" * 40 + data[-2:],
    "zeros before the end": lambda data: data[:-2] + bytes(40) + data[-2:],
    "fill bytes between segments": lambda data: data[:20] + b"\xff" * 5 + data[20:],
    "stray bytes between segments": lambda data: data[:20] + b"\0\1\2" + data[20:],
    "an unknown revision of JFIF": lambda data: data.replace(b"JFIF\0\1", b"JFIF\0\7"),
    "a comment": lambda data: data[:20] + b"\xff\xfe\0\x06word" + data[20:],
    "an unknown segment": lambda data: data[:20] + b"\xff\xef\0\x06word" + data[20:],
}


@pytest.mark.parametrize("fault", HARMLESS)
@pytest.mark.parametrize("name", [name for name in JPEGS if name != "CMYK"])  # Pillow writes no JFIF segment into it
def test_a_fault_that_changes_no_pixel_is_accepted(name: str, fault: str) -> None:
    faulty = HARMLESS[fault](JPEGS[name])
    assert faulty != JPEGS[name]
    assert np.array_equal(decode_image(faulty), decode_image(JPEGS[name]))


@pytest.mark.parametrize(
    "fault", ["zeros before the end", "stray bytes between segments", "an unknown revision of JFIF"]
)
def test_a_harmless_fault_does_not_hide_damage(fault: str) -> None:
    data = JPEGS["4:2:0"]
    position = inside_scan(data, 0.5)
    with pytest.raises(DecodeError, match="cannot be decoded as JPEG: "):
        decode_image(HARMLESS[fault](data[:position] + END))


def test_an_unknown_colour_transform_is_taken_for_ycbcr() -> None:
    data = JPEGS["4:2:0"]
    plain = data[:2] + data[20:]
    adobe = b"\xff\xee\x00\x0eAdobe\x00\x64\0\0\0\0\x09"
    assert np.array_equal(decode_image(plain[:2] + adobe + plain[2:]), decode_image(data))


def test_a_sequential_scan_may_state_no_spectrum() -> None:
    data = JPEGS["4:2:0"]
    assert np.array_equal(decode_image(edit(data, scan_start(data) - 3, b"\0\0\0")), decode_image(data))


@pytest.mark.parametrize("options", [{}, {"optimize": True}, {"progressive": True}])
def test_a_flat_jpeg_is_accepted_although_its_scan_is_zeros(options: dict[str, object]) -> None:
    data = encode(Image.new("RGB", (400, 400), (128, 128, 128)), "JPEG", **options)
    assert (decode_image(data) == 128).all()
    if options.get("optimize"):
        assert bytes(64) in data[scan_start(data) :]


PNG = encode(PICTURE, "PNG")
GREY_ROWS = [bytes([row] * 4) for row in range(8)]
CODED = zlib.compress(b"".join(b"\0" + row for row in GREY_ROWS))
GREY_PNG = png((4, 8), 8, 0, GREY_ROWS)
DAMAGED_PNGS: dict[str, bytes] = {
    "half": PNG[: len(PNG) // 2],
    "no end": PNG[:-12],
    "part of the end": PNG[:-1],
    "zeros in the pixels": edit(PNG, len(PNG) // 2, bytes(64)),
    "a wrong checksum of the pixels": edit(PNG, len(PNG) - 16, b"abcd"),
    "a wrong checksum of the head": edit(PNG, 29, b"abcd"),
    "a wrong checksum of other data": PNG[:33] + chunk(b"tEXt", b"a\0b")[:-1] + b"x" + PNG[33:],
    "rows missing": png((4, 8), 8, 0, GREY_ROWS[:3]),
    "one byte missing": png((4, 8), 8, 0, [*GREY_ROWS[:-1], b"\7\7\7"]),
    "pixels with a wrong checksum": png((4, 8), 8, 0, [], coded=CODED[:-4] + b"abcd"),
    "no pixels": GREY_PNG[:33] + chunk(b"IEND", b""),
    "no head": GREY_PNG[:8] + GREY_PNG[33:],
    "an unknown filter": png((4, 8), 8, 0, [], coded=zlib.compress(b"\x09\1\1\1\1" * 8)),
    "a colour outside its palette": png((2, 1), 8, 3, [b"\0\5"], chunk(b"PLTE", b"\1\2\3\4\5\6")),
    "no palette": png((2, 1), 8, 3, [b"\0\1"]),
}


@pytest.mark.parametrize("name", DAMAGED_PNGS)
def test_a_damaged_png_is_refused(name: str) -> None:
    with pytest.raises(DecodeError, match="cannot be decoded as PNG: "):
        decode_image(DAMAGED_PNGS[name])


def test_a_black_png_is_whole_if_its_rows_are_there() -> None:
    rows = [bytes(4)] * 8
    assert not decode_image(png((4, 8), 8, 0, rows)).any()
    with pytest.raises(DecodeError, match="fewer or more pixels"):
        decode_image(png((4, 8), 8, 0, rows[:-1]))


def test_a_png_may_have_bytes_after_its_end() -> None:
    assert np.array_equal(decode_image(PNG + bytes(100)), np.asarray(PICTURE))


def test_an_interlaced_png_is_decoded_and_its_missing_rows_are_noticed() -> None:
    """The seven passes of Adam7 over 5 x 5 pixels of grey, made by hand."""
    values = np.arange(25, dtype=np.uint8).reshape(5, 5)
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    parts = [values[top::step_y, left::step_x] for left, top, step_x, step_y in passes]
    rows = [b"\0" + row.tobytes() for part in parts for row in part if row.size]
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 5, 5, 8, 0, 0, 0, 1))
    for kept, is_whole in ((rows, True), (rows[:-1], False)):
        data = PNG[:8] + head + chunk(b"IDAT", zlib.compress(b"".join(kept))) + chunk(b"IEND", b"")
        if is_whole:
            assert np.array_equal(decode_image(data)[..., 0], values)
        else:
            with pytest.raises(DecodeError, match="fewer or more pixels"):
                decode_image(data)


OTHERS: dict[str, bytes] = {
    "BMP": encode(PICTURE, "BMP"),
    "grey BMP": encode(PICTURE.convert("L"), "BMP"),
    "WebP": encode(PICTURE, "WEBP"),
    "lossless WebP": encode(PICTURE, "WEBP", lossless=True),
    "WebP with alpha": encode(PICTURE.convert("RGBA"), "WEBP", exif=Image.Exif()),
    "TIFF": encode(PICTURE, "TIFF"),
    "LZW": encode(PICTURE, "TIFF", compression="tiff_lzw"),
    "deflate": encode(PICTURE, "TIFF", compression="tiff_adobe_deflate"),
    "PackBits": encode(PICTURE, "TIFF", compression="packbits"),
}


@pytest.mark.parametrize("lost", [1, 2, 20, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("name", OTHERS)
def test_a_truncated_file_of_another_format_is_refused(name: str, lost: float) -> None:
    data = OTHERS[name]
    assert decode_image(data).shape == (128, 64, 3)
    size = int(lost) if lost >= 1 else int(lost * len(data))
    with pytest.raises(DecodeError):
        decode_image(data[: len(data) - size])


def test_a_webp_that_was_cut_and_whose_length_was_corrected_is_refused() -> None:
    for name in ("WebP", "lossless WebP"):
        cut = OTHERS[name][: len(OTHERS[name]) // 2 & ~1]
        lengths = struct.pack("<I", len(cut) - 8) + cut[8:16] + struct.pack("<I", len(cut) - 20)
        with pytest.raises(DecodeError, match="cannot be decoded as WebP: "):
            decode_image(cut[:4] + lengths + cut[20:])


def test_a_bmp_with_run_length_coding_is_refused() -> None:
    head = struct.pack("<IiiHHIIiiII", 40, 4, 2, 1, 8, 1, 4, 0, 0, 2, 0)
    data = b"BM" + struct.pack("<IHHI", 70, 0, 0, 62) + head + b"\1\1\1\0\2\2\2\0" + b"\4\1\0\1"
    with pytest.raises(DecodeError, match="run-length coding"):
        decode_image(data)


TAGS = {256: 4, 257: 4, 258: 8, 259: 1, 262: 1, 277: 1, 278: 2}
STRIPS = [bytes([1] * 8), bytes([2] * 8)]


def test_a_tiff_with_all_strips_is_decoded() -> None:
    assert decode_image(tiff(TAGS, STRIPS))[:, 0, 0].tolist() == [1, 1, 2, 2]
    assert decode_image(tiff({**TAGS, 278: 2**32 - 1}, [STRIPS[0] + STRIPS[1]]))[:, 0, 0].tolist() == [1, 1, 2, 2]


def packed(strip: bytes) -> bytes:
    """A strip compressed by deflate, TIFF's compression 8."""
    return zlib.compress(strip)


DEFLATED = {**TAGS, 259: 8}
DAMAGED_TIFFS: dict[str, bytes] = {
    "a strip missing": tiff(TAGS, STRIPS[:1]),
    "a strip without a place": tiff({**TAGS, 273: [8, 0]}, STRIPS),
    "a strip outside the file": tiff({**TAGS, 273: [8, 10_000]}, STRIPS),
    "a strip of no bytes": tiff({**TAGS, 279: [8, 0]}, STRIPS),
    "a compressed strip missing": tiff(DEFLATED, [packed(STRIPS[0])]),
    "a compressed strip of no bytes": tiff({**DEFLATED, 279: [16, 0]}, [packed(STRIPS[0]), packed(STRIPS[1])]),
    "a compressed strip cut": tiff(DEFLATED, [packed(STRIPS[0]), packed(STRIPS[1])[:4]]),
    "a compressed strip of fewer rows": tiff(DEFLATED, [packed(STRIPS[0]), packed(STRIPS[1][:4])]),
    "no strips": tiff({**TAGS, 273: 0, 279: 0}, []),
    "huge tiles": tiff({**DEFLATED, 322: 2**20, 323: 2**20, 324: 8, 325: 8, 273: 0}, [packed(STRIPS[0])]),
    "JPEG inside": encode(PICTURE, "TIFF", compression="jpeg"),
    "fax inside": encode(PICTURE.convert("1"), "TIFF", compression="group4"),
}


@pytest.mark.parametrize("name", DAMAGED_TIFFS)
def test_a_tiff_whose_missing_or_damaged_pixels_would_be_black_is_refused(name: str) -> None:
    with pytest.raises(DecodeError, match="cannot be decoded as TIFF: "):
        decode_image(DAMAGED_TIFFS[name])
