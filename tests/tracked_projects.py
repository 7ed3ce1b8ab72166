"""Small projects that have run all stages, with made-up results, for tests of what comes after."""

import functools
import json
import shutil
import sqlite3
import subprocess
from collections.abc import Mapping
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx
import pandas as pd
import yaml
from mlflow import MlflowClient
from onnx import TensorProto, helper

from qaconv.config import Params, load_params
from qaconv.matching.rerankers import KReciprocal
from qaconv.metrics.metrics_file import RankingFigures
from qaconv.metrics.rankings import list_rankings
from qaconv.registry import Release, register
from qaconv.registry.promotion import promote
from qaconv.registry.runs import load_metrics, retraining_run
from qaconv.registry.sites import log_adaptation, register_adapted
from qaconv.release.gate import Outcome
from qaconv.report.page import RUN
from qaconv.runtime.contract import ENCODER, MATCHER, Contract, CropResize, Graph, HeadNumbers, Score
from qaconv.tlift import TLiftProfile

REPOSITORY = Path(__file__).parents[1]
METHODS = ("qaconv", "baseline")
MODELS = ("qaconv", "qaconv-encoder", "qaconv-matcher")
HISTORY = "epoch,loss,accuracy,lr\n1,2.5,0.25,0.1\n2,1.5,0.5,0.01\n"
EVALUATE = """mkdir -p metrics/cmc metrics/queries
for file in $1.json cmc/$1.csv queries/$1.parquet; do cp made_up/metrics/$file metrics/$file; done
"""
STAGES = """
stages:
  prepare:
    foreach: ${datasets}
    do:
      cmd: mkdir -p data/prepared/${key} && echo ${key} >data/prepared/${key}/manifest
      outs: ["data/prepared/${key}"]
  sources:
    cmd: ls data/prepared >data/sources
    deps: [data/prepared]
    outs: [data/sources]
  train:
    foreach: ${methods}
    do:
      cmd: mkdir -p artifacts/model && cp -r made_up/artifacts/model/${key} artifacts/model/
      deps: [data/sources]
      outs: ["artifacts/model/${key}"]
  features:
    foreach: ${targets}
    do:
      cmd: mkdir -p artifacts/features && echo ${item} >artifacts/features/${item}
      deps: [artifacts/model, "data/prepared/${item}"]
      outs: ["artifacts/features/${item}"]
  match:
    foreach: ${targets}
    do:
      cmd: mkdir -p artifacts/matches && echo >artifacts/matches/${item}
      deps: ["artifacts/features/${item}"]
      outs: ["artifacts/matches/${item}"]
  rerank:
    foreach: ${targets}
    do:
      cmd: mkdir -p artifacts/reranked && ls artifacts/matches/${item} >artifacts/reranked/${item}
      deps: ["artifacts/matches/${item}"]
      outs: ["artifacts/reranked/${item}"]
  fit_tlift:
    foreach: ${targets}
    do:
      cmd: mkdir -p artifacts/tlift && cp -r made_up/artifacts/tlift/${item} artifacts/tlift/
      deps: ["data/prepared/${item}", "made_up/artifacts/tlift/${item}"]
      outs: ["artifacts/tlift/${item}"]
  identify:
    foreach: ${targets}
    do:
      cmd: mkdir -p artifacts/identities && echo ${item} >artifacts/identities/${item}
      deps: ["artifacts/tlift/${item}"]
      outs: ["artifacts/identities/${item}"]
  evaluate:
    foreach: ${targets}
    do:
      cmd: sh evaluate.sh ${item}
      deps: [artifacts/model, evaluate.sh, "made_up/metrics/${item}.json"]
      outs: ["metrics/${item}.json", "metrics/cmc/${item}.csv", "metrics/queries/${item}.parquet"]
  adapt:
    foreach: ${adapt.targets}
    do:
      cmd: mkdir -p artifacts/adapted && cp -r made_up/artifacts/adapted/${item} artifacts/adapted/
      deps: [artifacts/model/qaconv, "artifacts/tlift/${item}", "made_up/artifacts/adapted/${item}"]
      outs: ["artifacts/adapted/${item}"]
  report:
    cmd: cp -r made_up/artifacts/report artifacts/
    deps: [metrics]
    outs: [artifacts/report]
  export:
    cmd: cp -r made_up/artifacts/onnx artifacts/
    deps: [artifacts/model/qaconv]
    outs: [artifacts/onnx]
  export_adapted:
    foreach: ${adapt.targets}
    do:
      cmd: mkdir -p artifacts/adapted_onnx && cp -r made_up/artifacts/adapted_onnx/${item} artifacts/adapted_onnx/
      deps: ["artifacts/adapted/${item}"]
      outs: ["artifacts/adapted_onnx/${item}"]
"""
MODEL = "b" * 64
ADAPTED_MODEL = "c" * 64
MD5 = f"{'a' * 32}.dir"


def write_project(folder: Path, maps: Mapping[str, float] = {"station": 0.25, "mall": 0.5}) -> Params:
    """Write params, outputs and dvc.lock of a project that has been run; `maps` is QAConv's direct mAP by target."""
    settings = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    settings["targets"] = list(maps)
    settings["adapt"]["targets"] = []
    settings["gate"]["min_gain"] = 0.5
    write(folder / "params.yaml", yaml.safe_dump(settings))
    for method in METHODS:
        write(folder / f"artifacts/model/{method}/history.csv", HISTORY)
        write(folder / f"artifacts/model/{method}/weights.safetensors", f"weights of {method}")
    for target in maps:
        for method in METHODS:
            write_profile(folder / f"artifacts/tlift/{target}/{method}.json", target)
        write(folder / f"metrics/cmc/{target}.csv", "rank,qaconv_direct\n1,0.5\n")
    measure_again(folder / "metrics", maps)
    write(folder / "artifacts/report/report.html", f"<main>{RUN}</main>")
    write(folder / "artifacts/report/report.json", "{}")
    write_graphs(folder / "artifacts/onnx")
    write_lock(folder, maps)
    copy_store(folder)
    return load_params(folder / "params.yaml")


def write_pipeline(folder: Path) -> None:
    """Write a project that has not been run. Its DVC stages copy the files of `write_project` from made_up."""
    write_project(folder)
    write_adapted(folder, "station")
    (folder / "dvc.lock").unlink()
    for name in ("artifacts", "metrics"):
        shutil.move(folder / name, folder / "made_up" / name)
    write(folder / "dvc.yaml", STAGES)
    write(folder / "evaluate.sh", EVALUATE)
    start_dvc(folder)


def commit_all(folder: Path) -> None:
    """Commit every file of a project, in a new repository if there is none."""
    author = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    for command in (["init", "--quiet"], ["add", "--all"], [*author, "commit", "--quiet", "--message", "A project"]):
        subprocess.run(["git", *command], cwd=folder, check=True)


def start_dvc(folder: Path) -> None:
    """Write what `dvc init --no-scm` writes, without the second that it takes."""
    write(folder / ".dvc/config", "[core]\n    analytics = false\n    no_scm = true\n    check_update = false\n")


def made_up_metrics(direct_map: float) -> dict[str, Any]:
    """Make up a metrics file: every figure is 0.125, except QAConv's direct mAP."""
    figures = dict.fromkeys(RankingFigures.model_fields, 0.125)
    verification = {"matches": 8, "others": 80, "true_match_rate_at_0.01": 0.125, "threshold_at_0.01": 0.125}
    rankings = [ranking.key for ranking in list_rankings(KReciprocal())]
    metrics: dict[str, Any] = {
        method: {**{key: dict(figures) for key in rankings}, "verification": verification} for method in METHODS
    }
    metrics["qaconv"]["direct"]["mAP"] = direct_map
    metrics["qaconv"]["calibration_error"] = 0.03125
    return {**metrics, "queries": 10, "gallery": 40}


def measure_again(folder: Path, maps: Mapping[str, float]) -> None:
    """Write the files of `evaluate` as if the model had these results."""
    for target, value in maps.items():
        write(folder / f"{target}.json", json.dumps(made_up_metrics(value)))
        (folder / "queries").mkdir(parents=True, exist_ok=True)
        made_up_queries(value).to_parquet(folder / f"queries/{target}.parquet")


def write_adapted(folder: Path, target: str, *, low: float = 0.01, after: float = 0.7, began_with: str = MODEL) -> None:
    """Write the files of `adapt` and `export_adapted`.

    Args:
        folder: the project's.
        target: name.
        low: lower end of the interval of the gain in right matches.
        after: share of right matches of the adapted network; 0.6 before.
        began_with: digest of the network that the adaptation began with.
    """
    adapted = folder / "artifacts/adapted" / target
    figures = {"source_map": 0.9}
    right = {"before": 0.6, "after": after, "low": low, "high": 0.2, "count": 20}
    metrics = {"kept_round": 1, "reason": "made up", "right": right, "before": figures, "after": figures}
    write(adapted / "metrics.json", json.dumps(metrics))
    lineage = {"network": began_with, "target": target, "kept_round": 1, "by_camera": False}
    write(adapted / "model.json", json.dumps({"trained": {"adapted": lineage}}))
    write(adapted / "rounds.csv", "round,sightings\n0,0\n1,80\n")
    write_profile(adapted / "profile.json", target, model=ADAPTED_MODEL)
    graphs = folder / "artifacts/adapted_onnx" / target
    write_graphs(graphs)
    set_encoder_digest(graphs, f"adapted to {target}, {after}")


def write_estimated(folder: Path, target: str, share: float | None) -> None:
    """Write the files of `evaluate` for a target without labels; `share` of its searches have a match."""
    keys = ("share_with_match", "share_with_match_low", "share_with_match_high", "stated_threshold", "expected_matches")
    times: dict[str, Any] = {"times": {"used": share is not None, "reason": "made up"}}
    expected = {} if share is None else {"expected": {**dict.fromkeys(keys, share), "marked_answers": 8}}
    counts = dict.fromkeys(("sightings", "cameras", "sightings_with_times", "tracks", "searches"), 16)
    content = {"estimated": True, **counts, **{method: {**times, **expected} for method in METHODS}}
    write(folder / f"{target}.json", json.dumps(content))
    made_up_queries(0.0).head(0).to_parquet(folder / f"queries/{target}.parquet")


def retrain(params: Params, maps: Mapping[str, float] = {}) -> tuple[Release, Outcome]:
    """Register and promote in the working folder, with other results where `maps` has some."""
    measure_again(Path("metrics"), maps)
    if maps:
        write_lock(Path(), maps)
    with retraining_run(params, {}):
        release = register(params, load_metrics(params))
        return release, promote(release, params.gate)


def adapt(params: Params, after: float = 0.7, **figures: Any) -> tuple[Release, Outcome]:
    """Register and promote a network adapted to `station` in the working folder, with figures of `write_adapted`."""
    write_adapted(Path(), "station", after=after, **figures)
    write_lock(Path(), {"station": after, "mall": 0.5, **figures})
    with retraining_run(params, {}):
        log_adaptation("station")
        release = register_adapted(params, "station")
        return release, promote(release, params.gate)


def pointed_to(alias: str) -> dict[str, str]:
    """Return the version that an alias names, by registered model; as text, as SQLite's store has numbers."""
    return {name: str(MlflowClient().get_registered_model(name).aliases.get(alias)) for name in MODELS}


def made_up_queries(direct_map: float) -> pd.DataFrame:
    """Make up a table of queries with the same average precision."""
    images = [f"{number}.png" for number in range(10)]
    return pd.DataFrame({"image": images, "qaconv_direct_average_precision": direct_map})


def write_lock(folder: Path, maps: Mapping[str, float]) -> None:
    """Write a dvc.lock that differs whenever a metric does, as DVC's would."""
    outs = {name: [{"path": f"data/prepared/{name}", "hash": "md5", "md5": MD5}] for name in ("campus", *maps)}
    stages = {f"prepare@{name}": {"cmd": "true", "outs": out} for name, out in outs.items()}
    write(folder / "dvc.lock", yaml.safe_dump({"schema": "2.0", "stages": {**stages, "evaluate": {"cmd": str(maps)}}}))


def write_graphs(folder: Path) -> None:
    """Write an encoder that averages crops [N, 4, 2, 3] to maps [N, 3, 2, 1], a matcher of them, and their contract."""
    folder.mkdir(parents=True, exist_ok=True)
    steps = [
        helper.make_node("Transpose", ["images"], ["channels_first"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["channels_first"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("AveragePool", ["numbers"], ["maps"], kernel_shape=[2, 2], strides=[2, 2]),
    ]
    _save(folder / "encoder.onnx", steps, {"images": (TensorProto.UINT8, ["N", 4, 2, 3])}, {"maps": ["N", 3, 2, 1]})
    steps = [
        helper.make_node("Flatten", ["query_maps"], ["queries"]),
        helper.make_node("Flatten", ["gallery_maps"], ["galleries"]),
        helper.make_node("Gemm", ["queries", "galleries"], ["logits"], transB=1),
    ]
    maps = {name: (TensorProto.FLOAT, [count, 3, 2, 1]) for name, count in (("query_maps", "Q"), ("gallery_maps", "G"))}
    _save(folder / "matcher.onnx", steps, maps, {"logits": ["Q", "G"]})
    Contract(
        crop_resize=CropResize(height=4, width=2),
        graphs={
            name: Graph(sha256=sha256((folder / name).read_bytes()).hexdigest(), largest_difference_from_pytorch=1e-6)
            for name in (ENCODER, MATCHER)
        },
        head=HeadNumbers(query=[0.5, 0.5], gallery=[0.5, 0.5], bias=0, average=0),
        score=Score(better="higher"),
    ).save(folder)


def set_encoder_digest(folder: Path, text: str) -> None:
    """Write a text into the encoder in a folder, which gives it another digest, and change the contract."""
    encoder = onnx.load(folder / ENCODER)
    encoder.doc_string = text
    onnx.save(encoder, folder / ENCODER)
    contract = Contract.load(folder)
    digest = sha256((folder / ENCODER).read_bytes()).hexdigest()
    graph = contract.graphs[ENCODER].model_copy(update={"sha256": digest})
    contract.model_copy(update={"graphs": {**contract.graphs, ENCODER: graph}}).save(folder)


def write_profile(path: Path, target: str, model: str = MODEL) -> None:
    """Write a temporal profile of three cameras, with the paper's parameters."""
    path.parent.mkdir(parents=True, exist_ok=True)
    TLiftProfile(target=target, camids=(0, 1, 2), active=True, reason="made up", model=model).save(path)


def copy_store(folder: Path) -> None:
    """Copy an empty mlflow.db, which MLflow takes seconds to make."""
    (folder / "mlflow.db").write_bytes(_empty_store())


def copy_project(project: Path, folder: Path) -> None:
    """Copy a project that has been registered, in place of the seconds that a registration takes."""
    shutil.copytree(project, folder, dirs_exist_ok=True)
    for path in folder.rglob("MLmodel"):
        write(path, path.read_text(encoding="utf-8").replace(f"{project}/", f"{folder}/"))
    with closing(sqlite3.connect(folder / "mlflow.db")) as store:
        dump = "\n".join(store.iterdump()).replace(f"{project}/", f"{folder}/")  # MLflow stores absolute paths
    (folder / "mlflow.db").unlink()
    with closing(sqlite3.connect(folder / "mlflow.db")) as store:
        store.executescript(dump)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@functools.cache
def _empty_store() -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "mlflow.db"
        MlflowClient(f"sqlite:///{path}").search_experiments()
        return path.read_bytes()


def _save(
    path: Path,
    steps: list[Any],
    inputs: Mapping[str, tuple[int, list[Any]]],
    outputs: Mapping[str, list[Any]],
) -> None:
    graph = helper.make_graph(
        steps,
        path.stem,
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
