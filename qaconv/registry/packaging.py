"""Package a version as one MLflow model that ranks crops without this repository, torch or a GPU."""

import base64
import json
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import AnyType, Array, Object, Property
from numpy.typing import NDArray
from PIL import Image

from qaconv.registry.pyfunc import DEFAULTS
from qaconv.release.evidence import Evidence
from qaconv.release.site_evidence import SiteEvidence
from qaconv.runtime.integrity import write_digests
from qaconv.runtime.model import ServedModel

PACKAGE = Path(__file__).parents[1]  # qaconv
SHIPPED = (
    "__init__.py",
    "errors.py",
    "files.py",
    "runtime",
    "tables.py",
    "times.py",
    "tlift",
)  # code that goes with a version
SERVED, EVIDENCE = "artifacts/served", "artifacts/evidence.json"  # paths in a version, set by MLflow
REQUIRED = ("mlflow", "numpy", "onnxruntime", "pandas", "pillow", "pydantic", "scipy", "simplejpeg")
BLOCK = 8  # pixels of a colour block in the example


def log_served(
    name: str, onnx: Path, profiles: Mapping[str, Path], versions: Mapping[str, str], evidence: Evidence | SiteEvidence
) -> str:
    """Log the model in the open run and return its `models:/` address.

    Args:
        name: name of the model.
        onnx: folder with encoder.onnx, matcher.onnx and contract.json.
        profiles: files of the temporal profiles, by target.
        versions: registered versions of the graphs.
        evidence: for the gate.
    """
    with TemporaryDirectory() as scratch:
        served, code, evidence_path = (Path(scratch) / part for part in ("served", "qaconv", "evidence.json"))
        evidence.save(evidence_path)
        shutil.copytree(onnx, served)
        (served / "versions.json").write_text(json.dumps(dict(versions)), encoding="utf-8")
        (served / "tlift").mkdir()
        for target, profile in profiles.items():
            shutil.copy(profile, served / "tlift" / f"{target}.json")
        write_digests(served)
        _copy_code(code)
        model = ServedModel(served)
        logged = mlflow.pyfunc.log_model(
            name=name,
            python_model=str(Path(__file__).with_name("pyfunc.py")),
            artifacts={"served": str(served), "evidence": str(evidence_path)},
            code_paths=[str(code)],
            signature=ModelSignature(INPUTS, OUTPUTS, _schema(DEFAULTS)),
            input_example=(example_crops(*model.crop_size), DEFAULTS),
            pip_requirements=[f"{package}=={version(package)}" for package in REQUIRED],
        )
    return str(logged.model_uri)


def example_crops(height: int, width: int) -> pd.DataFrame:
    """Make a query and two gallery images of coloured blocks; the first of the two is the query itself."""
    rng = np.random.default_rng(0)
    shape = (-(-height // BLOCK), -(-width // BLOCK), 3)
    first, second = (_png(rng.integers(0, 256, shape, dtype=np.uint8), height, width) for _ in range(2))
    return pd.DataFrame(
        {
            "role": ["query", "gallery", "gallery"],
            "id": ["asked", "same", "other"],
            "image": [first, first, second],
            "camid": [0, 1, 1],
            "time_s": [10.0, 40.0, 900.0],
        }
    )


def _copy_code(folder: Path) -> None:
    for part in SHIPPED:
        if (PACKAGE / part).is_dir():
            shutil.copytree(PACKAGE / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            folder.mkdir(exist_ok=True)
            shutil.copy(PACKAGE / part, folder / part)


def _png(blocks: NDArray[np.uint8], height: int, width: int) -> str:
    pixels = blocks.repeat(BLOCK, axis=0).repeat(BLOCK, axis=1)[:height, :width]
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def _schema(params: Mapping[str, Any]) -> ParamSchema:
    kinds = {bool: DataType.boolean, int: DataType.long, float: DataType.double, str: DataType.string}
    return ParamSchema([ParamSpec(name, kinds[type(default)], default) for name, default in params.items()])


ANY = AnyType()  # type: ignore[no-untyped-call]
INPUTS = Schema(
    [
        ColSpec(DataType.string, "role"),
        ColSpec(DataType.string, "id", required=False),
        ColSpec(DataType.string, "image"),
        ColSpec(ANY, "camid"),  # number or name
        ColSpec(ANY, "time_s", required=False),  # seconds or a date
        ColSpec(DataType.string, "track", required=False),
    ]
)
_PLACE = Array(DataType.double)
_CORRESPONDENCE = Object(
    [
        Property("query", _PLACE),
        Property("gallery", _PLACE),
        Property("cosine", DataType.double),
        Property("share", DataType.double),
        Property("asked_by", DataType.string),
    ]
)
OUTPUTS = Schema(
    [
        ColSpec(DataType.string, "query"),
        ColSpec(DataType.string, "gallery"),
        ColSpec(DataType.long, "rank"),
        ColSpec(DataType.double, "score"),
        ColSpec(DataType.double, "probability"),
        ColSpec(DataType.string, "probability_from"),
        ColSpec(DataType.boolean, "match"),
        ColSpec(DataType.double, "lifted", required=False),
        ColSpec(Array(_CORRESPONDENCE), "correspondences"),
        ColSpec(Array(DataType.string), "sightings", required=False),  # where the input has tracks
    ]
)
