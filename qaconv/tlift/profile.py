"""What one deployment's times allow: written once, checked when loaded, applied to scores."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qaconv.errors import InputError
from qaconv.files import write_json
from qaconv.tlift.lift import temporal_lift

VERSION = 1


@dataclass(frozen=True)
class TLiftProfile:
    """Temporal lifting for one camera network.

    Attributes:
        deployment: the camera network.
        camids: its cameras; others are refused.
        tau_s: neighbours of a query are within this many seconds.
        sigma_s: seconds; width of the time weight.
        top_k: pivots on each gallery camera.
        alpha: what appearance counts without support in time.
        active: whether times are used at all; if not, `lift` gives the scores back.
        reason: why so, for people.
    """

    deployment: str
    camids: tuple[int, ...]
    tau_s: float
    sigma_s: float
    top_k: int
    alpha: float
    active: bool
    reason: str

    def lift(
        self,
        scores: ArrayLike,
        query_camids: ArrayLike,
        query_times: ArrayLike,
        gallery_camids: ArrayLike,
        gallery_times: ArrayLike,
    ) -> NDArray[np.float64]:
        """Lifted scores [Q, G] of scores in [0, 1]; see `temporal_lift`.

        Raises:
            InputError: a camera that the profile does not know.
        """
        for name, camids in (("query_camids", query_camids), ("gallery_camids", gallery_camids)):
            unknown = sorted(set(np.asarray(camids).tolist()) - set(self.camids))
            if unknown:
                raise InputError(
                    f"{name}: cameras {unknown} are not in {self.deployment}'s profile: {list(self.camids)}"
                )
        if not self.active:
            return np.array(scores, dtype=np.float64)
        return temporal_lift(
            scores,
            query_camids,
            query_times,
            gallery_camids,
            gallery_times,
            tau=self.tau_s,
            sigma=self.sigma_s,
            top_k=self.top_k,
            alpha=self.alpha,
        )

    def save(self, path: Path) -> None:
        """Writes JSON."""
        write_json(path, {"version": VERSION, **asdict(self)})

    @classmethod
    def load(cls, path: Path) -> "TLiftProfile":
        """Reads what `save` wrote.

        Raises:
            InputError: no file, or not a profile of this version.
        """
        try:
            values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            version = values.pop("version")
            if version != VERSION:
                raise InputError(f"{path}: is a profile of version {version}; this code reads {VERSION}")
            return cls(**{**values, "camids": tuple(values["camids"])})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path}: is no TLift profile: {error!r}; `dvc repro` writes it") from error
