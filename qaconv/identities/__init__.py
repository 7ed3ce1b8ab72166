"""Group the sightings of a target into identities: one for each person, across cameras, without labels."""

from qaconv.identities.clustering import Identities, identify
from qaconv.identities.graph import Edges, find_edges, find_edges_by_scores
from qaconv.identities.stated import map_by_identities, may_map

__all__ = ["Edges", "Identities", "find_edges", "find_edges_by_scores", "identify", "map_by_identities", "may_map"]
