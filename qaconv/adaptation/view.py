"""See a target through one network: its matches, temporal profile and identities. No pid has a part in them.

N sightings, queries first.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.special import expit

from qaconv.config import EvaluateConfig
from qaconv.data.loading import encode_batches
from qaconv.data.manifest import Manifest, is_measured
from qaconv.identities import Edges, Identities, find_edges, identify
from qaconv.identities.draws import draw_people
from qaconv.matching.all_pairs import match_rows
from qaconv.matching.results import Matches
from qaconv.matching.target_reranking import make_pair_distances, rerank_target
from qaconv.models.checkpoint import Network
from qaconv.release.encoding import fastest
from qaconv.tlift import TLiftProfile, fit_profile


@dataclass(frozen=True)
class View:
    """What one network says of a target's sightings.

    Attributes:
        sightings: image, camid, time_s and track, [N].
        matches: of the sightings.
        profile: fitted to the matches; `edges`, `identities` and `people` need its match odds.
    """

    sightings: pd.DataFrame
    matches: Matches
    profile: TLiftProfile

    @cached_property
    def edges(self) -> Edges:
        """Pairs that may show one person."""
        return find_edges(self.matches.neighbours, self.matches.neighbour_logits, self.sightings, self.profile)

    @cached_property
    def identities(self) -> Identities:
        """The identity of each sighting."""
        return identify(self.sightings, self.edges)

    @cached_property
    def people(self) -> NDArray[np.int32]:
        """Person on each sighting by draw, [D, N]."""
        return draw_people(self.sightings, self.identities, self.edges)


def view_target(
    network: Network, manifest: Manifest, config: EvaluateConfig, *, device: torch.device, workers: int
) -> View:
    """Encode, match and re-rank a target's sightings with a network, and fit a profile to them.

    Args:
        network: to encode with.
        manifest: of the target.
        config: how sightings are encoded, matched and re-ranked.
        device: where to encode and match.
        workers: threads that read images.
    """
    sightings = manifest.sightings()
    paths = [manifest.root / image for image in sightings["image"]]
    size = network.architecture.image
    batches = encode_batches(fastest(network, device), paths, size, batch_size=config.batch_size, workers=workers)
    maps = torch.cat(list(batches)).numpy()
    queries = int((sightings["split"] == "query").sum())
    measured = is_measured(sightings)  # for measuring alone: neighbours and logits are those of all sightings
    part = match_rows(maps, slice(0, len(maps)), network.head, queries, measured, config.engine, device, model="")
    distances_of = make_pair_distances(maps, network.head, config.engine, device)
    matches = Matches.join(part, *rerank_target(config.rerank, part, distances_of, measured))
    profile = fit_profile(
        matches.neighbours,
        expit(matches.neighbour_logits),
        sightings["camid"],
        sightings["time_s"],
        reranked=matches.nearest_reranked(),
        drawn=matches.draw_pairs(),
        tracks=sightings["track"],
    )
    return View(sightings, matches, profile)
