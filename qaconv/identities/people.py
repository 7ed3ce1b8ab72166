"""Estimate how many different people a target has seen, without labels, and summarise what is known of them.

N sightings; D draws of who is on each sighting (`draws.py`).
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from qaconv.identities.clustering import Identities
from qaconv.identities.draws import draw_people
from qaconv.identities.graph import Edges
from qaconv.identities.journeys import list_dwell, list_flows
from qaconv.identities.quality import estimate_found, estimate_precision, estimate_purity
from qaconv.identities.summary import Interval, Quality, Summary, Trust


def count_people(people: NDArray[np.int32]) -> Interval:
    """Return the number of different people: the mean of the draws, and their interval.

    Args:
        people: person on each sighting by draw, [D, N].
    """
    counts = [len(np.unique(person)) for person in people]
    return Interval.around(float(np.mean(counts)), counts)


def summarise(
    sightings: pd.DataFrame, identities: Identities, edges: Edges, *, time_used: bool, trust: Trust | None = None
) -> Summary:
    """Estimate the people of a target, their ways and stays, and how good the identities are.

    Args:
        sightings: camid, time_s and track of each, [N].
        identities: of the sightings.
        edges: that they were grouped by.
        time_used: whether the odds of the edges use times.
        trust: of `check_trust`. Default: not checked.
    """
    table = sightings.assign(identity=identities.identity)
    camid = sightings["camid"].to_numpy()
    people = draw_people(sightings, identities, edges)
    return Summary(
        sightings=len(table),
        identities=int(table["identity"].nunique()),
        last_number=identities.last,
        people=count_people(people),
        flows=list_flows(table, people),
        dwell=list_dwell(table, people),
        quality=Quality(
            precision=estimate_precision(edges, identities.identity, camid, people),
            found=estimate_found(identities.identity, camid, people),
            purity=estimate_purity(identities.identity, people),
            trust=trust,
        ),
        time_used=time_used,
    )
