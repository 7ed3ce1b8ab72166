"""Describe the registered models and a version's results on MLflow's pages."""

from collections.abc import Mapping
from itertools import product

from mlflow import MlflowClient

from qaconv.config import Params
from qaconv.metrics.estimates_file import ESTIMATED
from qaconv.metrics.metrics_file import RANDOM_SPLITS
from qaconv.metrics.rankings import DIRECT, list_rankings, metric_name

MODEL = """Person re-identification by QAConv. Takes query and gallery crops with camera and time, and returns \
ranked matches with probability, decision and correspondences.

    mlflow.pyfunc.load_model("models:/{name}@champion").predict(crops)

`{name}-encoder` and `{name}-matcher` are its two ONNX graphs. A version's \
`serving_input_example.json` is a whole request, and its `contract.json` has sizes, value ranges and the meaning of a \
score."""
RESULTS = "rank-1 / mAP in per cent"
ESTIMATES = "Estimated, no labels: what searches on another camera are expected to find"
UNKNOWN = "–"  # the profile states no probabilities, nothing is marked, or a ranking is not measured so
ENCODER = "ONNX: crops uint8 RGB [N, H, W, 3] to feature maps [N, C, h, w]. Part of `{name}`."
MATCHER = "ONNX: maps of queries and gallery to logits [Q, G]; higher is a better match. Part of `{name}`."


def describe(name: str, version: str, params: Params, metrics: Mapping[str, float], licence: str | None) -> None:
    """Describe the three models and the version in the registry, where no description exists yet.

    Args:
        name: name of the registered model.
        version: its version.
        params: training datasets and targets.
        metrics: of the targets, as `runs.load_metrics` returns them.
        licence: of the weights that the training began with. None: it began without any.
    """
    client = MlflowClient()
    for model, text in ((name, MODEL), (f"{name}-encoder", ENCODER), (f"{name}-matcher", MATCHER)):
        if not client.get_registered_model(model).description:
            client.update_registered_model(model, text.format(name=name))
    if not client.get_model_version(name, version).description:
        client.update_model_version(name, version, _figures(params, metrics, licence))


def is_estimated(target: str, metrics: Mapping[str, float]) -> bool:
    """Return whether a target's figures are estimates, as it has no labels."""
    return f"{target}.{ESTIMATED}" in metrics


def result_rows(params: Params, metrics: Mapping[str, float]) -> list[dict[str, str]]:
    """Return a row for each target with labels and method: rank-1 / mAP in per cent, by ranking."""
    rankings = list_rankings(params.evaluate.rerank)
    measured = [target for target in params.targets if not is_estimated(target, metrics)]
    rows = []
    for target, method in product(measured, params.method_names):
        row = {"target": target, "model": method}
        for ranking in rankings:
            rank1, mean_ap = (
                metrics[metric_name(method, ranking.key, figure, target=target)] for figure in ("rank1", "mAP")
            )
            row[ranking.label] = f"{100 * rank1:.1f} / {100 * mean_ap:.1f}"
        rows.append(row)
        if (count := metrics.get(metric_name(method, RANDOM_SPLITS, "count", target=target))) is not None:
            rows.append(_splits_row(row, count, target, method, metrics))
    return rows


def _splits_row(
    row: Mapping[str, str], count: float, target: str, method: str, metrics: Mapping[str, float]
) -> dict[str, str]:
    """Return the row of random halves of the people, below that of all of them."""
    shown = []
    for figure in ("rank1", "mAP"):
        names = (metric_name(method, RANDOM_SPLITS, name, target=target) for name in (figure, f"{figure}_deviation"))
        shown.append(" ± ".join(f"{100 * metrics[name]:.1f}" for name in names))
    unmeasured = dict.fromkeys(row, UNKNOWN)
    return {
        **unmeasured,
        "target": f"{target}, {count:.0f} random halves",
        "model": method,
        DIRECT.label: " / ".join(shown),
    }


def estimate_rows(params: Params, metrics: Mapping[str, float]) -> list[dict[str, str]]:
    """Return a row for each target without labels and method: what searches are expected to find there."""
    estimated = [target for target in params.targets if is_estimated(target, metrics)]
    rows = []
    for target, method in product(estimated, params.method_names):
        share, precision, matches = (
            metrics.get(metric_name(method, "expected", figure, target=target))
            for figure in ("share_with_match", "expected_precision", "expected_matches")
        )
        rows.append(
            {
                "target": target,
                "model": method,
                "times": "used" if metrics[metric_name(method, "times", "used", target=target)] else "not used",
                "searches": f"{metrics[f'{target}.searches']:,.0f}",
                "with a match": UNKNOWN if share is None else f"{100 * share:.1f} %",
                "expected precision": UNKNOWN if precision is None else f"{100 * precision:.1f} %",
                "expected matches": UNKNOWN if matches is None else f"{matches:,.0f}",
            }
        )
    return rows


def _figures(params: Params, metrics: Mapping[str, float], licence: str | None) -> str:
    method = params.method(params.registry.method)
    trains = method.trains
    sources = f"{'Trained' if trains else 'Not trained here; scores scaled'} on {', '.join(params.sources.datasets)}."
    measured = _table(f"{RESULTS}:", result_rows(params, metrics))
    estimated = _table(f"{ESTIMATES}:", estimate_rows(params, metrics))
    weights = [f"{'Began with weights' if trains else 'Weights'} {method.backbone.weights}: licence {licence}."]
    return "\n\n".join([sources, *(weights if licence else []), *measured, *estimated])


def _table(title: str, rows: list[dict[str, str]]) -> list[str]:
    """Return a title and a table in Markdown; nothing without rows."""
    if not rows:
        return []
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return [title, "\n".join(f"| {' | '.join(line)} |" for line in lines)]
