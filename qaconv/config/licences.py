"""Refuse weights whose licence forbids what this project does with them."""

import re
from typing import Annotated

from pydantic import AfterValidator

# By a word in the names of the licence and of its weights. Others, non-commercial ones too, are recorded and shown.
FORBIDDING = {
    "sapiens2": "the Sapiens2 License forbids surveillance and re-identification",
    "seer": "the SEER License Agreement forbids surveillance, biometric processing and identifying people (section 2a)",
}


def refuse_forbidding(key: str, text: str) -> None:
    """Check a licence's name, or the name of weights that exist under one licence alone.

    Raises:
        ValueError: the licence forbids this use.
    """
    for word in re.split(r"[^a-z0-9]+", text.lower()):
        if word in FORBIDDING:
            raise ValueError(f"{key} must be of weights that people may be found by, got {text}: {FORBIDDING[word]}")


def _check_licence(licence: str) -> str:
    if not licence.strip():
        raise ValueError("must be a licence's name, such as apache-2.0; leave the key out if it is not known")
    refuse_forbidding("backbone.weights_licence", licence)
    return licence


Licence = Annotated[str, AfterValidator(_check_licence)]
