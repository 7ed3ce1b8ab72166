"""Ask the leader, with limits of time and size."""

import os
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import TypeVar

import httpx

from qaconv.errors import InputError
from qaconv.serving.auth import HEADER
from qaconv.serving.replication.history import Position
from qaconv.serving.replication.leader import Diverged
from qaconv.serving.replication.messages import LARGEST_ANSWER, Changes, Ids, Maps, ServedFile, Version, unpack

KEY = "QACONV_API_KEY"  # variable of the environment
CONNECT_S, SILENT_S = 2.0, 8.0  # to connect, and without a byte
LIMITS = httpx.Limits(keepalive_expiry=2.0)  # of connections; a server closes them after five idle seconds
WAIT_S = 2.0  # that the leader waits for a change before it answers that there is none

Message = TypeVar("Message", Changes, Ids, Maps, Version)


class Unreachable(RuntimeError):
    """The leader does not answer."""


class LeaderClient:
    """A connection to the leader. Safe to use from any thread.

    Args:
        url: its address.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.heard: Callable[[], None] = lambda: None  # called when something arrives
        self._client = httpx.Client(
            base_url=f"{self.url}/replication",
            headers={HEADER: os.environ.get(KEY, "")},
            timeout=httpx.Timeout(SILENT_S, connect=CONNECT_S),
            limits=LIMITS,
        )

    def wait(self, copy: Position) -> None:
        """Return when a copy lacks something, at the latest after WAIT_S."""
        self._get("wait", copy._asdict())

    def changes(self, copy: Position | None) -> Changes:
        """Return what a copy lacks, or the first part of it.

        Raises:
            Diverged: the copy does not continue.
        """
        return unpack(Changes, self._get("changes", copy._asdict() if copy else {}))

    def ids(self, after: int) -> Ids:
        """Return ids of sightings above an id, the first of them."""
        return unpack(Ids, self._get("ids", {"after": after}))

    def maps(self, encoder: str, after: int) -> Maps:
        """Return maps of sightings above an id, the first of them.

        Raises:
            InputError: the leader answers with another encoder.
        """
        return unpack(Maps, self._get("maps", {"encoder": encoder, "after": after}))

    def version(self) -> Version:
        """Return the version that the leader answers with."""
        return unpack(Version, self._get("version", {}))

    def read_file(self, folder: str, file: ServedFile) -> bytes:
        """Return a file of a version.

        Raises:
            InputError: it has another size or digest than the version says.
        """
        data = b""
        while len(data) < file.size:
            part = self._get("file", {"folder": folder, "path": file.path, "offset": len(data)})
            if not part:
                break
            data += part
        if len(data) != file.size or sha256(data).hexdigest() != file.sha256:
            raise InputError(f"{self.url}: {folder}/{file.path} must have the digest {file.sha256}, got another one")
        return data

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _get(self, path: str, values: Mapping[str, str | int]) -> bytes:
        try:
            with self._client.stream("GET", f"/{path}", params=values) as answer:
                data = b""
                for part in answer.iter_bytes():
                    data += part
                    self.heard()
                    if len(data) > LARGEST_ANSWER:
                        raise InputError(f"{self.url}: must answer at most {LARGEST_ANSWER:,} bytes, got more")
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise Unreachable(f"{self.url}: does not answer: {error!r}") from error
        if answer.status_code == httpx.codes.CONFLICT:
            raise Diverged(f"{self.url}: {_detail(data)}")
        if answer.is_server_error or answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
            raise Unreachable(f"{self.url}: {_detail(data)}")
        if not answer.is_success:
            hint = f"; {KEY} must be a key with the scope replicate" if answer.status_code in (401, 403) else ""
            raise InputError(f"{self.url}: refused with status {answer.status_code}: {_detail(data)}{hint}")
        return data


def _detail(data: bytes) -> str:
    return data[:300].decode("utf-8", "replace")
