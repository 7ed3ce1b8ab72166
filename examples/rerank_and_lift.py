"""Re-rank and lift the features of any model: run `python examples/rerank_and_lift.py`."""

import numpy as np

from qaconv.matching.rerank import k_reciprocal
from qaconv.metrics import evaluate_ranking
from qaconv.tlift.lift import temporal_lift


def main() -> None:
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(40), 7)  # each passes camera 0, then is seen six times by camera 1
    cameras = np.tile([0, 1, 1, 1, 1, 1, 1], 40)
    times = people * 60.0 + np.tile([0, 25, 26, 27, 28, 29, 30], 40)  # in seconds
    features = rng.normal(size=(40, 32))[people] + 1.6 * rng.normal(size=(280, 32))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    query, gallery = cameras == 0, cameras == 1
    cosines = features @ features.T
    distances = 1 - cosines
    across, among_queries = distances[np.ix_(query, gallery)], distances[np.ix_(query, query)]
    reranked = 1 - k_reciprocal(across, among_queries, distances[np.ix_(gallery, gallery)], k1=8, k2=3)
    probabilities = np.clip(1 - across, 0, 1) ** 2
    lifted = temporal_lift(probabilities, cameras[query], times[query], cameras[gallery], times[gallery], sigma=60)
    for name, scores in {"direct": 1 - across, "re-ranked": reranked, "lifted": lifted}.items():
        metrics = evaluate_ranking(scores, people[query], people[gallery], cameras[query], cameras[gallery])
        print(f"{name}: rank-1 {metrics.cmc[0]:.1%}, mAP {metrics.mean_average_precision:.1%}")


if __name__ == "__main__":
    main()
