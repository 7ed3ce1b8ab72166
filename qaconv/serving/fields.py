"""Fields of requests and answers as JSON, with their checks and their form in the OpenAPI document."""

import re
from typing import Annotated

from pydantic import AfterValidator, Base64Bytes, BeforeValidator, Field, PlainValidator, WithJsonSchema

from qaconv.runtime.decode import ALLOWED_FORMATS
from qaconv.runtime.limits import LARGEST_CAMID, LONGEST_NAME, is_name
from qaconv.serving.places import UNKNOWN
from qaconv.times import DATE, LARGEST_S, check_seconds, parse_date

LARGEST_IMAGE = 1 << 20  # bytes of a crop's file
NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][-+]?\d+)?", re.ASCII)  # as in JSON
FAR_S = 1e300  # stands for numbers that are too large for a time
IDS = 2**53  # below it a JSON number is exact in browsers, which read doubles


def _whole(value: object) -> object:
    """Accept 1.0 as an integer, as JSON Schema does."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _camera(value: object) -> int | str:
    number = _whole(value)
    if isinstance(number, int) and not isinstance(number, bool) and 0 <= number <= LARGEST_CAMID:
        return number
    if isinstance(value, str) and is_name(value):
        return value
    raise ValueError(f"must be a camera's number in 0..{LARGEST_CAMID:,}, or its name")


WHOLE = BeforeValidator(_whole)
NAME = {"type": "string", "minLength": 1, "maxLength": LONGEST_NAME}
Id = Annotated[int, Field(ge=1, lt=IDS, description="Id of a stored sighting."), WHOLE]
Number = Annotated[int, Field(ge=1, lt=IDS, description="Number of an identity.", examples=[7]), WHOLE]
Camera = Annotated[
    int | str,
    PlainValidator(_camera),
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer", "minimum": 0, "maximum": LARGEST_CAMID}, NAME],
            "description": "Camera, by its number from 0, or by its name where the target's cameras have names.",
        }
    ),
]
Person = Annotated[
    str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9._-]+$", description="Your own word for the person.")
]


def _can_be_track(name: str) -> str:
    if not is_name(name):
        raise ValueError(f"must have 1 to {LONGEST_NAME} printable characters without outer spaces")
    return name


Track = Annotated[
    str,
    AfterValidator(_can_be_track),
    Field(
        description="Your own name for images of one person on one camera that follow each other.",
        json_schema_extra={"minLength": 1, "maxLength": LONGEST_NAME},
    ),
]


def _time(value: object) -> float | str:
    if isinstance(value, str) and parse_date(value) is not None:
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise ValueError(f"must be a number of seconds, or {DATE}")
    seconds = float(min(max(value, -FAR_S), FAR_S))  # an integer may be too large for a float
    check_seconds("time", seconds)
    return seconds


TIME: dict[str, object] = {
    "anyOf": [
        {"type": "number", "minimum": -LARGEST_S, "maximum": LARGEST_S},
        {"type": "string", "format": "date-time"},
    ],
    "description": "Seconds on the sighting camera's clock; where the target's times are dates, seconds since "
    "1970 or a date with time and zone in ISO 8601.",
}
Time = Annotated[float | str, PlainValidator(_time), WithJsonSchema(TIME)]


def _time_of_address(value: object) -> float | str:
    """Read a time of an address, where a number is a text too."""
    return _time(float(value) if isinstance(value, str) and NUMBER.fullmatch(value) else value)


TimeOfAddress = Annotated[float | str, PlainValidator(_time_of_address), WithJsonSchema(TIME)]


def _not_large(image: bytes) -> bytes:
    if len(image) > LARGEST_IMAGE:
        raise ValueError(f"must have at most {LARGEST_IMAGE:,} bytes, got {len(image):,}")
    return image


Image = Annotated[
    Base64Bytes,
    AfterValidator(_not_large),
    Field(description=f"A file in base64: {ALLOWED_FORMATS}.", max_length=LARGEST_IMAGE * 4 // 3 + 4, strict=False),
]


def _known(camid: int) -> int | None:
    return None if camid == UNKNOWN else camid


CameraNumber = Annotated[
    int | None,
    BeforeValidator(_known),
    Field(description="Number of the camera; null where the target's profile lacks a camera of this name."),
]
CameraName = Annotated[str | None, Field(description="Name of the camera; null where cameras are numbers.")]
