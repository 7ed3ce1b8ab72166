"""A service of two targets for tests, with a model of two locations and crops of 4 x 2 pixels."""

import base64
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from qaconv.config.operation import ServeConfig
from qaconv.runtime.contract import Probability, Score
from qaconv.runtime.model import ServedModel
from qaconv.serving.messages import Limits, NewSighting, Query
from qaconv.serving.service import Service
from qaconv.serving.storage import Records
from tests.tracked_projects import set_encoder_digest, write_graphs, write_profile

SETTINGS = ServeConfig(memory_mb=1, shortlist=500, requests_per_minute=10_000, poll_s=30, retention_days={})
ANY = Limits()


def small_model(folder: Path, encoder: str = "encoder", targets: Sequence[str] = ("mall", "station")) -> ServedModel:
    """Write and load a model whose encoder has this digest, with profiles of some targets."""
    write_graphs(folder)
    set_encoder_digest(folder, encoder)
    for name in targets:
        write_profile(folder / "tlift" / f"{name}.json", name)
    return ServedModel(folder, threads=1)


def calibrate_gently(model: ServedModel) -> None:
    """Give logits probabilities that are not all 1, so that a mean has another one than a best pair."""
    score = Score(better="higher", probability=Probability(scale=1e-5, offset=-1.0))
    model.contract = model.contract.model_copy(update={"score": score})


def small_service(folder: Path, settings: ServeConfig = SETTINGS) -> Service:
    """Open a service with its galleries in `folder`, where another one finds them again."""
    return Service(Records(folder / "state"), settings, "1", small_model(folder / "model"))


def crop(seed: int) -> bytes:
    """A PNG of noise."""
    file = BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 4, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def text(image: bytes) -> str:
    return base64.b64encode(image).decode()


def enrol(service: Service, count: int, person: str | None = None, first: int = 0) -> list[int]:
    sightings = [NewSighting(crop(first + number), number % 3, 10.0 * number, person) for number in range(count)]
    return service.enrol("mall", sightings).ids


def find(service: Service, seed: int, only: Limits = ANY, top_k: int = 5) -> list[int]:
    (matches,) = service.search("mall", [Query([crop(seed)])], only, top_k).results
    return [match.id for match in matches]


def switch_version(service: Service, version: str, model: ServedModel) -> None:
    """Encode all stored crops with another version, then let it answer."""
    until = service.encode_for(model)
    loaded = service.load(version, model, until)
    with service.changing:
        service.encode_rest(model, until)
        service.switch(loaded)
    service.indexing.keep_only(model)
