"""Read person, camera and time from the file names of images."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from qaconv.data.manifest import RANDOM_SPLITS
from qaconv.errors import InputError, name_first

LONGEST = 18  # digits that every int64 can have
LEFT_BY_FILE_MANAGERS = {"Thumbs.db", "desktop.ini"}  # names with a leading dot are ignored, too


def read_names(root: Path, folders: Mapping[str, str], pattern: str, example: str) -> pd.DataFrame:
    """Read the names of a dataset's images.

    Args:
        root: the dataset's folder.
        folders: sub-folder of each split, which holds nothing but images. That of `train` may be missing if there are
            others: git and DVC keep no empty folder.
        pattern: regular expression for a whole name; its named groups must be whole numbers.
        example: a name that matches, for the message about names that do not.

    Returns:
        Columns image (path below root), split, and an int64 column for each named group.

    Raises:
        InputError: a sub-folder is missing, or a name does not match.
    """
    if len(folders) > 1:
        folders = {split: name for split, name in folders.items() if split != "train" or (root / name).exists()}
    require(root, folders.values())
    if other := [folder for folder in folders.values() if not (root / folder).is_dir()]:
        raise InputError(f"{root}: {', '.join(other)} must be a folder of images")
    files = [(split, f"{folder}/{name}") for split, folder in folders.items() for name in _names(root / folder)]
    compiled = re.compile(pattern)
    matches = [compiled.fullmatch(image.rpartition("/")[2]) for _, image in files]
    refuse_names(root, [image for (_, image), match in zip(files, matches, strict=True) if not match], example)
    groups = pd.DataFrame([match.groupdict() for match in matches if match], columns=list(compiled.groupindex))
    images = pd.DataFrame(files, columns=["split", "image"])
    return images.join(whole_numbers(root, groups, images["image"]))


def note_splits(splits: int) -> dict[str, str]:
    """Return the note of a manifest whose people are also measured in random halves; none for 0.

    Raises:
        InputError: the number is negative.
    """
    if splits < 0:
        raise InputError(f"options.splits must be 0 or more, got {splits}")
    return {RANDOM_SPLITS: str(splits)} if splits else {}


def whole_numbers(root: Path, texts: pd.DataFrame, images: "pd.Series[str]") -> pd.DataFrame:
    """Return columns of digits as int64.

    Args:
        root: file or folder that they are from, named in the message.
        texts: the digits, with - before a negative number.
        images: image of each row.

    Raises:
        InputError: a number has more than 18 digits.
    """
    is_long = texts.apply(lambda column: column.astype(str).str.lstrip("-0").str.len() > LONGEST).any(axis=1)
    if is_long.any():
        long = images[is_long.to_numpy()]
        raise InputError(f"{root}: {len(long)} names have a number of more than {LONGEST} digits:{name_first(long)}")
    return texts.astype("int64")


def require(root: Path, paths: Iterable[str]) -> None:
    """Check that a folder has these files or sub-folders.

    Raises:
        InputError: the folder, or one of the paths in it, does not exist.
    """
    paths = list(paths)
    if not root.is_dir():
        raise InputError(f"{root}: must be an existing folder")
    if not all((root / path).exists() for path in paths):
        entries = name_first(sorted(entry.name for entry in root.iterdir())) or " nothing"
        raise InputError(f"{root}: a folder of this layout must hold {', '.join(paths)}, got{entries}")


def refuse_names(root: Path, names: list[str], example: str) -> None:
    """Raise an error that lists the names that do not parse, if there are any.

    Raises:
        InputError: `names` is not empty.
    """
    if names:
        raise InputError(f"{root}: {len(names)} names do not have the form {example}:{name_first(names)}")


def _names(folder: Path) -> list[str]:
    names = sorted(entry.name for entry in folder.iterdir())
    return [name for name in names if not name.startswith(".") and name not in LEFT_BY_FILE_MANAGERS]
