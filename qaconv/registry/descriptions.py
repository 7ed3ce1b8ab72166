"""Describe the registered models and a version's results on MLflow's pages."""

from collections.abc import Mapping
from itertools import product

from mlflow import MlflowClient

from qaconv.config import METHODS, Params
from qaconv.metrics.rankings import list_rankings, method_label, metric_name

MODEL = """Person re-identification by QAConv. Takes query and gallery crops with camera and time, and returns \
ranked matches with probability, decision and correspondences.

    mlflow.pyfunc.load_model("models:/{name}@champion").predict(crops)

`{name}-encoder` and `{name}-matcher` are its two ONNX graphs. A version's \
`serving_input_example.json` is a whole request, and its `contract.json` has sizes, value ranges and the meaning of a \
score."""
ENCODER = "ONNX: crops uint8 RGB [N, H, W, 3] to feature maps [N, C, h, w]. Part of `{name}`."
MATCHER = "ONNX: maps of queries and gallery to logits [Q, G]; higher is a better match. Part of `{name}`."


def describe(name: str, version: str, params: Params, metrics: Mapping[str, float]) -> None:
    """Describe the three models and the version in the registry, where no description exists yet.

    Args:
        name: name of the registered model.
        version: its version.
        params: training datasets and targets.
        metrics: of the targets, as `runs.load_metrics` returns them.
    """
    client = MlflowClient()
    for model, text in ((name, MODEL), (f"{name}-encoder", ENCODER), (f"{name}-matcher", MATCHER)):
        if not client.get_registered_model(model).description:
            client.update_registered_model(model, text.format(name=name))
    if not client.get_model_version(name, version).description:
        client.update_model_version(name, version, _figures(params, metrics))


def result_rows(params: Params, metrics: Mapping[str, float]) -> list[dict[str, str]]:
    """Return a row for each target and method: rank-1 / mAP in per cent, by ranking."""
    rankings = list_rankings(params.evaluate.rerank)
    rows = []
    for target, method in product(params.targets, METHODS):
        row = {"target": target, "model": method_label(method)}
        for ranking in rankings:
            rank1, mean_ap = (
                metrics[metric_name(method, ranking.key, figure, target=target)] for figure in ("rank1", "mAP")
            )
            row[ranking.label] = f"{100 * rank1:.1f} / {100 * mean_ap:.1f}"
        rows.append(row)
    return rows


def _figures(params: Params, metrics: Mapping[str, float]) -> str:
    rows = result_rows(params, metrics)
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    table = [f"| {' | '.join(line)} |" for line in lines]
    trained = f"Trained on {', '.join(params.train.datasets)}. rank-1 / mAP in per cent:"
    return "\n".join([trained, "", *table])
