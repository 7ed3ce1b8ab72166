"""Limits of what a sighting may say, for everything that takes sightings: tables, ingest, the service, the pyfunc.

Those of an image's pixels are in qaconv/runtime/decode.py, which all of these read images with; that of a time is in
qaconv/times.py.
"""

LARGEST_CAMID = 9_999  # a fit has arrays over all camera numbers, which camid 1,000,000 would make 12 GiB
LARGEST_PID = 2**53  # above it a float does not tell two people apart
LARGEST_FILE = 64 << 20  # bytes of an image file: twice the 4 million pixels of four 16-bit channels
