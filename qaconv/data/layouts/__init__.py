"""A dataset's folder, or a table, goes in; a manifest whose every image has been decoded comes out."""

import inspect
from collections.abc import Callable
from pathlib import Path

from qaconv.data.layouts import clonedperson, cuhk03np, dukemtmc, market1501, msmt17, prid2011, randperson, table, viper
from qaconv.data.layouts.images import with_images_verified
from qaconv.data.manifest import Manifest
from qaconv.errors import InputError

# Each takes (root, domain) and its own options by keyword, and reads names and lists, but no image.
LAYOUTS: dict[str, Callable[..., Manifest]] = {
    "market1501": market1501.read,
    "cuhk03np": cuhk03np.read,
    "msmt17": msmt17.read,
    "dukemtmc": dukemtmc.read,
    "randperson": randperson.read,
    "clonedperson": clonedperson.read,
    "viper": viper.read,
    "prid2011": prid2011.read,
    "table": table.read,
}


def read(name: str, root: Path, *, domain: str | None = None, **options: bool) -> Manifest:
    """Reads a dataset: who, where and when from its names, and each image once, whole.

    Args:
        name: the layout, one of LAYOUTS.
        root: the dataset's folder; for `table` the CSV or Parquet file itself.
        domain: what to call the camera network; the layout's name unless given.
        options: the layout's own, such as `official_time` of market1501 and `combine_all` of msmt17.

    Returns:
        A manifest with pids as the dataset names them and camids from 0; its root is `root` as given, or the
        table's folder.

    Raises:
        InputError: the layout or an option is unknown, the folder is not laid out so, a name does not parse, a camera
            id is missing, a person is in both train and test, an image does not decode or is there twice.
    """
    if name not in LAYOUTS:
        raise InputError(f"layout {name!r} is unknown; there are {', '.join(LAYOUTS)}")
    parameters = inspect.signature(LAYOUTS[name]).parameters.values()
    legal = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    unknown = sorted(set(options) - set(legal))
    if unknown:
        raise InputError(f"layout {name}: unknown options {', '.join(unknown)}; it has {', '.join(legal) or 'none'}")
    return with_images_verified(LAYOUTS[name](Path(root), domain or name, **options))
