"""`qaconv enrol` sends a prepared gallery in requests that the service accepts."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from qaconv.data.manifest import UNLABELLED, Manifest
from qaconv.errors import InputError
from qaconv.paths import PREPARED
from qaconv.serving import bounds, commands
from qaconv.serving.app import create_app
from qaconv.serving.bounds import LARGEST_BODY
from qaconv.serving.fields import LARGEST_IMAGE
from qaconv.serving.service import Service
from qaconv.times import UNIX_EPOCH
from tests.small_service import crop, small_service


def prepare_gallery(names: list[str]) -> None:
    columns = {"image": names, "pid": range(1, len(names) + 1), "camid": 0, "split": "gallery", "domain": "mall"}
    times = [float("nan"), *range(1, len(names))]
    Manifest(pd.DataFrame({**columns, "time_s": times}), Path("images")).save(PREPARED / "mall")


def enrol(service: Service, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Enrol the prepared gallery without a network, and return the sizes of the requests' bodies."""
    app = create_app(service, None, 10_000, "127.0.0.1")
    sizes = []

    class Client(TestClient):
        def __init__(self, base_url: str, headers: dict[str, str], timeout: float) -> None:
            super().__init__(app, base_url=base_url, headers=headers)

        def post(self, *args: Any, **kwargs: Any) -> Any:
            answer = super().post(*args, **kwargs)
            sizes.append(int(answer.request.headers["Content-Length"]))
            return answer

    monkeypatch.setattr(httpx, "Client", Client)
    commands.enrol("mall", "http://127.0.0.1")
    return sizes


def test_large_images_are_sent_in_bodies_that_the_service_accepts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    service = small_service(tmp_path)
    names = [f"{number:02}.bmp" for number in range(18)]
    Path("images").mkdir()
    for number, name in enumerate(names):
        Image.new("RGB", (590, 590), (number, 0, 0)).save(Path("images") / name)  # 1.04 MB, and 1.4 MB in base64
    prepare_gallery(names)
    sizes = enrol(service, monkeypatch)
    assert len(sizes) == 2 and LARGEST_BODY - 1_400_000 < sizes[0] <= LARGEST_BODY
    stored = service.page("mall", 0, 100)
    assert [sighting.time_s for sighting in stored] == [None, *range(1, 18)]


def test_small_images_are_sent_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(commands, "BATCH", 4)
    names = [f"{number}.png" for number in range(9)]
    Path("images").mkdir()
    for name in names:
        Image.new("RGB", (4, 8)).save(Path("images") / name)
    prepare_gallery(names)
    assert len(enrol(small_service(tmp_path), monkeypatch)) == 3


def test_images_of_many_pixels_are_sent_in_bodies_that_the_service_accepts(
    gallery: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (commands, bounds):
        monkeypatch.setattr(module, "MOST_PIXELS", 3 * 32)
    assert len(enrol(small_service(tmp_path), monkeypatch)) == 2


def test_a_file_that_is_no_image_is_named(gallery: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (Path("images") / gallery[1]).write_bytes(b"no image")
    with pytest.raises(InputError, match="images/1.png: is not an image"):
        enrol(small_service(tmp_path), monkeypatch)


@pytest.fixture
def gallery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Prepare a gallery of four images, and return their names."""
    monkeypatch.chdir(tmp_path)
    names = [f"{number}.png" for number in range(4)]
    Path("images").mkdir()
    for number, name in enumerate(names):
        (Path("images") / name).write_bytes(crop(number))
    prepare_gallery(names)
    return names


def test_a_gallery_that_is_sent_again_stores_the_changed_image_alone(
    gallery: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "qaconv.serving.commands")
    service = small_service(tmp_path)
    enrol(service, monkeypatch)
    enrol(service, monkeypatch)
    (Path("images") / gallery[0]).write_bytes(crop(9))
    enrol(service, monkeypatch)
    assert len(service.page("mall", 0, 100)) == 5
    reports = [record.args for record in caplog.records if record.name == "qaconv.serving.commands"]
    assert reports == [("mall", 4, 0), ("mall", 0, 4), ("mall", 1, 3)]


def test_an_image_with_more_bytes_than_the_service_takes_is_named_before_anything_is_sent(
    gallery: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = small_service(tmp_path)
    (Path("images") / gallery[2]).write_bytes(bytes(LARGEST_IMAGE + 1))
    with pytest.raises(InputError, match=r"1 images have more than 1,048,576 bytes.*\n  images/2\.png: 1,048,577"):
        enrol(service, monkeypatch)
    assert service.page("mall", 0, 100) == []


def test_the_limits_of_requests_are_waited_for_and_a_proxys_page_is_one_message(
    gallery: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [
        httpx.Response(429, headers={"Retry-After": "7"}, json={"detail": "too many requests"}),
        httpx.Response(503, headers={"Retry-After": "1"}, json={"detail": "the service is busy"}),
        httpx.Response(201, json={"ids": [1, 2, 3, 4], "known": 0}),
        httpx.Response(502, headers={"Content-Type": "text/html"}, text="<html>"),
    ]
    waits: list[float] = []
    monkeypatch.setattr("qaconv.serving.commands.time.sleep", waits.append)
    monkeypatch.setattr(httpx.Client, "post", lambda *_, **__: answers.pop(0))
    commands.enrol("mall", "http://127.0.0.1")
    assert waits == [7, 1]
    with pytest.raises(InputError, match="refused: status 502"):
        commands.enrol("mall", "http://127.0.0.1")


def test_names_of_cameras_dates_and_tracks_of_a_manifest_are_enrolled(
    gallery: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = Manifest.load(PREPARED / "mall")
    frame = manifest.frame.assign(camid=[0, 0, 1, 1], track=["", "t", "", ""], pid=UNLABELLED, time_s=1795763730.25)
    frame.loc[0, "split"] = "query"  # of the sample that is drawn for estimates
    replace(manifest, frame=frame, cameras={0: "lift", 1: "roof"}, time_origin=UNIX_EPOCH).save(PREPARED / "mall")
    service = small_service(tmp_path)
    profiles = service.active.model.profiles
    profiles["mall"] = replace(profiles["mall"], cameras={0: "hall", 1: "lift", 2: "roof"}, time_origin=UNIX_EPOCH)
    enrol(service, monkeypatch)
    stored = service.page("mall", 0, 10)
    assert [(sighting.camid, sighting.camera, sighting.track) for sighting in stored] == [
        (1, "lift", None),
        (1, "lift", "t"),
        (2, "roof", None),
        (2, "roof", None),
    ]
    assert {sighting.time_s for sighting in stored} == {1795763730.25}


def test_a_service_that_accepts_nothing_is_given_up_after_a_total_time(
    gallery: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    after = "Wed, 21 Oct 2026 07:28:00 GMT"  # of a proxy
    refusal = httpx.Response(503, headers={"Retry-After": after}, json={"detail": "the service is busy"})
    monkeypatch.setattr("qaconv.serving.commands.time.sleep", waits.append)
    monkeypatch.setattr(httpx.Client, "post", lambda *_, **__: refusal)
    with pytest.raises(InputError, match="accepts no more requests for 600 s: the service is busy"):
        commands.enrol("mall", "http://127.0.0.1")
    assert sum(waits) == 600


@pytest.mark.parametrize("after", ["0", "9" * 400])
def test_a_time_to_wait_of_none_or_without_end_is_given_up_too(
    after: str, gallery: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qaconv.serving.commands.time.sleep", lambda seconds: None)
    refusal = httpx.Response(429, headers={"Retry-After": after}, json={"detail": "too many requests"})
    monkeypatch.setattr(httpx.Client, "post", lambda *_, **__: refusal)
    with pytest.raises(InputError, match="accepts no more requests for 600 s: too many requests"):
        commands.enrol("mall", "http://127.0.0.1")


@pytest.mark.parametrize("answer", [httpx.Response(200, text="<html>"), httpx.Response(200, json=[1])])
def test_another_server_than_the_service_is_named(
    answer: httpx.Response, gallery: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(httpx.Client, "post", lambda *_, **__: answer)
    with pytest.raises(InputError, match="must be the address of `qaconv serve`, got status 200 of another server"):
        commands.enrol("mall", "http://127.0.0.1")
