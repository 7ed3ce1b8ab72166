"""What a leader sends its followers, in MessagePack. Each form is checked when it is read."""

from typing import Annotated, Any, NamedTuple, TypeVar

import msgpack  # type: ignore[import-untyped]
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from qaconv.errors import InputError

MEDIA_TYPE = "application/msgpack"
LARGEST_PART = 1 << 20  # bytes of crops and maps of an answer, or of a file: a minute's at 0.15 Mbit/s
LARGEST_ANSWER = 32 << 20  # bytes that are read
MOST_ROWS = 256  # sightings of an answer
MOST_IDS = 65_536  # of an answer

Message = TypeVar("Message", bound="_Message")
Number = Annotated[int, Field(ge=0, lt=1 << 40)]


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    def pack(self) -> bytes:
        """Return the message as bytes."""
        packed: bytes = msgpack.packb(self.model_dump())
        return packed


class CopiedSighting(NamedTuple):
    """A stored sighting with its image file, and its map of the leader's encoder if there is one (stored_maps.py)."""

    id: Number
    target: str
    camid: int
    time_s: float | None
    person: str | None
    enrolled_s: float
    camera: str | None
    track: str | None
    crop: bytes
    map: bytes | None


class ServedFile(NamedTuple):
    """A file of a version: its path in the version's folder, its bytes and their SHA-256."""

    path: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$")]
    size: Number
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Version(_Message):
    """The version that the leader answers with.

    Attributes:
        version: its number.
        folder: name of its folder.
        site: the one target that is served; None: all.
        files: of the folder.
    """

    version: str
    folder: Annotated[str, Field(pattern="^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
    site: str | None
    files: tuple[ServedFile, ...]


class Changes(_Message):
    """What a copy lacks, or the first part of it.

    Attributes:
        gallery: id of the gallery.
        start: of the leader's service.
        sighting: id up to which the copy then has all sightings.
        deletion: number up to which it then has all deletions.
        deleted: ids of sightings that were deleted; None where the leader lists them no more.
        sightings: in order of their ids.
        encoder: digest of the encoder of their maps.
        last: largest id that the leader has given.
        is_all: whether the copy lacks nothing then.
        version: name of the folder of the version that answers.
        site: the one target that it is served for; None: all.
    """

    gallery: str
    start: str
    sighting: Number
    deletion: Number
    deleted: tuple[Number, ...] | None
    sightings: tuple[CopiedSighting, ...]
    encoder: str
    last: Number
    is_all: bool
    version: str
    site: str | None


class Ids(_Message):
    """Ids of the leader's sightings, in order."""

    ids: tuple[Number, ...]


class Maps(_Message):
    """Maps of one encoder, each with its sighting, in order."""

    maps: tuple[tuple[Number, bytes], ...]


class Allowed(_Message):
    """How many of the requests that were asked for a key may be answered, and seconds until there may be more."""

    requests: Number
    wait_s: Number


def unpack(kind: type[Message], data: bytes) -> Message:
    """Read a message.

    Raises:
        InputError: the bytes are another message, or none.
    """
    try:
        content: Any = msgpack.unpackb(data, use_list=False)
        return kind.model_validate(content)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(map(str, fault["loc"]))
        raise InputError(
            f"the leader must send {kind.__name__}: {place}: {fault['msg']}; is it of this release?"
        ) from error
    except (ValueError, msgpack.UnpackException) as error:
        raise InputError(f"the leader must send {kind.__name__} in MessagePack: {error}") from error
