"""Group the sightings of a target into identities: one for each person, across cameras, without labels."""

from qaconv.identities.clustering import Identities, identify
from qaconv.identities.graph import Edges, find_edges

__all__ = ["Edges", "Identities", "find_edges", "identify"]
