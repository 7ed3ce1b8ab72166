"""Export the network that was adapted to a target as ONNX."""

from qaconv.config import Params
from qaconv.paths import ADAPTED, ADAPTED_ONNX
from qaconv.stages.export import export_folder


def export_adapted(params: Params, target: str) -> None:
    """Write artifacts/adapted_onnx/<target>: `encoder.onnx`, `matcher.onnx` and `contract.json`.

    Raises:
        InputError: no network was adapted to the target, or its graphs do not agree with it.
    """
    export_folder(ADAPTED / target, ADAPTED_ONNX / target, seed=params.seed)
