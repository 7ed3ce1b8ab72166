"""contract.json of this version, of versions before the key `version`, and of damaged files."""

import json
from pathlib import Path
from typing import Any

import pytest

from qaconv.errors import InputError
from qaconv.runtime.contract import Contract, Decision, Probability

HELD_OUT = {"data": "held-out people", "pairs_of_one_person": 20, "pairs_of_two_people": 3000}
# As registered before the key `version` existed.
OLD: dict[str, Any] = {
    "architecture": {"head": "v2", "pooled": False, "image": {"height": 96, "width": 48}},
    "crop_resize": {"aspect_ratio": "not kept", "filter": "bicubic", "height": 96, "width": 48},
    "graphs": {
        "encoder.onnx": {
            "inputs": [
                {
                    "colour_order": "RGB",
                    "dtype": "uint8",
                    "layout": "NHWC",
                    "maximum": 255,
                    "minimum": 0,
                    "name": "images",
                    "shape": ["N", 96, 48, 3],
                }
            ],
            "largest_difference_from_pytorch": 3.5e-07,
            "opset": 18,
            "outputs": [{"dtype": "float32", "layout": "NCHW", "name": "maps", "shape": ["N", 64, 12, 6]}],
            "sha256": "90a5",
        },
        "matcher.onnx": {
            "inputs": [{"dtype": "float32", "from": "encoder.onnx maps", "name": "query_maps", "shape": ["Q", 64, 12]}],
            "largest_difference_from_pytorch": 7.5e-06,
            "opset": 18,
            "outputs": [{"dtype": "float32", "maximum": None, "minimum": None, "name": "logits", "shape": ["Q", "G"]}],
            "sha256": "0df8",
        },
    },
    "head": {"average": 0.93, "bias": -199.25, "formula": "...", "gallery": [-0.75, 2.0], "query": [-0.75, 2.0]},
    "score": {
        "better": "higher",
        "decision": {
            "false_match_rate": "...",
            "formula": "one person if logit > threshold",
            "measured_on": HELD_OUT,
            "thresholds": [{"false_match_rate": 0.01, "threshold": -1.75, "true_match_rate": 0.95}],
        },
        "kind": "logit",
        "probability": {"fitted_on": HELD_OUT, "formula": "...", "offset": 2.75, "prior": "...", "scale": 1.5},
    },
    "training_data": {"digests": {"campus": "7ecc"}, "images": 2246, "people": 146},
}


def load(folder: Path, values: Any) -> Contract:
    (folder / "contract.json").write_text(json.dumps(values), encoding="utf-8")
    return Contract.load(folder)


def test_a_contract_without_a_version_is_read_and_written_with_all_its_keys(tmp_path: Path) -> None:
    contract = load(tmp_path, OLD)
    assert contract.encoder_digest == "90a5"
    assert isinstance(contract.score.probability, Probability) and contract.score.probability.scale == 1.5
    assert isinstance(contract.score.decision, Decision) and contract.score.decision.thresholds[0].threshold == -1.75
    assert contract.graphs["matcher.onnx"].inputs[0].source == "encoder.onnx maps"
    contract.save(tmp_path)
    written = (tmp_path / "contract.json").read_text(encoding="utf-8")
    assert json.loads(written) == {**OLD, "version": 1}
    assert written == json.dumps({**OLD, "version": 1}, indent=2, sort_keys=True) + "\n"


def test_a_contract_of_a_model_without_held_out_people_is_read(tmp_path: Path) -> None:
    score = {"better": "higher", "probability": "not calibrated", "decision": "nobody was held out"}
    assert load(tmp_path, {**OLD, "score": score}).score.probability == "not calibrated"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, r"contract\.json: version: .*got 2"),
        ({"crop_resize": {"height": "tall", "width": 48}}, r"contract\.json: crop_resize\.height: .*got tall"),
        ({"graphs": {"encoder.onnx": OLD["graphs"]["encoder.onnx"]}}, r"graphs must have matcher\.onnx"),
    ],
)
def test_a_contract_that_cannot_be_served_is_refused_by_key(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        load(tmp_path, {**OLD, **change})


def test_a_folder_without_a_contract_is_refused_by_the_files_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"contract\.json: must be a version's contract: .*No such file"):
        Contract.load(tmp_path)
