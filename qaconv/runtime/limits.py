"""Limits of what a sighting may say, for everything that takes sightings: tables, ingest, the service, the pyfunc.

Those of an image's pixels are in qaconv/runtime/decode.py, which all of these read images with; that of a time is in
qaconv/times.py.
"""

LARGEST_CAMID = 9_999  # a fit has arrays over all camera numbers, which camid 1,000,000 would make 12 GiB
LONGEST_NAME = 100  # characters of a camera's or a track's name
LARGEST_PID = 2**53  # above it a float does not tell two people apart
LARGEST_FILE = 64 << 20  # bytes of an image file: twice the 4 million pixels of four 16-bit channels


def is_name(text: str) -> bool:
    """Return whether a text can name a camera or a track: printable, without outer spaces, not too long."""
    return 0 < len(text) <= LONGEST_NAME and text.isprintable() and text == text.strip()
