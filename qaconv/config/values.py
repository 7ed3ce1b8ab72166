"""Types of values that several blocks of params.yaml share."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveInt

# Other keys of metrics files.
TAKEN_METHODS = (
    "queries",
    "gallery",
    "estimated",
    "sightings",
    "cameras",
    "sightings_with_times",
    "tracks",
    "searches",
)


class Settings(BaseModel):
    """Base of all blocks of params.yaml. Unknown keys are errors, and values cannot be changed after reading.

    A value must have its key's type: neither `true` nor the text '2' is a number.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def _check_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]*", name):
        raise ValueError("a name must be of letters, digits, _ and -, and not begin with -")
    return name


def _check_method_name(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9_-]+", name) or name.startswith("-") or "_minus_" in name or name in TAKEN_METHODS:
        raise ValueError(
            "a method's name must be of a-z, 0-9, _ and -, not begin with -, not contain _minus_, and be none of "
            + ", ".join(TAKEN_METHODS)
        )
    return name


Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, AfterValidator(_check_name)]  # it becomes a path, a DVC stage and an MLflow metric
MethodName = Annotated[str, AfterValidator(_check_method_name)]  # it becomes a key and a column of metrics files too
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class ImageConfig(Settings):
    """Size of a network's input, in pixels."""

    height: PositiveInt
    width: PositiveInt
