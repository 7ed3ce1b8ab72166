"""Rows of query and gallery crops go in; each query's gallery, ranked, comes out: what `mlflow models serve` runs.

MLflow keeps this file as the model's code and runs it when a version is loaded.
"""

import base64
import binascii
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext
from numpy.typing import NDArray

from qaconv.errors import InputError
from qaconv.runtime.correspondences import correspondences
from qaconv.runtime.crops import read_crop
from qaconv.runtime.model import ServedModel

ROLES = ("query", "gallery")
BATCH = 64  # crops encoded at a time


class Ranker(PythonModel):
    """A registered version behind MLflow's interface."""

    def load_context(self, context: PythonModelContext) -> None:
        self.model = ServedModel(Path(context.artifacts["served"]))

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """A row a query and gallery image, best first.

        Args:
            context: not used.
            model_input: a row a crop: `role` (query or gallery), `image` (a JPEG or PNG file in base64), `camid`, and
                where known `time_s` (seconds on that camera's clock) and `id` (a name; else the row's number).
            params: `top_k` gallery images a query; `threshold`, the probability above which it is a match, else
                `ServedModel.threshold`; `target`, whose temporal profile lifts scores ("" lifts none);
                `correspondences` a pair.

        Returns:
            query and gallery (ids), rank (from 1), score (logit), probability, match, lifted (what ranks where times
            count, else NaN) and correspondences.
        """
        asked = {"threshold": self.model.threshold, **DEFAULTS, **(params or {})}
        sides = [_side(model_input, role) for role in ROLES]
        query_maps, gallery_maps = (self._maps(side["image"]) for side in sides)
        query, gallery = sides
        target = asked["target"]
        if target and target not in self.model.targets:
            raise InputError(f"target: {target!r} has no profile; legal are {self.model.targets} and ''")
        logits = self.model.score(query_maps, gallery_maps)
        lifted = self.model.lift(target, logits, query["camid"], query["time_s"], gallery["camid"], gallery["time_s"])
        order = np.argsort(-(logits if lifted is None else lifted), axis=1, kind="stable")[:, : int(asked["top_k"])]
        probability = self.model.probability(logits)
        rows = [
            {
                "query": query["id"][row],
                "gallery": gallery["id"][column],
                "rank": rank,
                "score": float(logits[row, column]),
                "probability": float(probability[row, column]),
                "match": bool(probability[row, column] > asked["threshold"]),
                "lifted": float("nan") if lifted is None else float(lifted[row, column]),
                "correspondences": [
                    {**found._asdict(), "query": list(found.query), "gallery": list(found.gallery)}
                    for found in correspondences(
                        query_maps[row], gallery_maps[column], self.model.head, int(asked["correspondences"])
                    )
                ],
            }
            for row in range(len(query))
            for rank, column in enumerate(order[row], start=1)
        ]
        return pd.DataFrame(rows, columns=COLUMNS)

    def _maps(self, images: pd.Series) -> NDArray[np.float32]:
        crops = np.stack([read_crop(_bytes(image), *self.model.crop_size) for image in images])
        return np.concatenate([self.model.encode(crops[at : at + BATCH]) for at in range(0, len(crops), BATCH)])


DEFAULTS: dict[str, Any] = {"top_k": 10, "target": "", "correspondences": 5}
COLUMNS = ["query", "gallery", "rank", "score", "probability", "match", "lifted", "correspondences"]


def _side(table: pd.DataFrame, role: str) -> pd.DataFrame:
    """The rows of one role, with every column; numbered from 0.

    Raises:
        InputError: a role is unknown, or nothing has this one.
    """
    unknown = sorted(set(table["role"]) - set(ROLES))
    if unknown:
        raise InputError(f"role: has {unknown}; legal are {', '.join(ROLES)}")
    names = table["id"] if "id" in table else pd.Series(table.index.astype(str), table.index)
    times = table["time_s"] if "time_s" in table else pd.Series(np.nan, table.index)
    rows = table.assign(id=names.fillna(pd.Series(table.index.astype(str), table.index)), time_s=times.astype(float))
    rows = rows[rows["role"] == role].reset_index(drop=True)
    if rows.empty:
        raise InputError(f"role: no row has {role}; legal is at least one")
    return rows


def _bytes(image: str) -> bytes:
    try:
        return base64.b64decode(image, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"image: is not base64: {error}") from error


set_model(Ranker())
