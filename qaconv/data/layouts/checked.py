"""Remember which images decode, so that a dataset that grows is not read whole each time.

An image whose path, size and time of change are as they were is not read, as DVC does it. One whose bytes are known is
not decoded: where files are checked out again, each is read and none is decoded. N images.
"""

from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path

import pandas as pd

from qaconv.data import fingerprints
from qaconv.files import replacing_file
from qaconv.runtime import decode, formats

COLUMNS = ["image", "size", "mtime_ns", "sha256", "look"]


class CheckedImages:
    """Images that have been decoded before, by the present code.

    Args:
        path: Parquet file of `save`. One that is missing, damaged or by other code counts as empty.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._table = pd.DataFrame(columns=COLUMNS).astype({"size": "int64", "mtime_ns": "int64", "look": "uint64"})
        try:
            table = pd.read_parquet(path)
        except (OSError, ValueError):
            return
        if list(table.columns) == COLUMNS and table.attrs.get("code") == _code_digest():
            self._table = table

    @property
    def looks(self) -> Mapping[str, int]:
        """Return the perceptual hash of each image by its sha256."""
        return dict(zip(self._table["sha256"], self._table["look"].tolist(), strict=True))

    def find(self, files: pd.DataFrame) -> pd.DataFrame:
        """Return sha256 and look of each file that has not changed, NaN of the others, [N].

        Args:
            files: image, size and mtime_ns of each, [N].
        """
        return files.merge(self._table, on=COLUMNS[:3], how="left")[["sha256", "look"]]

    def save(self, files: pd.DataFrame) -> None:
        """Replace the file by one of these images, with the columns COLUMNS."""
        table = files[COLUMNS].astype({"look": "uint64"})
        table.attrs["code"] = _code_digest()
        with replacing_file(self._path) as unfinished:
            table.to_parquet(unfinished, index=False)


@cache
def _code_digest() -> str:
    """Return the digest of the code that decodes images and hashes their look."""
    modules = [Path(module.__file__ or "") for module in (fingerprints, decode)]
    code = [*modules, *sorted(Path(formats.__path__[0]).glob("*.*"))]
    return sha256(b"".join(path.read_bytes() for path in code)).hexdigest()
