"""Types of values that several blocks of params.yaml share."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """Base of all blocks of params.yaml. Unknown keys are errors, and values cannot be changed after reading.

    A value must have its key's type: neither `true` nor the text '2' is a number.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def _check_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]*", name):
        raise ValueError("a name must be of letters, digits, _ and -, and not begin with -")
    return name


Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, AfterValidator(_check_name)]  # it becomes a path, a DVC stage and an MLflow metric
Seed = Annotated[int, Field(ge=0, lt=2**32)]
