"""Put a thousand malformed inputs through every door, and print how each door took them.

`make malformed` runs it. The inputs depend on the seed alone. An input must be refused with one message, or be accepted
and give a sound result. The exit status is 1 if one ends in a traceback, a hang or an unsound result, or if a door
accepts none: then something else than what is malformed keeps them out.
"""

import argparse
import csv
import io
import json
import os
import random
import shutil
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import boto3
import numpy as np
import yaml
from fastapi.testclient import TestClient
from moto import mock_aws
from rich.console import Console
from rich.table import Table

from flows.ingest_bucket import INCOMING, QUARANTINE, IngestBucket
from qaconv.config import Params, load_params
from qaconv.config.operation import IngestConfig
from qaconv.data.ingest import check_batch
from qaconv.data.ingest_dataset import TABLE, Dataset
from qaconv.data.layouts import table
from qaconv.errors import InputError
from qaconv.runtime.decode import LARGEST_PIXELS, DecodeError, decode_image
from qaconv.runtime.integrity import write_digests
from qaconv.runtime.model import ServedModel
from qaconv.serving.app import create_app
from tests.imports import PROJECT
from tests.odd_values import NUMBERS, TEXTS
from tests.runtime.test_decode_fuzz import SEEDS
from tests.serving.test_request_fuzz import BODIES, PATHS, json_client
from tests.small_service import crop, small_model, small_service

SECONDS = 20  # after which an input hangs
LONGEST_MESSAGE = 10_000  # characters
REFUSED = "refused with a message"
ACCEPTED = "accepted"
FAULTS = ("traceback", "hang", "unsound")
PIECES = [b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff", b",", b'"', b"\n", b"{", b"\xef\xbb\xbf", b"..", b"9" * 400]
RULES = IngestConfig(max_share_change=0.3, share_from=8, wait_hours=24)
HEADER = [name for name in table.COLUMNS if name != "time_ms"]  # a table has one of the two kinds of times


class Door(NamedTuple):
    """A place where inputs come in: how many to try, and what tries one and returns whether it was accepted."""

    name: str
    inputs: int
    call: Callable[[random.Random], bool]


class Unsound(Exception):
    """An input was accepted and gave an impossible result, or its message is too long."""


def main() -> None:
    """Run every door and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    seed = parser.parse_args().seed
    signal.signal(signal.SIGALRM, _raise_timeout)
    outcomes: dict[str, Counter[str]] = {}
    with TemporaryDirectory() as folder, chdir(folder), doors(Path(folder)) as all_doors:
        for door in all_doors:
            outcomes[door.name] = Counter(
                outcome_of(door, number, random.Random(f"{seed} {door.name} {number}")) for number in range(door.inputs)
            )
    print_table(outcomes)
    sys.exit(any(not counts[ACCEPTED] or any(counts[fault] for fault in FAULTS) for counts in outcomes.values()))


def outcome_of(door: Door, number: int, rng: random.Random) -> str:
    """Try one input and return how it ended; describe a fault on stderr."""
    signal.alarm(SECONDS)
    try:
        accepted = door.call(rng)
    except (InputError, DecodeError) as error:
        outcome = REFUSED if 0 < len(str(error)) < LONGEST_MESSAGE else "unsound"
        detail = f"a message of {len(str(error))} characters"
    except TimeoutError:
        outcome, detail = "hang", f"more than {SECONDS} s"
    except Unsound as error:
        outcome, detail = "unsound", str(error)
    except Exception as error:
        outcome, detail = "traceback", f"{type(error).__name__}: {error}"[:500]
    else:
        outcome = ACCEPTED if accepted else REFUSED
    finally:
        signal.alarm(0)
    if outcome in FAULTS:
        Console(stderr=True, markup=False).print(f"{door.name} {number}: {outcome}: {detail}", soft_wrap=True)
    return outcome


@contextmanager
def doors(folder: Path) -> Iterator[list[Door]]:
    """Yield every door, with what stands behind it in `folder`."""
    service = small_service(folder / "service")
    client = json_client(create_app(service, None, 10**9, "127.0.0.1"))
    for path, body in BODIES.items():
        client.post(path, content=json.dumps(body)).raise_for_status()
    small_model(folder / "version")
    write_digests(folder / "version")
    os.environ.update(AWS_DEFAULT_REGION="us-east-1", AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x")
    os.environ.pop("AWS_ENDPOINT_URL", None)
    text = (PROJECT / "params.yaml").read_text(encoding="utf-8")
    with mock_aws():
        s3 = boto3.client("s3")
        for bucket in (INCOMING, QUARANTINE):
            s3.create_bucket(Bucket=bucket)
        yield [
            Door("HTTP requests", 300, lambda rng: request(client, rng)),
            Door("S3 batches", 100, lambda rng: batch(s3, folder, rng)),
            Door("tables", 150, lambda rng: read_table(folder / "tables", rng)),
            Door("params.yaml", 150, lambda rng: read_params(folder / "params.yaml", text, rng)),
            Door("registry files", 100, lambda rng: load_version(folder, rng)),
            Door("images", 200, decode),
        ]


def request(client: TestClient, rng: random.Random) -> bool:
    """Send a changed body, any bytes, or a request of an odd path."""
    path = rng.choice(sorted(BODIES))
    kind = rng.choice(["body", "body", "body", "bytes", "path"])
    if kind == "path":
        odd = json.dumps(rng.choice(TEXTS))[1:-1].replace("/", "%2F")
        answer = client.request(rng.choice(["GET", "DELETE", "POST", "PUT"]), rng.choice(PATHS).format(odd))
    else:
        content = json.dumps(changed(rng, BODIES[path])).encode("utf-8", "replace")
        answer = client.post(path, content=damaged(rng, content) if kind == "bytes" else content)
    if answer.status_code >= 500:
        raise RuntimeError(f"status {answer.status_code}")
    if answer.status_code >= 400 and not 0 < len(answer.content) < LONGEST_MESSAGE:
        raise Unsound(f"status {answer.status_code} with {len(answer.content)} bytes")
    return answer.status_code < 400


def batch(s3: Any, folder: Path, rng: random.Random) -> bool:
    """Upload a batch with a malformed table, damaged images and odd keys; list, download and check it, and store it."""
    names = [f"{number}.png" for number in range(4)]
    for row, name in enumerate(names):
        key = rng.choice(TEXTS) if rng.random() < 0.1 else name
        content = crop(row) if rng.random() < 0.8 else damaged(rng, crop(row))
        s3.put_object(Bucket=INCOMING, Key=f"shop/monday/{key}", Body=content)
    s3.put_object(Bucket=INCOMING, Key=f"shop/monday/{TABLE}", Body=odd_table(rng, names))
    work = folder / "work"
    for path in (work, folder / "shop"):
        shutil.rmtree(path, ignore_errors=True)
    work.mkdir()
    dataset = Dataset(folder / "shop")
    bucket = IngestBucket()
    accepted = False
    for listed in bucket.batches():
        upload = bucket.read_table(listed)
        if upload is None:
            continue
        (work / TABLE).write_bytes(upload.content)
        images = bucket.download(listed, upload, work)
        verdict = check_batch(work / TABLE, images, dataset, RULES)
        if len(verdict.accepted):
            dataset.add(verdict, images, "2026-01-05T02:00:00+00:00")
        reasons = dict(zip(verdict.refused["image"], verdict.refused["reason"], strict=True))
        bucket.quarantine(listed, upload, verdict.fault, reasons)
        bucket.delete(listed, upload)
        accepted = accepted or len(verdict.accepted) > 0
    for name in (INCOMING, QUARANTINE):
        for entry in s3.list_objects_v2(Bucket=name).get("Contents", ()):
            s3.delete_object(Bucket=name, Key=entry["Key"])
    return accepted


def read_table(folder: Path, rng: random.Random) -> bool:
    """Read a table of odd values, or a damaged one, as CSV or as what claims to be Parquet."""
    folder.mkdir(exist_ok=True)
    path = folder / rng.choice(["sightings.csv", "sightings.csv", "sightings.csv", "sightings.parquet"])
    path.write_bytes(odd_table(rng, [f"a/{number}.jpg" for number in range(4)]))
    frame = table.read(path, "shop").frame
    if not (frame["camid"].ge(0).all() and not np.isinf(frame["time_s"]).any() and frame["image"].is_unique):
        raise Unsound("a camera below 0, an infinite time, or an image twice")
    return True


def read_params(path: Path, text: str, rng: random.Random) -> bool:
    """Read params.yaml with a changed value, a damaged text, or odd YAML in place of a value."""
    kind = rng.choice(["values", "bytes", "yaml"])
    if kind == "values":
        path.write_text(yaml.safe_dump(changed(rng, yaml.safe_load(text))), encoding="utf-8", errors="replace")
    elif kind == "bytes":
        path.write_bytes(damaged(rng, text.encode()))
    else:
        lines = text.splitlines()
        row = rng.choice([row for row, line in enumerate(lines) if ": " in line])
        lines[row] = f"{lines[row].partition(': ')[0]}: {rng.choice([*TEXTS, '[' * 5000, '!!int x', '*a', '&a [*a]'])}"
        path.write_text("\n".join(lines), encoding="utf-8")
    return isinstance(load_params(path), Params)


def load_version(folder: Path, rng: random.Random) -> bool:
    """Load a version of which a file was damaged, removed or changed, as it was registered or without its digests."""
    version = folder / "damaged"
    shutil.rmtree(version, ignore_errors=True)
    shutil.copytree(folder / "version", version)
    files = sorted(path for path in version.rglob("*") if path.is_file())
    path = rng.choice(files)
    kind = rng.choice(["bytes", "values", "remove"])
    if kind == "remove":
        path.unlink()
    elif kind == "values" and path.suffix == ".json":
        path.write_text(json.dumps(changed(rng, json.loads(path.read_text(encoding="utf-8")))), encoding="utf-8")
    else:
        path.write_bytes(damaged(rng, path.read_bytes()))
    model = ServedModel(version, threads=1)
    maps = model.encode(np.zeros((1, *model.crop_size, 3), np.uint8))
    return bool(np.isfinite(model.score(maps, maps)).all())


def decode(rng: random.Random) -> bool:
    """Decode a damaged image."""
    data = rng.choice(SEEDS)
    for _ in range(rng.randint(1, 4)):
        data = damaged(rng, data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of damaged TIFF tags
        pixels = decode_image(data)
    if pixels.dtype != np.uint8 or pixels.shape[2:] != (3,) or pixels.shape[0] * pixels.shape[1] > LARGEST_PIXELS:
        raise Unsound(f"pixels of {pixels.dtype} {pixels.shape}")
    return True


def odd_table(rng: random.Random, names: list[str]) -> bytes:
    """Return a CSV file of which some values are odd, a row is longer, a column is missing, or bytes are damaged."""
    rows = [
        [name, str(row % 2 + 1), str(row % 2), f"{row}.5", "gallery", str(row), f"t{row % 2}"]
        for row, name in enumerate(names)
    ]
    cells = [HEADER, *rows]
    for _ in range(rng.randint(0, 3)):
        row, column = rng.randrange(len(cells)), rng.randrange(len(HEADER))
        cells[row] = [*cells[row][:column], rng.choice([*TEXTS, *map(str, NUMBERS)]), *cells[row][column + 1 :]]
    if rng.random() < 0.1:
        cells[rng.randrange(len(cells))].append("more")
    file = io.StringIO()
    csv.writer(file).writerows(cells)
    content = file.getvalue().encode("utf-8", "replace")
    return damaged(rng, content) if rng.random() < 0.4 else content


def changed(rng: random.Random, value: Any) -> Any:
    """Return a copy of a value of mappings, lists and scalars in which one part is replaced, removed or repeated."""
    if not isinstance(value, dict | list) or not value or rng.random() < 0.1:
        return rng.choice([*NUMBERS, *TEXTS, None, True, [], {}, [[[1]]], {"a": {"b": 1}}])
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    key = rng.choice(list(copy) if isinstance(copy, dict) else range(len(copy)))
    kind = rng.choice(["inner", "inner", "inner", "inner", "remove", "repeat"])
    if kind == "inner":
        copy[key] = changed(rng, copy[key])
    elif kind == "remove":
        del copy[key]
    elif isinstance(copy, dict):
        copy[rng.choice(TEXTS)] = copy[key]
    else:
        copy += [copy[key]] * rng.choice([1, 300])
    return copy


def damaged(rng: random.Random, data: bytes) -> bytes:
    """Return bytes of which some are cut off, replaced, inserted or deleted."""
    position = rng.randrange(len(data) + 1)
    piece = rng.choice([*PIECES, rng.randbytes(3)])
    match rng.choice(["cut", "replace", "insert", "delete"]):
        case "cut":
            return data[:position]
        case "replace":
            return data[:position] + piece + data[position + len(piece) :]
        case "insert":
            return data[:position] + piece + data[position:]
    return data[:position] + data[position + len(piece) :]


def print_table(outcomes: dict[str, Counter[str]]) -> None:
    """Print a row for each door, and the sums."""
    shown = Table("door", "inputs", REFUSED, ACCEPTED, *FAULTS)
    for name, counts in [*outcomes.items(), ("all", sum(outcomes.values(), Counter[str]()))]:
        shown.add_row(name, *map(str, [counts.total(), *(counts[kind] for kind in (REFUSED, ACCEPTED, *FAULTS))]))
    Console().print(shown)


def _raise_timeout(*_: object) -> None:
    raise TimeoutError


if __name__ == "__main__":
    main()
