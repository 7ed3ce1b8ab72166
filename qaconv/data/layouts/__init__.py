"""Read a dataset in its layout into a manifest, and decode every image once.

A layout is a function `read(root, domain)`, found by its name in qaconv/plugins.py. Its options are keyword-only
parameters. It reads names and lists, but no image.
"""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from qaconv.data.layouts.checked import CheckedImages
from qaconv.data.layouts.images import verify_images
from qaconv.data.manifest import Manifest
from qaconv.errors import InputError
from qaconv.plugins import find

OPTION_TYPES = {"bool": (bool,), "int": (int,), "float": (float, int), "str": (str,)}


def read(name: str, root: Path | str, *, domain: str | None = None, **options: bool | int | float | str) -> Manifest:
    """Read a dataset: persons, cameras and times from its names, and decode every image once to check it.

    Args:
        name: a layout, such as market1501 or table.
        root: the dataset's folder; for `table` the CSV or Parquet file.
        domain: name for the camera network. Default: the layout's name.
        options: options of the layout, such as `official_time` of market1501 and `combine_all` of msmt17.

    Returns:
        A manifest with the dataset's pids, and camids from 0. Its root is `root`, or the table's folder.

    Raises:
        InputError: the layout or an option is unknown, the folder has another structure, a name does not parse, a
            camera is missing, a person is in both train and test, an image does not decode or has a duplicate.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> from qaconv.data.layouts import read
        >>> root = Path(tempfile.mkdtemp())
        >>> for name, colour in {"cam_a/001_0.png": "red", "cam_b/001_90.png": "blue"}.items():
        ...     (root / name).parent.mkdir()
        ...     Image.new("RGB", (48, 128), colour).save(root / name)
        >>> read("viper", root).frame[["image", "pid", "camid", "split"]].values.tolist()
        [['cam_a/001_0.png', 1, 0, 'query'], ['cam_b/001_90.png', 1, 1, 'gallery']]
    """
    return read_with_fingerprints(name, root, domain=domain, checked=None, **options)[0]


def read_with_fingerprints(
    name: str,
    root: Path | str,
    *,
    domain: str | None = None,
    checked: CheckedImages | None = None,
    **options: bool | int | float | str,
) -> tuple[Manifest, pd.DataFrame]:
    """Read a dataset as `read` does, and return also image, sha256 and look of each image (data/fingerprints.py).

    Args:
        name: of the layout.
        root: its folder or file.
        domain: name for the camera network. Default: the layout's.
        checked: images that have been decoded before. Default: every image is decoded.
        options: of the layout.
    """
    layout: Callable[..., Manifest] = find("layout", name)
    _check_options(name, layout, options)
    return verify_images(layout(Path(root), domain or name, **options), checked)


def _check_options(name: str, layout: Callable[..., Manifest], options: Mapping[str, bool | int | float | str]) -> None:
    """Compare options with the layout's keyword-only parameters: their names, and the types that they state."""
    parameters = inspect.signature(layout).parameters.values()
    allowed = {parameter.name: parameter for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}
    unknown = sorted(set(options) - set(allowed))
    if unknown:
        raise InputError(
            f"layout {name}: unknown options {', '.join(unknown)}, allowed: {', '.join(allowed) or 'none'}"
        )
    missing = [key for key, parameter in allowed.items() if parameter.default is parameter.empty and key not in options]
    if missing:
        raise InputError(f"layout {name}: needs the options {', '.join(missing)}")
    for key, value in options.items():
        annotation = allowed[key].annotation  # a type, or its name in a module that postpones annotations
        kind = getattr(annotation, "__name__", annotation)
        if kind in OPTION_TYPES and type(value) not in OPTION_TYPES[kind]:
            raise InputError(f"layout {name}: option {key} must be of type {kind}, got {value!r}")
