"""Match one part of a target's sightings with all of them.

Parts do not depend on each other, so several workers can match one target. In one part each pair is matched once; in
several parts a pair is matched once for each of its two sightings.
"""

import shutil

from qaconv.config import Params
from qaconv.data.manifest import Manifest, is_measured
from qaconv.errors import InputError
from qaconv.files import replacing_folder
from qaconv.matching.all_pairs import match_rows
from qaconv.matching.results import open_maps, share
from qaconv.models.checkpoint import load_network
from qaconv.paths import MATCHES, MODELS, PREPARED
from qaconv.training.device import find_device, out_of_memory_names


def match(params: Params, target: str, part: int) -> None:
    """Write artifacts/matches/<target>/<part>/<method>.safetensors, and delete parts of another `evaluate.parts`.

    Raises:
        InputError: there is no such part, the maps are of other images or another network, or the device is missing.
    """
    parts = params.evaluate.parts
    if part not in parts:
        raise InputError(f"--part must be one of evaluate.parts in params.yaml, {parts}, got {part}")
    sightings = Manifest.load(PREPARED / target).sightings()
    queries = int((sightings["split"] == "query").sum())
    device = find_device(params.machine.device)
    rows = share(len(sightings), part, len(parts))
    for path in MATCHES.joinpath(target).glob("*"):
        if path.name not in map(str, parts):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    remedy = "let machine.device be one with more free memory, or cpu,"
    with out_of_memory_names(remedy), replacing_folder(MATCHES / target / str(part)) as folder:
        for method in params.methods:
            store = open_maps(target, method, sightings["image"])
            maps = store.block(0, len(store))
            head = load_network(MODELS / method)[0].head
            measured, engine = is_measured(sightings), params.evaluate.engine
            matches = match_rows(maps, rows, head, queries, measured, engine, device, model=store.model)
            matches.save(folder / f"{method}.safetensors")
