"""A release and its figures go in; MLflow's pages say what each registered model is, and how good the version is."""

from collections.abc import Mapping
from itertools import product

from mlflow import MlflowClient

from qaconv.config import METHODS, Params
from qaconv.matching.rerankers import configured_reranker
from qaconv.metrics.rankings import list_rankings, method_label, metric_name

MODEL = """Person re-identification by QAConv: query and gallery crops with camera and time go in, ranked matches with \
probability, decision and correspondences come out.

    mlflow.pyfunc.load_model("models:/{name}@champion").predict(crops)

`{name}-encoder` and `{name}-matcher` are its two ONNX graphs. `serving_input_example.json` of a version is a whole \
request; its `contract.json` says sizes, value ranges and what a score means."""
ENCODER = "ONNX: crops uint8 RGB [N, H, W, 3] to feature maps [N, C, h, w]. A part of `{name}`."
MATCHER = "ONNX: maps of queries and gallery to logits [Q, G]; higher is a better match. A part of `{name}`."


def describe(name: str, version: str, params: Params, metrics: Mapping[str, float]) -> None:
    """Fills in what the registry says of the three models and of the version; what people wrote there stays.

    Args:
        name: of the registered model.
        version: of it.
        params: what it was trained and measured on.
        metrics: as `runs.load_metrics` gives them.
    """
    client = MlflowClient()
    for model, words in ((name, MODEL), (f"{name}-encoder", ENCODER), (f"{name}-matcher", MATCHER)):
        if not client.get_registered_model(model).description:
            client.update_registered_model(model, words.format(name=name))
    if not client.get_model_version(name, version).description:
        client.update_model_version(name, version, _figures(params, metrics))


def result_rows(params: Params, metrics: Mapping[str, float]) -> list[dict[str, str]]:
    """A row a target and method: rank-1 / mAP in per cent, by kind of ranking."""
    rankings = list_rankings(configured_reranker(params.evaluate.rerank))
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
