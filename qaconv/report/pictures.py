"""Make small pictures that a page can contain, with blurred heads on request."""

from base64 import b64encode
from io import BytesIO
from pathlib import Path

from PIL import Image

HEIGHT = 128  # pixels at most
QUALITY = 80  # of WebP, 0..100
HEAD = 0.22  # of a crop's height from the top: a standing person's head is an eighth of it, and crops have margins
GRAIN = (3, 2)  # pixels that the head part is reduced to, across and down: no filter can restore it


def data_uri(path: Path, *, blur: bool) -> str:
    """Return a crop as a WebP data URI without the file's metadata; the same file gives the same text.

    The top of the crop counts as the head, without a detector. The face of a person who bends, sits or is cut at the
    neck may be elsewhere and stays visible.
    """
    with Image.open(path) as file:
        picture = file.convert("RGB")
    picture.thumbnail((HEIGHT, HEIGHT), Image.Resampling.LANCZOS)
    if blur:
        head = (0, 0, picture.width, max(1, round(HEAD * picture.height)))
        part = picture.crop(head).resize(GRAIN, Image.Resampling.BOX).resize(head[2:], Image.Resampling.BILINEAR)
        picture.paste(part, head)
    buffer = BytesIO()
    picture.save(buffer, "WEBP", quality=QUALITY, method=6)
    return "data:image/webp;base64," + b64encode(buffer.getvalue()).decode()
