"""See a target through one network: its matches, temporal profile and identities. No pid has a part in them.

N sightings, queries first.
"""

import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from qaconv.config import EvaluateConfig
from qaconv.data.manifest import Manifest, is_measured
from qaconv.identities import Edges, Identities, find_edges, identify
from qaconv.identities.draws import draw_people
from qaconv.matching.blocks import Job, join_blocks, match_blocks
from qaconv.matching.results import Matched, Matches, save_reranked
from qaconv.matching.target_profile import fit_target_profile
from qaconv.matching.target_reranking import make_pair_distances, rerank_target
from qaconv.models.checkpoint import load_head
from qaconv.models.description import weights_digest
from qaconv.release.feature_maps import encode_sightings
from qaconv.tlift import TLiftProfile


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
    network: Path, manifest: Manifest, config: EvaluateConfig, folder: Path, *, device: torch.device, workers: int
) -> View:
    """Encode, match and re-rank a target's sightings with a network, and fit a profile to them.

    Args:
        network: folder of the network to encode with.
        manifest: of the target.
        config: how sightings are encoded, matched and re-ranked.
        folder: for maps and matches; an existing one is replaced.
        device: where to encode and match.
        workers: threads that read images.
    """
    shutil.rmtree(folder, ignore_errors=True)
    store = encode_sightings(
        network, manifest, folder / "maps", device=device, batch_size=config.batch_size, workers=workers
    )
    head = load_head(network, store.shape[1:])
    sightings = manifest.sightings()
    queries = int((sightings["split"] == "query").sum())
    measured = is_measured(sightings)  # for measuring alone: neighbours and logits are those of all sightings
    job = Job.plan(store, head, queries, measured, config.engine)
    match_blocks(job, folder / "blocks", device)
    join_blocks(job, folder / "blocks", folder / "matches")
    distances_of = make_pair_distances(store, head, config.engine, device)
    reranked = folder / "reranked"
    reranked.mkdir()
    chosen, facts = config.rerank.choose(sightings["camid"].to_numpy(), distances_of)
    scores = rerank_target(chosen, Matched.open(folder / "matches"), distances_of, measured)
    save_reranked(reranked, *scores, weights_digest(network), chosen, facts)
    target = manifest.frame["domain"].iloc[0]
    matches = Matches.open(folder / "matches", reranked, target)
    return View(sightings, matches, fit_target_profile(matches, manifest, target))
