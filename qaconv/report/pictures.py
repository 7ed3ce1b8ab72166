"""Encode image files as small pictures that a page can hold, with heads blurred where asked."""

from base64 import b64encode
from io import BytesIO
from pathlib import Path

from PIL import Image

from qaconv.errors import InputError
from qaconv.runtime.decode import DecodeError, decode_image

HEIGHT = 128  # pixels, at most
QUALITY = 80  # of WebP, 0..100
HEAD = 0.22  # of a crop's height from the top: a standing person's head is an eighth of it, and crops have margins
GRAIN = (3, 2)  # pixels across and down that the head part is reduced to, which no filter can undo


def data_uri(path: Path, *, blur: bool) -> str:
    """Encode a crop as a WebP data URI without the file's metadata. The same file gives the same text.

    The head is assumed in the top of the crop and is not detected. The face of a person who bends or sits, or whose
    crop starts at the neck, stays visible.

    Raises:
        InputError: the file cannot be decoded.
    """
    try:
        picture = Image.fromarray(decode_image(path.read_bytes()))
    except DecodeError as error:
        raise InputError(f"{path}: {error}") from error
    picture.thumbnail((HEIGHT, HEIGHT), Image.Resampling.LANCZOS)
    if blur:
        head = (0, 0, picture.width, max(1, round(HEAD * picture.height)))
        part = picture.crop(head).resize(GRAIN, Image.Resampling.BOX).resize(head[2:], Image.Resampling.BILINEAR)
        picture.paste(part, head)
    encoded = BytesIO()
    picture.save(encoded, "WEBP", quality=QUALITY, method=6)
    return "data:image/webp;base64," + b64encode(encoded.getvalue()).decode()
