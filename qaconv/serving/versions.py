"""Versions in a folder, and the active one, which a file names.

The active version is kept next to the galleries, so that a restart needs no registry.
"""

import json
import shutil
from pathlib import Path
from typing import NamedTuple

from qaconv.errors import InputError
from qaconv.files import write_json
from qaconv.runtime.model import ServedModel

VERSIONS = "models"  # name of the folder, in the state folder
THREADS = 1  # of one run of a graph, as the service runs one for each core


class Fetched(NamedTuple):
    """A version that is in the folder.

    Attributes:
        version: its number.
        folder: name of its folder.
        site: the one target that it is served for; None: all.
        model: the version.
    """

    version: str
    folder: str
    site: str | None
    model: ServedModel


class Versions:
    """The versions in a folder.

    Args:
        folder: the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def have_active_version(self) -> bool:
        """Whether a version was active when the service ended."""
        return self.pointer.is_file()

    def active_version(self) -> tuple[str, ServedModel]:
        """Load the version that was active when the service ended.

        Raises:
            InputError: its files are damaged.
        """
        version, folder = self.active
        try:
            return version, self.load(folder)
        except InputError as error:
            raise InputError(f"{error}; delete {self.folder} to load the champion again") from error

    def fetch_next(self) -> Fetched | None:
        """Return the version that is to be active; None if it is."""
        return None

    def activate(self, fetched: Fetched) -> None:
        """Let a version be active from now on, also after a restart."""
        write_json(self.pointer, {"version": fetched.version, "folder": fetched.folder, "site": fetched.site})

    def load(self, folder: str) -> ServedModel:
        """Load a version by the name of its folder."""
        return self.load_from(self.folder / folder, self.site)

    def load_from(self, folder: Path, site: str | None) -> ServedModel:
        """Load a version from its folder, for one target or for all."""
        return ServedModel(folder, threads=THREADS, target=site)

    def forget(self, folder: str) -> None:
        """Delete the folder of a version that is not active."""
        shutil.rmtree(self.folder / folder, ignore_errors=True)

    @property
    def active(self) -> tuple[str, str]:
        """The active version, and the name of its folder."""
        pointer = self._read_pointer()
        return str(pointer["version"]), str(pointer["folder"])

    @property
    def site(self) -> str | None:
        """The one target that the active version is served for; None: all."""
        return self._read_pointer()["site"]

    @property
    def pointer(self) -> Path:
        """File that names the active version."""
        return self.folder / "in_charge.json"  # the name in existing folders

    def _read_pointer(self) -> dict[str, str | None]:
        """Return version, folder and site. The folder was the version's number before 0.2.0, and there was no site."""
        pointer = json.loads(self.pointer.read_text(encoding="utf-8"))
        return {"folder": pointer["version"], "site": None, **pointer}
