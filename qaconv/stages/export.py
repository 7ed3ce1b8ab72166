"""The trained network goes in; what is served comes out."""

from qaconv.config import Params
from qaconv.export import export_network
from qaconv.metrics import Calibration
from qaconv.models.checkpoint import load_network
from qaconv.stages.places import MODELS, ONNX


def export(params: Params) -> None:
    """Writes artifacts/onnx: `encoder.onnx`, `matcher.onnx` and `contract.json`.

    Raises:
        InputError: there is no trained network, or its graphs do not agree with it.
    """
    network, trained = load_network(MODELS / "qaconv")
    fitted = trained["calibration"]
    calibration = Calibration(**fitted) if fitted else None
    export_network(network, trained["data"], ONNX, calibration=calibration, seed=params.seed)
