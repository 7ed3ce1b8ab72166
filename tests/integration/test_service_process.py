import base64
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from qaconv.serving.auth import SCOPES, add_key
from qaconv.serving.schemas import MOST_CROPS
from tests.integration.running_service import MALL, PATIENCE_S, register_version, running

KILLS = 3
SCHEMATHESIS = """
hooks = "hooks"

[parameters]
"path.target" = "mall"
"""
# A schema cannot describe an image: these are the base64 strings that schemathesis sends. Nor can it bound the crops of
# all queries together, say which characters are printable, or that this target has cameras by number and times in
# seconds: such bodies are left out, and names and dates are replaced.
HOOKS = """
from datetime import datetime

import schemathesis
from hypothesis import strategies as st

schemathesis.openapi.format("base64", st.sampled_from({images}))

@schemathesis.hook
def filter_body(context, body):
    words = [part.get(name) for part in parts(body) for name in ("camid", "track")] + listed(body, "camids")
    if any(isinstance(word, str) and not is_name(word) for word in words):
        return False
    return sum(len(listed(query, "images")) or 1 for query in listed(body, "queries")) <= {crops}

@schemathesis.hook
def before_call(context, case, kwargs):
    for part in [*parts(case.body), *parts(case.query)]:
        part.update({{name: 0.0 for name in ("time_s", "from_s", "to_s") if is_date(part.get(name))}})
        part.update({{name: 0 for name in ("camid",) if is_name(part.get(name))}})
        if isinstance(part.get("camids"), list):
            part["camids"] = [0 if is_short(camera) else camera for camera in part["camids"]]

def parts(body):
    if not isinstance(body, dict):
        return []
    inner = [body, body.get("query"), *listed(body, "sightings"), *listed(body, "queries")]
    return [part for part in inner if isinstance(part, dict)]

def listed(part, name):
    values = part.get(name) if isinstance(part, dict) else None
    return values if isinstance(values, list) else []

def is_short(value):
    return isinstance(value, str) and 1 <= len(value) <= 100

def is_name(value):
    return is_short(value) and value.isprintable() and value == value.strip()

def is_date(value):
    try:
        return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False
"""


def image(seed: int) -> str:
    file = BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 4, 3), dtype=np.uint8)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def sightings(first: int, count: int) -> dict[str, object]:
    return {
        "sightings": [
            {"image": image(row), "camid": row % 3, "time_s": float(row)} for row in range(first, first + count)
        ]
    }


def stored(get: Callable[[str], httpx.Response]) -> list[int]:
    """Return the ids of all stored sightings, by a function that sends a GET request."""
    ids: list[int] = []
    while page := get(f"{MALL}/sightings?after={ids[-1] if ids else 0}&limit=500").json()["sightings"]:
        ids += [sighting["id"] for sighting in page]
    return ids


@pytest.mark.parametrize("is_follower", [False, True], ids=["leader", "follower"])
def test_the_service_fits_its_openapi_document(project: Path, is_follower: bool) -> None:
    key = add_key(project / "keys.json", "tester", SCOPES, None)
    (project / "schemathesis.toml").write_text(SCHEMATHESIS)
    (project / "hooks.py").write_text(HOOKS.format(images=[image(seed) for seed in range(5)], crops=MOST_CROPS))
    with ExitStack() as stack:
        client, _ = stack.enter_context(running(project, "--keys", "keys.json"))
        if is_follower:
            options = "--state", "copy", "--follow", str(client.base_url)
            client, _ = stack.enter_context(running(project, "--keys", "keys.json", *options, QACONV_API_KEY=key))
        client.headers["X-API-Key"] = key
        client.post(f"{MALL}/sightings", json=sightings(0, 3)).raise_for_status()
        command = [
            str(Path(sys.executable).parent / "schemathesis"), "run", f"{client.base_url}/openapi.json",
            "--max-examples", "25", "--seed", "7", "--header", f"X-API-Key: {key}",
        ]  # fmt: skip
        process = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stdout[-8000:]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sightings_that_were_enrolled_before_a_kill_are_stored_after_it(project: Path, workers: str) -> None:
    answered: list[int] = []
    for kill in range(KILLS):
        with running(project, "--workers", workers) as (client, process):
            assert set(answered) <= set(stored(client.get))
            enrolling = threading.Thread(target=enrol_until_refused, args=(client, 1000 * kill, answered))
            enrolling.start()
            time.sleep(0.3 + 0.1 * kill)
            process.kill()
            enrolling.join()
    with running(project) as (client, _):
        ids = stored(client.get)
        body = {"queries": [{"image": image(0)}], "top_k": 200}
        results = client.post(f"{MALL}/search", json=body).json()["results"][0]
        assert answered and set(answered) <= set(ids)
        assert len(ids) % 8 == 0  # a request is enrolled whole or not at all
        assert len(results) == min(len(ids), 200)


def enrol_until_refused(client: httpx.Client, first: int, answered: list[int]) -> None:
    try:
        while True:
            answered += client.post(f"{MALL}/sightings", json=sightings(first, 8)).raise_for_status().json()["ids"]
            first += 8
    except httpx.TransportError:
        return


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_new_champion_is_loaded_under_load_and_no_request_fails(project: Path, workers: str) -> None:
    answers: list[tuple[int, str, int]] = []
    stop = threading.Event()

    def keep_asking(base: httpx.URL) -> None:
        with httpx.Client(base_url=base, timeout=PATIENCE_S) as client:
            while not stop.is_set():
                body = {"queries": [{"image": image(1)}], "top_k": 200}
                answer = client.post(f"{MALL}/search", json=body)
                answers.append((answer.status_code, answer.json().get("version"), len(answer.json()["results"][0])))

    with running(project, "--workers", workers) as (client, _):
        ids = client.post(f"{MALL}/sightings", json=sightings(0, 150)).json()["ids"]
        asking = [threading.Thread(target=keep_asking, args=(client.base_url,)) for _ in range(3)]
        for thread in asking:
            thread.start()
        register_version("another encoder", mean_map=0.9)
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until and (not answers or answers[-1][1] != "2"):
            time.sleep(0.1)
        stop.set()
        for thread in asking:
            thread.join()
    assert {version for _, version, _ in answers} == {"1", "2"}
    assert {(status, count) for status, _, count in answers} == {(200, len(ids))}
    with running(project) as (client, _):
        assert client.get("/readyz").json()["version"] == "2" and stored(client.get) == ids
