"""Choose the people to hold out, and the sightings whose identities are trained on.

N sightings.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

LEAST_IMAGES = 3  # of an identity that is trained on
HELD_OUT = 0.2  # share of the first identities whose sightings are never trained on

Ints = NDArray[np.int64]


def draw_held_out(identity: Ints, seed: int) -> Ints:
    """Draw identities to hold out, and return the number of each sighting's one, from 0; -1 of the others, [N].

    Args:
        identity: of each sighting, [N].
        seed: of the draw.
    """
    numbers = np.unique(identity)
    drawn = np.random.default_rng(seed).permutation(numbers)[: round(HELD_OUT * len(numbers))]
    return _number(identity, np.isin(identity, drawn))


def choose_core(camid: Ints, identity: Ints, held_out: Ints) -> Ints:
    """Return the label of each sighting that is trained on, from 0; -1 of the others, [N].

    An identity is trained on if two cameras see it, in at least LEAST_IMAGES sightings.

    Args:
        camid: of each sighting, [N].
        identity: of each sighting, [N].
        held_out: as of `draw_held_out`, [N].
    """
    groups = pd.Series(camid).groupby(identity)
    kept = groups.size().index[(groups.size() >= LEAST_IMAGES) & (groups.nunique() >= 2)]
    return _number(identity, (held_out < 0) & np.isin(identity, kept))


def _number(identity: Ints, chosen: NDArray[np.bool_]) -> Ints:
    """Number the identities of the chosen sightings from 0; -1 of the others, [N]."""
    numbers = np.full(len(identity), -1, dtype=np.int64)
    numbers[chosen] = np.unique(identity[chosen], return_inverse=True)[1]
    return numbers
