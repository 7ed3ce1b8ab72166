"""Evaluate scores that you have, from any model: run `python examples/evaluate_scores.py`."""

import numpy as np

from qaconv.metrics import evaluate_ranking


def main() -> None:
    # Three queries against five gallery images; higher is a better match.
    scores = np.array([[0.9, 0.2, 0.4, 0.1, 0.3], [0.1, 0.8, 0.3, 0.2, 0.9], [0.2, 0.1, 0.6, 0.5, 0.4]])
    query_pids, query_camids = [1, 2, 3], [0, 0, 1]
    gallery_pids, gallery_camids = [1, 2, 3, 3, -1], [1, 1, 0, 2, 1]  # -1 is junk and does not count
    metrics = evaluate_ranking(scores, query_pids, gallery_pids, query_camids, gallery_camids)
    print(f"rank-1 {metrics.cmc[0]:.1%}, mAP {metrics.mean_average_precision:.1%} of {metrics.queries} queries")


if __name__ == "__main__":
    main()
