"""Say what an adaptation has changed: by times alone, by estimates, on the sources, and by labels where there are some.

N sightings.
"""

import numpy as np
from numpy.typing import NDArray

from qaconv.adaptation.evidence import share_difference
from qaconv.adaptation.outcome import AdaptationMetrics, Change, Figures
from qaconv.adaptation.rounds import Adaptation, Round, Rounds
from qaconv.adaptation.view import View
from qaconv.config.kinds import RerankSettings
from qaconv.data.manifest import Manifest
from qaconv.identities.quality import estimate_found, estimate_precision
from qaconv.metrics import evaluate_ranking
from qaconv.metrics.rankings import DIRECT, list_rankings
from qaconv.metrics.target_metrics import scores_by_ranking
from qaconv.metrics.target_sightings import EvaluatedSightings
from qaconv.models.checkpoint import load_network
from qaconv.training.holdout import Holdout


def measure(adaptation: Adaptation, rounds: Rounds, holdout: Holdout | None) -> AdaptationMetrics:
    """Compare the network that was kept with the one that the adaptation began with.

    Args:
        adaptation: with its manifest, whose pids are read here alone.
        rounds: of the adaptation.
        holdout: people of the sources that nothing was trained on, if there are some.
    """
    first, kept = rounds.first, rounds.best
    before = network_figures(adaptation, first, rounds.held_out, holdout)
    change = None
    if kept.is_changed and not kept.number:  # nothing was trained, so all people say what has changed
        change = rounds.norms
    elif kept.matches and first.matches:
        difference = share_difference(kept.matches, first.matches, seed=adaptation.params.seed)
        change = Change.of(first.matches.share, difference)
    return AdaptationMetrics(
        kept_round=kept.number,
        reason=rounds.reason,
        by_camera=kept.by_camera,
        camera_norms=rounds.norms,
        right=change,
        before=before,
        after=network_figures(adaptation, kept, rounds.held_out, holdout) if kept.is_changed else before,
    )


def network_figures(
    adaptation: Adaptation, trained: Round, held_out: NDArray[np.int64], holdout: Holdout | None
) -> Figures:
    """Return the figures of one round's network on the target.

    Args:
        adaptation: with its manifest, whose pids are read here alone.
        trained: the round.
        held_out: number of each sighting's identity among those held out, and -1 of the others, [N].
        holdout: as of `measure`.
    """
    view = trained.view
    precision = found = source_map = None
    if view.profile.match_odds is not None:
        camid = view.sightings["camid"].to_numpy()
        estimates = estimate_precision(view.edges, view.identities.identity, camid, view.people)
        precision = estimates[0].value if estimates else None
        found = estimate_found(view.identities.identity, camid, view.people).value
    if holdout:
        network, _ = load_network(trained.network)
        workers = adaptation.params.machine.workers
        source_map = holdout.mean_average_precision(network, device=adaptation.device, workers=workers)
    figures = Figures(expected_precision=precision, expected_found=found, source_map=source_map)
    if not adaptation.manifest.is_labelled:
        return figures
    return figures.model_copy(
        update=_by_labels(view, adaptation.manifest, adaptation.params.evaluate.rerank, held_out >= 0)
    )


def _by_labels(
    view: View, manifest: Manifest, reranker: RerankSettings, is_held_out: NDArray[np.bool_]
) -> dict[str, object]:
    """Return the mAP of each ranking, and that of the direct one for queries of people held out."""
    sightings = EvaluatedSightings(manifest.frame, manifest.root)
    logits = sightings.logits(view.matches.logits)
    scores = scores_by_ranking(list_rankings(reranker), logits, view.matches.reranked_measured, view.profile, sightings)
    is_query = (view.sightings["split"] == "query").to_numpy()
    of_held_out = is_held_out[is_query][sightings.is_query_measured]
    figures = {}
    held_out = None
    for key, table in scores:
        ranking = evaluate_ranking(table, *sightings.identities, same_camera=sightings.same_camera)
        figures[key] = ranking.mean_average_precision
        if key == DIRECT.key:
            precisions = ranking.average_precisions[of_held_out]
            held_out = float(np.nanmean(precisions)) if not np.isnan(precisions).all() else None
    return {"rankings": figures, "held_out": held_out}
