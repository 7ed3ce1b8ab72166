"""The commands `qaconv serve`, `serve-key`, `enrol` and `reviews`."""

import base64
import ipaddress
import json
import logging
import os
import re
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pandas as pd
from rich.console import Console

from qaconv.config import Params
from qaconv.data.manifest import JUNK, Manifest
from qaconv.errors import InputError, name_first
from qaconv.paths import PREPARED, REVIEWS
from qaconv.progress import track
from qaconv.reviews.table import COLUMNS, write_reviews
from qaconv.runtime.decode import DecodeError, count_pixels
from qaconv.serving import server
from qaconv.serving.auth import add_key
from qaconv.serving.bounds import LARGEST_BODY, MOST_PIXELS
from qaconv.serving.fields import LARGEST_IMAGE
from qaconv.serving.process import ServiceSettings, run_alone, run_worker
from qaconv.serving.replication.client import LeaderClient
from qaconv.serving.replication.follower import LeaderVersions, begin_following
from qaconv.serving.replication.history import own_folder
from qaconv.serving.replication.link import Link, write_link
from qaconv.serving.storage import Records
from qaconv.serving.telemetry import count_over_workers, log_as_json
from qaconv.serving.workers import run_workers

log = logging.getLogger(__name__)
T = TypeVar("T")

BATCH = 128  # most sightings of a request
PAGE = 500  # answers of reviewers read at a time
WAIT_S = 10.0  # before a request is repeated
LONGEST_WAIT_S = 600.0  # until a request is accepted
JSON = {"Content-Type": "application/json"}
BODY = '{"sightings": [%s]}'


def serve(
    params: Params,
    host: str,
    port: int,
    state: Path,
    keys: Path | None,
    target: str | None = None,
    workers: int = 1,
    follow: str | None = None,
) -> None:
    """Run the service until it is stopped.

    Args:
        params: settings `serve` and `registry`.
        host: address to listen on.
        port: to listen on.
        state: folder of the galleries and the active version.
        keys: file of keys. None: no key is asked for; `host` must be this machine.
        target: the one to serve, with its own champion if it has one. Default: all.
        workers: number of processes that answer.
        follow: address of the leader whose galleries are copied. Default: the galleries are this service's own.

    Raises:
        InputError: there is no champion, `keys` is missing, another process uses `state`, the galleries do not fit into
            memory, the port is taken, or `state` is no copy of the leader's galleries.
    """
    if keys is None and not _is_loopback(host):
        raise InputError(f"--host {host}: others can reach it, so --keys must name a file of keys")
    if follow is not None:
        _check_access("--follow", follow)
        if target is not None:
            raise InputError(f"--target {target}: is the leader's to say; --follow copies what it serves")
    settings = ServiceSettings(params, host, state, keys, target, workers, follow)
    records = Records(state)  # first, as its lock keeps other services from all of the folder
    address = f"http://{host}:{port}/"
    try:
        if follow is None:
            own_folder(records)
        else:
            _begin_following(records, settings.versions, follow)
        if workers == 1:
            run_alone(settings, records, partial(server.listen, host, port), address)
        else:
            with server.listen(host, port) as listener:
                count_over_workers(state / "metrics")
                log.info("%d workers answer at %s", workers, address)
                log_as_json()
                run_workers(workers, partial(run_worker, settings), listener, records.folder_lock)
        if follow is not None and Link(state).is_closed:
            raise InputError(f"{state}: does not continue the gallery of {follow}; the log above says why")
    finally:
        records.close()


def serve_key(name: str, keys: Path, scopes: Sequence[str], targets: Sequence[str] | None) -> None:
    """Make a key, print it, and add its hash to the file."""
    Console(soft_wrap=True, highlight=False, markup=False).print(add_key(keys, name, scopes, targets))


def enrol(target: str, url: str) -> None:
    """Send the gallery images of data/prepared/<target>, without junk, to a service. What is there is not stored again.

    Of a target without labels all sightings are sent: its queries are a sample that was drawn for the estimates.

    Raises:
        InputError: the target is not prepared, the address or the key cannot be one, an image has too many bytes, or
            the service refuses or does not answer.
    """
    _check_access("--url", url)
    manifest = Manifest.load(PREPARED / target)
    frame = manifest.split("gallery") if manifest.is_labelled else manifest.sightings()
    rows = frame.query(f"pid != {JUNK}").to_dict("records")
    _check_sizes([manifest.root / row["image"] for row in rows])
    known = 0
    path = f"/v1/targets/{target}/sightings"
    with _open_client(url) as client:
        sightings = (_sighting(manifest, row) for row in rows)
        for body in _bodies(track(sightings, f"enrol {len(rows)} sightings", len(rows))):
            send = partial(client.post, path, content=body, headers=JSON)
            known += _read(client, send, lambda answer: int(answer["known"]))
    log.info("%s: enrolled %d sightings, %d were there already", target, len(rows) - known, known)


def export_reviews(target: str, url: str) -> None:
    """Write the answers of a service's reviewers about a target to data/reviews/<target>.csv.

    Raises:
        InputError: the address or the key cannot be one, or the service refuses or does not answer.
    """
    _check_access("--url", url)
    path = f"/v1/targets/{target}/reviews"
    rows: list[dict[str, Any]] = []
    with _open_client(url) as client:
        page: list[dict[str, Any]] | None = None
        while page is None or len(page) == PAGE:
            send = partial(client.get, path, params={"after": rows[-1]["id"] if rows else 0, "limit": PAGE})
            page = _read(client, send, lambda answer: [{**dict.fromkeys(COLUMNS), **row} for row in answer["answers"]])
            rows += page
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    write_reviews(REVIEWS / f"{target}.csv", table)
    log.info(
        "%s: wrote %d answers, %d of them about drawn pairs",
        REVIEWS / f"{target}.csv",
        len(table),
        table["draw"].count(),
    )


def _begin_following(records: Records, versions: Path, url: str) -> None:
    write_link(records.folder)
    client = LeaderClient(url)
    try:
        begin_following(records, client, LeaderVersions(versions, client))
    finally:
        client.close()


def _check_access(option: str, url: str) -> None:
    """Check the address of a service, given by an option, and the key in the environment.

    Raises:
        InputError: one of them cannot be one.
    """
    if not re.fullmatch(r"https?://[^/?#\s]+/*", url):
        raise InputError(f"{option} must be the service's address, such as http://127.0.0.1:8000, got {url!r}")
    key = os.environ.get("QACONV_API_KEY", "")
    if not (key.isascii() and key.isprintable()):
        raise InputError("QACONV_API_KEY: must be a key that `qaconv serve-key` has printed, got other characters")


@contextmanager
def _open_client(url: str) -> Iterator[httpx.Client]:
    """Connect to a service with the key in the environment.

    Raises:
        InputError: it does not answer within the block.
    """
    headers = {"X-API-Key": os.environ.get("QACONV_API_KEY", "")}
    try:
        with httpx.Client(base_url=url, headers=headers, timeout=60) as client:
            yield client
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise InputError(f"{url}: does not answer: {error}; `qaconv serve` starts the service") from error


def _check_sizes(images: Sequence[Path]) -> None:
    try:
        sizes = {image: image.stat().st_size for image in images}
    except OSError as error:
        raise InputError(f"{error.filename}: {error.strerror}; the manifest names it: run prepare again") from error
    large = [f"{image}: {size:,}" for image, size in sizes.items() if size > LARGEST_IMAGE]
    if large:
        raise InputError(
            f"{len(large)} images have more than {LARGEST_IMAGE:,} bytes, which the service refuses:{name_first(large)}"
        )


def _read(client: httpx.Client, send: Callable[[], httpx.Response], read: Callable[[Any], T]) -> T:
    """Send a request, again where the service asks to wait, and read its answer's JSON.

    Raises:
        InputError: the service refuses it, or is another server.
    """
    waited = 0.0
    while "Retry-After" in (answer := send()).headers:
        after = answer.headers["Retry-After"]
        wait = max(1.0, float(after)) if after.isdecimal() else WAIT_S  # a proxy may send a date
        waited += wait
        if waited > LONGEST_WAIT_S:
            raise InputError(f"{client.base_url}: accepts no more requests for {LONGEST_WAIT_S:g} s: {_reason(answer)}")
        time.sleep(wait)
    if answer.is_error:
        raise InputError(f"{client.base_url}: refused: {_reason(answer)}")
    try:
        return read(answer.json())
    except (ValueError, KeyError, TypeError) as error:
        got = f"status {answer.status_code} of another server"
        raise InputError(f"{client.base_url}: must be the address of `qaconv serve`, got {got}") from error


def _reason(answer: httpx.Response) -> str:
    """Return what a refusal says, or its status where a proxy refuses."""
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status_code}"


def _bodies(sightings: Iterable[tuple[str, int]]) -> Iterator[str]:
    """Join encoded sightings, with their pixels, to bodies that the service accepts, of at most BATCH sightings."""
    batch: list[str] = []
    size = len(BODY)
    pixels = 0
    for sighting, sighting_pixels in sightings:
        size += len(sighting) + 1
        pixels += sighting_pixels
        if batch and (len(batch) == BATCH or size > LARGEST_BODY or pixels > MOST_PIXELS):
            yield BODY % ",".join(batch)
            batch = []
            size = len(BODY) + len(sighting) + 1
            pixels = sighting_pixels
        batch.append(sighting)
    if batch:
        yield BODY % ",".join(batch)


def _sighting(manifest: Manifest, row: Mapping[Hashable, Any]) -> tuple[str, int]:
    """Encode a sighting as JSON, in ASCII, with its camera's name if it has one, and count its pixels."""
    path = manifest.root / row["image"]
    image = path.read_bytes()
    try:
        pixels = count_pixels(image)
    except DecodeError as error:
        raise InputError(f"{path}: {error}") from error
    time_s = row["time_s"] if row["time_s"] == row["time_s"] else None
    camera = manifest.cameras.get(row["camid"], row["camid"])
    sighting = {"image": base64.b64encode(image).decode(), "camid": camera, "time_s": time_s}
    if row["track"]:
        sighting["track"] = row["track"]
    return json.dumps(sighting), pixels


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
