"""Re-rank a target's gallery by the configured re-ranker."""

import logging

from qaconv.config import Params
from qaconv.data.manifest import Manifest, is_measured
from qaconv.files import replacing_folder
from qaconv.matching.results import Matched, open_maps, save_reranked
from qaconv.matching.target_reranking import make_pair_distances, rerank_target
from qaconv.models.checkpoint import load_head
from qaconv.paths import MODELS, PREPARED, RERANKED
from qaconv.training.device import find_device, out_of_memory_names

log = logging.getLogger(__name__)


def rerank(params: Params, target: str) -> None:
    """Write artifacts/reranked/<target>/<method> for each method.

    Raises:
        InputError: the sightings have not been matched, or were matched with another network; or the device is missing.
    """
    sightings = Manifest.load(PREPARED / target).sightings()
    measured, camids = is_measured(sightings), sightings["camid"].to_numpy()
    device = find_device(params.machine.device)
    reranker = params.evaluate.rerank
    remedy = "let machine.device be one with more free memory, or cpu,"
    with out_of_memory_names(remedy), replacing_folder(RERANKED / target) as folder:
        for method in params.methods:
            store = open_maps(target, method, sightings["image"])
            matches = Matched.load(target, method)
            head = load_head(MODELS / method, store.shape[1:])
            distances_of = make_pair_distances(store, head, params.evaluate.engine, device)
            chosen, facts = reranker.choose(camids, distances_of)
            done = "is re-ranked" if chosen else "keeps the direct ranking"
            why = ", ".join(f"{name} {value:.4g}" for name, value in facts.items() if value is not None)
            log.info("%s, %s: %s: %s", target, method, done, why or "as the settings say")
            scores, scores_of_measured = rerank_target(chosen, matches, distances_of, measured)
            (folder / method).mkdir()
            save_reranked(folder / method, scores, scores_of_measured, matches.model, chosen, facts)
