"""A service for tests whose people are three colours: crops of one colour show one person."""

from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from qaconv.runtime.contract import Contract, HeadNumbers
from qaconv.runtime.model import ServedModel
from qaconv.serving.messages import NewSighting
from qaconv.serving.service import Service
from qaconv.serving.storage import Records
from qaconv.tlift import TLiftProfile
from qaconv.tlift.calibration import Calibration
from qaconv.tlift.probability import MatchOdds
from qaconv.tlift.transit import TransitTable
from tests.small_service import SETTINGS, small_model, text

HEAD = HeadNumbers(query=[5e-5, 5e-5], gallery=[5e-5, 5e-5], bias=-6, average=0)  # one colour: about 5; two: -6
NEUTRAL = TransitTable(centres=(None, None, None))  # for each two of three cameras
ODDS = MatchOdds(Calibration((-6.0, 5.0), (-6.0, 5.0)), threshold=0.9, sightings=1_000, span_s=10_000.0)
PATIENCE_S = 30.0


def tell_colours_apart(graphs: Path, profiles: Path) -> None:
    """Change a small model's contract and profiles, so that their probabilities hold for colours."""
    Contract.load(graphs).model_copy(update={"head": HEAD}).save(graphs)
    for path in profiles.rglob("*.json"):
        replace(TLiftProfile.load(path), match_odds=ODDS, transit=NEUTRAL).save(path)


def colour_model(folder: Path, encoder: str = "encoder", targets: Sequence[str] = ("mall", "station")) -> ServedModel:
    """Write and load a model that tells colours apart."""
    small_model(folder, encoder, targets)
    tell_colours_apart(folder, folder / "tlift")
    return ServedModel(folder, threads=1)


def colour_service(folder: Path) -> Service:
    """Open a service with its galleries in `folder`, where another one finds them again."""
    return Service(Records(folder / "state"), SETTINGS, "1", colour_model(folder / "model"))


def colour_crop(person: int, number: int) -> bytes:
    """Return a PNG in the colour of one of three people; `number` makes each another file."""
    pixels = np.zeros((8, 4, 3), dtype=np.uint8)
    pixels[..., person] = 220 + number % 20
    pixels[0, 0, (person + 1) % 3] = number // 20
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def seen(person: int, number: int, camid: int | None = None, track: str | None = None) -> NewSighting:
    """Return a sighting of a person, 100 s after the one of the number before, on a camera of its own by default."""
    return NewSighting(colour_crop(person, number), number % 3 if camid is None else camid, 100.0 * number, None, track)


def enrol_people(service: Service, count: int, first: int = 0) -> list[int]:
    """Enrol `count` sightings of the three people in turn."""
    return service.enrol(
        "mall", [seen(number % 3, number, number // 3 % 3) for number in range(first, first + count)]
    ).ids


def update(service: Service, target: str = "mall") -> None:
    """Update identities, and wait for the end."""
    service.identities.start(target)
    wait(service, target)


def wait(service: Service, target: str = "mall") -> None:
    """Wait for the end of an update."""
    thread = service.identities.updates._thread
    if thread:
        thread.join(PATIENCE_S)
    assert service.identities.updates.progress(target).state == "idle"


def identities(service: Service, target: str = "mall") -> dict[int, int]:
    """Return the identity of each sighting."""
    table = service.identities._store.table(target)
    return dict(zip(table["sighting"].tolist(), table["identity"].tolist(), strict=True))


def enrolment(first: int, count: int) -> dict[str, Any]:
    """Return the body of an enrolment of `count` sightings of the three people in turn, from number `first` on."""
    return {
        "sightings": [
            {
                "image": text(colour_crop(number % 3, number)),
                "camid": number // 3 % 3,
                "time_s": 100.0 * number,
                "person": f"p{number % 3}",
            }
            for number in range(first, first + count)
        ]
    }
