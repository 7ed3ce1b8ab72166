"""What the gate decides by whether an adapted network becomes its site's champion; kept with each such version."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from qaconv.files import read_file, write_json


@dataclass(frozen=True)
class Gain:
    """A share in [0, 1] before and after the adaptation, measured without labels.

    Attributes:
        by: "answers": F1 of the marked matches by people's answers; "times": right matches of people held out.
        before: of the network that the adaptation began with.
        after: of the adapted network.
        low: lower end of the 95 per cent interval of the difference.
        high: its upper end.
        count: answered pairs, or people held out.
    """

    by: Literal["answers", "times"]
    before: float
    after: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class SiteEvidence:
    """The figures of one version that was adapted to a site.

    Attributes:
        site: the target.
        data: DVC's digest of the site's data.
        began_with: digest of the weights that the adaptation began with.
        kept_round: whose network was kept; 0: nothing was trained, or nothing better.
        reason: why no further round was trained.
        gain: None where neither times nor answers say anything.
        reviewed_precision: highest share of right ones among the marked pairs that people's answers allow (upper end of
            the interval), in [0, 1]; None without answers.
        source_map: mAP on the sources' people held out, before and after, in [0, 1]; None where nobody was.
        differences: largest difference of each graph from PyTorch, by file name.
        megabytes: size of both graphs.
        encoder_ms: median time of one crop through the encoder, on one thread of the CPU that registered it.
        by_camera: whether each camera has batch norms of its own.
    """

    site: str
    data: str
    began_with: str
    kept_round: int
    reason: str
    gain: Gain | None
    reviewed_precision: float | None
    source_map: tuple[float, float] | None
    differences: dict[str, float]
    megabytes: float
    encoder_ms: float
    by_camera: bool = False

    def save(self, path: Path) -> None:
        """Write JSON."""
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> "SiteEvidence":
        """Read what `save` wrote.

        Raises:
            ValueError, TypeError, KeyError: it is another file.
        """
        values = json.loads(read_file(Path.read_text, path))
        gain, source_map = values["gain"], values["source_map"]
        read = {"gain": Gain(**gain) if gain else None, "source_map": tuple(source_map) if source_map else None}
        return cls(**{**values, **read})
