"""Define, write and read what an adaptation has changed, `artifacts/adapted/<target>/metrics.json`."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, FiniteFloat

from qaconv.files import read_model
from qaconv.metrics.bootstrap import Estimate

METRICS_FILE = "metrics.json"
PROFILE_FILE = "profile.json"  # temporal profile of the adapted network


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Change(_Part):
    """A share before and after, and the 95 per cent interval of the difference, over people or answered pairs."""

    before: FiniteFloat
    after: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat
    count: int  # of people, or of pairs

    @classmethod
    def of(cls, before: float, difference: Estimate) -> "Change":
        """Return the change from a share by a difference over people."""
        after = before + difference.value
        return cls(before=before, after=after, low=difference.low, high=difference.high, count=difference.queries)


def describe_kept(kept_round: int, *, by_camera: bool) -> str:
    """Say in words whose network was kept, such as "round 2 with batch norms of each camera"."""
    norms = "batch norms of each camera"
    if kept_round:
        return f"round {kept_round}" + (f" with {norms}" if by_camera else "")
    return norms if by_camera else "stays as trained"


class Figures(_Part):
    """One network on the target; of `rankings` and `held_out`, mAP in [0, 1], only labels know."""

    expected_precision: FiniteFloat | None = None  # of pairs on two cameras that are more likely than not
    expected_found: FiniteFloat | None = None  # share of sightings joined with a right one on another camera
    source_map: FiniteFloat | None = None  # on the source's people held out, what was learnt there; none without any
    rankings: dict[str, FiniteFloat] | None = None  # of all queries; most sightings were trained on, without labels
    held_out: FiniteFloat | None = None  # direct, of queries of people held out


class AdaptationMetrics(_Part):
    """What an adaptation has changed.

    Attributes:
        kept_round: whose network was kept; 0: the one that it began with.
        reason: why no further round was trained, for people.
        by_camera: whether each camera has batch norms of its own in the network that was kept.
        camera_norms: share of right ones among the best matches on each other camera of all people, by times alone, had
            only batch norms changed. None where they were not tried.
        right: the same share of people held out, who were not trained on; where nothing was trained, of all people.
            None where times are not used.
        answers: F1 of the marked matches, by people's answers. None where there are too few, or nothing is marked.
        reviewed_precision: highest share of right ones among the matches that the adapted network marks which answers
            allow, the upper end of the interval. None likewise.
        before: the network that it began with.
        after: the network that was kept.
    """

    kept_round: int
    reason: str
    by_camera: bool = False
    camera_norms: Change | None = None
    right: Change | None
    answers: Change | None = None
    reviewed_precision: FiniteFloat | None = None
    before: Figures
    after: Figures

    @classmethod
    def load(cls, path: Path) -> "AdaptationMetrics":
        """Read the file.

        Raises:
            InputError: it does not exist, or is not such a file.
        """
        return read_model(cls, path, "adapt")
