"""Pack a copy of Market-1501 into one small file, and unpack it: `python -m benchmarks.gpu.pack FOLDER FILE`.

A crop of 128 x 64 pixels is a small file, and a quarter of it is the JPEG's header. Here many crops share one
progressive JPEG. Its blocks are aligned to the crops' blocks, so that no crop bleeds into another. At quality 75, which
Market-1501 was written with, the same coefficients are stored again, nearly without loss.
"""

import argparse
import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from io import BytesIO
from multiprocessing.pool import ThreadPool
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from qaconv.data.layouts.market1501 import FOLDERS
from qaconv.files import replacing_file

HEIGHT, WIDTH = 128, 64  # of a crop; multiples of 16, the side of a JPEG block with subsampled colours
ROWS, COLUMNS = 32, 32  # of crops in a mosaic
LEAST_QUALITY, BEST_QUALITY = 40, 75
NAMES = "names.json"
NAMES_BYTES = 400_000  # upper limit for the list of names and the archive's directory

Pixels = NDArray[np.uint8]


def pack(folder: Path, file: Path, most_bytes: float) -> str:
    """Write all crops except junk at the best quality that fits, and return a summary in words.

    Args:
        folder: Market-1501's folder.
        file: file to write.
        most_bytes: largest size of the file.

    Raises:
        ValueError: a crop is not 128 x 64 pixels, or no quality fits.
    """
    mosaics = list(_mosaics(folder))
    names = [names for names, _ in mosaics]
    quality = BEST_QUALITY
    coded: list[bytes] = []
    low, high = LEAST_QUALITY, BEST_QUALITY
    while low <= high:
        trial = _encode_all([pixels for _, pixels in mosaics], quality)
        if sum(map(len, trial)) <= most_bytes - NAMES_BYTES:
            coded, best, low = trial, quality, quality + 1
        else:
            high = quality - 1
        quality = (low + high + 1) // 2
    if not coded:
        raise ValueError(f"{folder}: needs more than {most_bytes / 1e6:.1f} MB at quality {LEAST_QUALITY}")
    with replacing_file(file) as partial_file, ZipFile(partial_file, "w", ZIP_STORED) as archive:
        archive.writestr(NAMES, json.dumps(names), ZIP_DEFLATED)
        for number, data in enumerate(coded):
            archive.writestr(f"{number:03d}.jpg", data)
    ratio = _psnr([pixels for _, pixels in mosaics], coded)
    count = sum(map(len, names))
    return f"{count:,} crops at quality {best}: {file.stat().st_size / 1e6:.1f} MB, PSNR {ratio:.1f} dB"


def unpack(file: Path, folder: Path) -> str:
    """Write the crops as single JPEGs under their names, and return their number in words."""
    with ZipFile(file) as archive:
        names: list[list[str]] = json.loads(archive.read(NAMES))
        coded = [archive.read(f"{number:03d}.jpg") for number in range(len(names))]
    for name in FOLDERS.values():
        folder.joinpath(name).mkdir(parents=True, exist_ok=True)
    with ThreadPool(os.cpu_count()) as pool:
        pool.starmap(_write_crops, [(folder, *pair) for pair in zip(names, coded, strict=True)])
    return f"{sum(map(len, names)):,} crops in {folder}"


def _mosaics(folder: Path) -> Iterator[tuple[list[str], Pixels]]:
    """Yield the names below the folder and the pixels of each mosaic. Every crop is in one."""
    for name in FOLDERS.values():
        paths = [path for path in sorted(folder.joinpath(name).glob("*.jpg")) if not path.name.startswith("-1_")]
        for crops in _batches(paths, ROWS * COLUMNS):
            rows = -(-len(crops) // COLUMNS)
            mosaic = np.full((rows * HEIGHT, COLUMNS * WIDTH, 3), 128, dtype=np.uint8)
            for number, path in enumerate(crops):
                with Image.open(path) as picture:
                    if picture.size != (WIDTH, HEIGHT):
                        raise ValueError(f"{path}: must be {(WIDTH, HEIGHT)} pixels, got {picture.size}")
                    mosaic[_place(number)] = np.asarray(picture.convert("RGB"))
            yield [f"{name}/{path.name}" for path in crops], mosaic


def _place(number: int) -> tuple[slice, slice]:
    row, column = divmod(number, COLUMNS)
    return slice(row * HEIGHT, (row + 1) * HEIGHT), slice(column * WIDTH, (column + 1) * WIDTH)


def _encode_all(mosaics: Sequence[Pixels], quality: int) -> list[bytes]:
    with ThreadPool(os.cpu_count()) as pool:
        return pool.map(partial(_encode, quality=quality), mosaics)


def _encode(pixels: Pixels, quality: int) -> bytes:
    coded = BytesIO()
    Image.fromarray(pixels).save(coded, "JPEG", quality=quality, subsampling="4:2:0", optimize=True, progressive=True)
    return coded.getvalue()


def _decode(data: bytes) -> Pixels:
    with Image.open(BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB"))


def _write_crops(folder: Path, names: Sequence[str], data: bytes) -> None:
    """Write crops with the mosaic's quantisation tables, which keeps its coefficients nearly without loss."""
    with Image.open(BytesIO(data)) as picture:
        pixels, tables = np.asarray(picture.convert("RGB")), picture.quantization  # type: ignore[attr-defined]
    for number, name in enumerate(names):
        crop = Image.fromarray(np.ascontiguousarray(pixels[_place(number)]))
        crop.save(folder / name, "JPEG", qtables=tables, subsampling="4:2:0")


def _psnr(mosaics: Sequence[Pixels], coded: Sequence[bytes]) -> float:
    """Return the peak signal-to-noise ratio of all pixels, in decibels."""
    errors = pixels = 0.0
    for mosaic, data in zip(mosaics, coded, strict=True):
        errors += float(np.square(mosaic.astype(np.float32) - _decode(data)).sum(dtype=np.float64))
        pixels += mosaic.size
    return math.inf if errors == 0 else 10 * math.log10(255**2 * pixels / errors)


def _batches(paths: Sequence[Path], size: int) -> Iterator[Sequence[Path]]:
    for start in range(0, len(paths), size):
        yield paths[start : start + size]


def main(arguments: list[str]) -> None:
    """Pack a folder, or unpack a file."""
    parser = argparse.ArgumentParser("python -m benchmarks.gpu.pack", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("source", type=Path, help="Market-1501's folder to pack, or a packed file to unpack")
    parser.add_argument("target", type=Path, help="the file to write, or the folder to unpack into")
    parser.add_argument("--megabytes", type=float, default=45, help="largest size of the file (default: 45)")
    options = parser.parse_args(arguments)
    if options.source.is_dir():
        print(pack(options.source, options.target, 1e6 * options.megabytes))
    else:
        print(unpack(options.source, options.target))


if __name__ == "__main__":
    main(sys.argv[1:])
