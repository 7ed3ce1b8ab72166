"""Feature maps to scores: all pairs, searches, shortlists, re-ranking, and the store that holds maps on disk."""

from qaconv.matching.pairs import score_pairs
from qaconv.matching.search import Neighbours, score_matrix, search
from qaconv.matching.shortlist import Shortlist
from qaconv.matching.store import MapStore
from qaconv.matching.tiles import Tile, logit_tiles

__all__ = ["MapStore", "Neighbours", "Shortlist", "Tile", "logit_tiles", "score_matrix", "score_pairs", "search"]
