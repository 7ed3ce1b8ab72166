import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient

from qaconv.config import Params
from qaconv.registry import aliases, find_release, load_evidence
from qaconv.release.evidence import Evidence
from tests.tracked_projects import MODELS, pointed_to, retrain, write_estimated


def numbers() -> dict[str, int]:
    return {name: len(MlflowClient().search_model_versions(f"name = '{name}'")) for name in MODELS}


def test_the_first_version_becomes_challenger_and_champion(params: Params) -> None:
    release, outcome = retrain(params)
    assert outcome.reason == "qaconv version 1 becomes the champion: there was no champion."
    assert aliases(release) == ["challenger", "champion"]
    assert pointed_to("champion") == pointed_to("challenger") == dict.fromkeys(MODELS, "1")


def test_a_version_names_its_graphs_contract_and_profiles(registered: Params) -> None:
    release = find_release("qaconv", "1")
    assert release is not None
    folder = Path(mlflow.artifacts.download_artifacts("models:/qaconv@champion")) / "artifacts/served"
    assert json.loads((folder / "versions.json").read_text()) == {"encoder_version": "1", "matcher_version": "1"}
    assert (folder / "contract.json").read_bytes() == Path("artifacts/onnx/contract.json").read_bytes()
    assert sorted(path.name for path in (folder / "tlift").iterdir()) == ["mall.json", "station.json"]
    evidence = load_evidence(release)
    assert isinstance(evidence, Evidence)
    assert evidence.mean_average_precision("mall") == 0.5
    assert evidence == Evidence.load(folder.parent / "evidence.json")
    tags = MlflowClient().get_model_version("qaconv", release.version).tags
    assert tags["station.qaconv.direct.mAP"] == "0.25"
    assert {"git_commit", "git_dirty", "dvc_lock", "encoder_version", "matcher_version", "promotion"} < tags.keys()


def test_the_registry_describes_a_version_and_keeps_what_people_wrote(registered: Params) -> None:
    client = MlflowClient()
    assert "| station | qaconv | " in (client.get_model_version("qaconv", "1").description or "")
    assert "models:/qaconv@champion" in (client.get_registered_model("qaconv").description or "")
    client.update_registered_model("qaconv-encoder", "ours")
    client.update_model_version("qaconv", "1", "the one from spring")
    retrain(registered)
    assert client.get_registered_model("qaconv-encoder").description == "ours"
    assert client.get_model_version("qaconv", "1").description == "the one from spring"


def test_a_version_of_a_target_without_labels_says_so_in_tags_and_description(params: Params) -> None:
    write_estimated(Path("metrics"), "mall", share=0.75)
    _, outcome = retrain(params)
    assert outcome.promoted
    version = MlflowClient().get_model_version("qaconv", "1")
    assert version.tags["estimated"] == "mall"
    assert version.tags["mall.qaconv.expected.share_with_match"] == "0.75"
    assert [name for name in version.tags if name.endswith("mAP")] == ["station.qaconv.direct.mAP"]
    measured, _, estimated = (version.description or "").partition("Estimated, no labels")
    assert "| station | qaconv | " in measured and "mall" not in measured
    assert "| mall | qaconv | used | 16 | 75.0 % | – | 1 |" in estimated and "station" not in estimated


def test_the_same_lock_registers_nothing_new(registered: Params) -> None:
    again, outcome = retrain(registered)
    assert again == find_release("qaconv", "1")
    assert (outcome.verdict, outcome.reason) == ("unchanged", "qaconv version 1 is the champion already.")
    assert numbers() == dict.fromkeys(MODELS, 1)


def test_an_interrupted_registration_is_completed(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken, pytest.raises(ConnectionError):
        broken.setattr("qaconv.registry.registration.log_served", lambda *_: (_ for _ in ()).throw(ConnectionError()))
        retrain(params)
    retrain(params)
    assert numbers() == dict.fromkeys(MODELS, 1)


def test_signatures_are_the_graphs_own_with_any_batch_size(registered: Params) -> None:
    encoder = mlflow.models.get_model_info("models:/qaconv-encoder@champion").signature.to_dict()
    matcher = mlflow.models.get_model_info("models:/qaconv-matcher@champion").signature.to_dict()

    def tensor(name: str, dtype: str, shape: list[int]) -> dict[str, Any]:
        return {"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": shape}, "name": name}

    assert json.loads(encoder["inputs"]) == [tensor("images", "uint8", [-1, 4, 2, 3])]
    assert json.loads(encoder["outputs"]) == [tensor("maps", "float32", [-1, 3, 2, 1])]
    assert json.loads(matcher["inputs"]) == [
        tensor("query_maps", "float32", [-1, 3, 2, 1]),
        tensor("gallery_maps", "float32", [-1, 3, 2, 1]),
    ]
    assert json.loads(matcher["outputs"]) == [tensor("logits", "float32", [-1, -1])]


WITHOUT_THE_PACKAGE = """
import mlflow, numpy, onnxruntime
try:
    import qaconv
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("the package can be imported, so this proves nothing")
encoder, matcher = (
    onnxruntime.InferenceSession(mlflow.onnx.load_model(f"models:/qaconv-{name}@champion").SerializeToString())
    for name in ("encoder", "matcher")
)
images = numpy.full((3, 4, 2, 3), 2, dtype=numpy.uint8)
(maps,) = encoder.run(None, {"images": images})
(logits,) = matcher.run(None, {"query_maps": maps[:2], "gallery_maps": maps})
print(logits.tolist())
"""


def test_graphs_load_from_the_registry_where_this_package_is_not_installed(registered: Params, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    # Without `site` the .pth file that installs this package from its folder is not read.
    settings = {"PYTHONPATH": sysconfig.get_path("purelib"), "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri()}
    command = [sys.executable, "-S", "-P", "-c", WITHOUT_THE_PACKAGE]
    done = subprocess.run(
        command, cwd=elsewhere, env={**os.environ, **settings}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[24.0] * 3] * 2  # 6 features of 2 * 2
