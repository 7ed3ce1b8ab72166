"""The table of maps in `galleries.db`: codes in 8 bits, by encoder and sighting. S locations, C channels.

The key of a map is its encoder's number and its sighting in one integer, so that one look-up finds it.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qaconv.runtime.locations import as_locations
from qaconv.runtime.quantise import Codes, quantise

TABLES = """
CREATE TABLE IF NOT EXISTS encoders (number INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS codes (
    key INTEGER PRIMARY KEY, sighting INTEGER NOT NULL REFERENCES sightings ON DELETE CASCADE, map BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS codes_by_sighting ON codes (sighting);
"""
SIGHTINGS = 1 << 40  # more than there can be
BASE = f"(SELECT number * {SIGHTINGS} FROM encoders WHERE digest = ?)"
HAS_MAP = f"EXISTS (SELECT 1 FROM codes INDEXED BY codes_by_sighting WHERE sighting = id AND key = id + {BASE})"
MAPS = "SELECT sighting, map FROM codes WHERE key IN ({}) ORDER BY key"


def insert_maps(connection: sqlite3.Connection, encoder: str, ids: Sequence[int], maps: Codes) -> None:
    """Add an encoder's maps; skip sightings that were deleted meanwhile."""
    insert_packed_maps(connection, encoder, dict(zip(ids, map(pack_map, *maps), strict=True)))


def insert_packed_maps(connection: sqlite3.Connection, encoder: str, maps: Mapping[int, bytes]) -> None:
    """Add an encoder's maps, as bytes by sighting; skip sightings that were deleted meanwhile."""
    connection.execute("INSERT OR IGNORE INTO encoders (digest) VALUES (?)", (encoder,))
    connection.executemany(
        f"INSERT OR REPLACE INTO codes SELECT id + {BASE}, id, ? FROM sightings WHERE id = ?",
        [(encoder, data, sighting) for sighting, data in maps.items()],
    )


def pack_map(codes: NDArray[np.int8], scales: NDArray[np.floating]) -> bytes:
    """Return one map [S, C] and its scales [S] as bytes."""
    return codes.tobytes() + scales.astype(np.float16).tobytes()


def unpack_maps(rows: Sequence[bytes], shape: tuple[int, int, int]) -> Codes:
    """Return maps of `shape` (C, h, w) from their bytes, [n, S, C]."""
    channels, height, width = shape
    locations = height * width
    values = np.frombuffer(b"".join(rows), dtype=np.int8).reshape(len(rows), locations * (channels + 2))
    codes = np.ascontiguousarray(values[:, : locations * channels]).reshape(-1, locations, channels)
    scales = np.ascontiguousarray(values[:, locations * channels :]).view(np.float16)
    return Codes(codes, scales)


def quantise_maps(maps: NDArray[Any]) -> Codes:
    """Quantise maps [n, C, h, w] of any float, in the caller's thread."""
    return quantise(as_locations(maps, threads=1), threads=1)
