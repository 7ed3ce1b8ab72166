"""Keep the project's own store usable after its folder was moved, renamed or copied.

MLflow records absolute addresses of files: of each experiment, run and model in `mlflow.db`. A copy would write into
the folder that it was copied from, and a moved project would lose its champion.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from qaconv.errors import InputError

COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
)


def check_place(store: Path, artifacts: Path) -> None:
    """Check that the experiments of a store keep their files next to it.

    Args:
        store: SQLite file of MLflow.
        artifacts: folder of its files.

    Raises:
        InputError: an experiment has them in another project's folder.
    """
    if foreign := _foreign_folders(store, artifacts):
        raise InputError(
            f"{store}: its files must be in {artifacts.resolve()}, but it was written in {_path(foreign[0])}; run "
            "`qaconv relocate` after the project was moved, renamed or copied"
        )


def relocate(store: Path, artifacts: Path) -> int:
    """Point every run and model of a store to the files next to it, and return the number of changed addresses.

    Raises:
        InputError: the store is missing, or `artifacts` lacks files of a registered version; nothing is changed then.
    """
    if not store.is_file():
        raise InputError(f"{store}: file not found; `qaconv relocate` runs in the project's folder")
    foreign = _foreign_folders(store, artifacts)
    changed = 0
    with closing(sqlite3.connect(store, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        for old in foreign:
            for table, column in COLUMNS:
                # The names are constants: SQL has no parameters for them.
                change = f"UPDATE {table} SET {column} = :new || substr({column}, length(:old) + 1)"
                within = f"WHERE {column} = :old OR substr({column}, 1, length(:old) + 1) = :old || '/'"
                addresses = {"old": old, "new": artifacts.resolve().as_uri()}
                changed += database.execute(f"{change} {within}", addresses).rowcount
        locations = database.execute(
            "SELECT name, version, storage_location FROM model_versions WHERE storage_location LIKE 'file:%' "
            "AND current_stage != 'Deleted_Internal'"
        ).fetchall()
        missing = [f"{name} version {version}" for name, version, uri in locations if not _path(uri).is_dir()]
        if missing:
            raise InputError(
                f"{artifacts.resolve()}: has no files of {', '.join(missing)}; copy them from "
                f"{', '.join(str(_path(old)) for old in foreign)}, or delete the versions on MLflow's page"
            )
        database.execute("COMMIT")
    return changed


def _foreign_folders(store: Path, artifacts: Path) -> list[str]:
    """Return the addresses of folders with this folder's name that experiments have elsewhere."""
    if not store.is_file():
        return []
    with closing(sqlite3.connect(f"{store.resolve().as_uri()}?mode=ro", uri=True)) as database:
        try:
            rows = database.execute("SELECT DISTINCT artifact_location FROM experiments").fetchall()
        except sqlite3.DatabaseError as error:
            raise InputError(f"{store}: must be a store of MLflow: {error}") from error
    locations = [str(location) for (location,) in rows]
    return [
        uri for uri in locations if _path(uri).name == artifacts.name and _path(uri).resolve() != artifacts.resolve()
    ]


def _path(uri: str) -> Path:
    return Path(unquote(urlsplit(uri).path))
