"""contract.json: what a version's graphs take and return, and what a score means."""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from qaconv.errors import InputError
from qaconv.files import write_json

CONTRACT = "contract.json"
ENCODER = "encoder.onnx"
MATCHER = "matcher.onnx"


class _Part(BaseModel):
    """A part of the contract. A key that this version does not know is kept, so that reading and writing loses none."""

    model_config = ConfigDict(extra="allow", frozen=True, populate_by_name=True)


class TensorSpec(_Part):
    """An input or output of a graph.

    Attributes:
        name: as in the graph.
        dtype: numpy's name.
        shape: a name where any size is possible.
        layout: a letter for each dimension.
        colour_order: of images.
        norm: what has unit length.
        source: the graph and output that the values come from.
        minimum: least value. None: there is none.
        maximum: greatest value. None: there is none.
    """

    name: str
    dtype: str
    shape: list[int | str]
    layout: str | None = None
    colour_order: str | None = None
    norm: str | None = None
    source: str | None = Field(None, alias="from")
    minimum: int | float | None = None
    maximum: int | float | None = None


class Graph(_Part):
    """One graph.

    Attributes:
        sha256: of the file.
        largest_difference_from_pytorch: as a share of the largest value where that is above 1.
        opset: of ONNX.
        inputs: in the graph's order.
        outputs: in the graph's order.
    """

    sha256: str
    largest_difference_from_pytorch: float
    opset: int | None = None
    inputs: list[TensorSpec] = []
    outputs: list[TensorSpec] = []


class CropResize(_Part):
    """How a crop is resized.

    Attributes:
        height: in pixels.
        width: in pixels.
        aspect_ratio: whether it is kept.
        filter: how pixels are interpolated.
    """

    height: int
    width: int
    aspect_ratio: str | None = None
    filter: str | None = None


class HeldOut(_Part):
    """The pairs that a score's meaning was measured on.

    Attributes:
        data: whose images they are.
        pairs_of_one_person: their number.
        pairs_of_two_people: their number.
    """

    data: str
    pairs_of_one_person: int
    pairs_of_two_people: int


class Probability(_Part):
    """The probability of one person, from a logit.

    Attributes:
        scale: factor of the logit.
        offset: added to it, at even odds.
        formula: for readers of the file.
        prior: what the formula's prior is.
        fitted_on: the pairs.
    """

    scale: float
    offset: float
    formula: str | None = None
    prior: str | None = None
    fitted_on: HeldOut | None = None


class LogitThreshold(_Part):
    """A logit above which a pair is taken for one person.

    Attributes:
        false_match_rate: share of pairs of two people above it.
        threshold: the logit.
        true_match_rate: share of pairs of one person above it.
    """

    false_match_rate: float
    threshold: float
    true_match_rate: float


class Decision(_Part):
    """Thresholds for a decision, the strictest last.

    Attributes:
        thresholds: one for each false match rate that the pairs can tell.
        formula: for readers of the file.
        false_match_rate: what the rate means.
        measured_on: the pairs.
    """

    thresholds: list[LogitThreshold]
    formula: str | None = None
    false_match_rate: str | None = None
    measured_on: HeldOut | None = None


class Score(_Part):
    """What the matcher's output means.

    Attributes:
        better: which end is the better match.
        kind: the scale of the score.
        probability: calibration, or a sentence that says why there is none.
        decision: thresholds, or a sentence that says why there are none.
    """

    better: Literal["higher"]
    kind: str | None = None
    probability: Probability | str | None = None
    decision: Decision | str | None = None


class HeadNumbers(_Part):
    """The matcher as numbers: logit = bias + query . best cosines of the query's locations + gallery . the gallery's.

    Attributes:
        query: weight of each location of a query.
        gallery: weight of each location of a gallery image.
        bias: of the logit.
        average: cosine of an average location, which adds nothing either way.
        formula: for readers of the file.
    """

    query: list[float]
    gallery: list[float]
    bias: float
    average: float
    formula: str | None = None


class Contract(_Part):
    """contract.json. A file without `version` is from before the key existed, and has the form of version 1.

    Attributes:
        version: of the file's form.
        graphs: by file name.
        crop_resize: what to do to a crop before encoding.
        score: what the matcher's output means.
        head: the matcher as numbers.
        architecture: settings of the network.
        training_data: what it was trained on, with digests.
    """

    version: Literal[1] = 1
    graphs: dict[str, Graph]
    crop_resize: CropResize
    score: Score
    head: HeadNumbers
    architecture: dict[str, Any] = {}
    training_data: dict[str, Any] = {}

    @property
    def encoder_digest(self) -> str:
        """sha256 of encoder.onnx."""
        return self.graphs[ENCODER].sha256

    @property
    def weights_licence(self) -> str | None:
        """Licence of the weights that the network began with, or of a file that was not trained here; None: no weights.

        `unknown` is a licence that nobody has stated.
        """
        licence: str | None = self.architecture.get("backbone", self.architecture).get("weights_licence")
        return licence

    def save(self, folder: Path) -> None:
        """Write contract.json to a folder, with the version and the keys that were given."""
        given = self.model_dump(exclude_unset=True, by_alias=True)
        write_json(folder / CONTRACT, {**given, "version": self.version})

    @classmethod
    def load(cls, folder: Path) -> "Contract":
        """Read contract.json from a folder.

        Raises:
            InputError: there is no such file, or it is not a contract of this version.
        """
        path = folder / CONTRACT
        try:
            contract = cls.model_validate(json.loads(path.read_text(encoding="utf-8")))
        except ValidationError as error:
            fault = error.errors()[0]
            key = ".".join(map(str, fault["loc"]))
            raise InputError(f"{path}: {key}: {fault['msg']}, got {str(fault['input'])[:80]}") from error
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: must be a version's contract: {error}") from error
        if missing := {ENCODER, MATCHER} - set(contract.graphs):
            raise InputError(f"{path}: graphs must have {' and '.join(sorted(missing))}")
        return contract
