"""`qaconv enrol` sends a prepared gallery in requests that the service accepts."""

from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from qaconv.data.manifest import Manifest
from qaconv.paths import PREPARED
from qaconv.serving import commands
from qaconv.serving.app import create_app
from qaconv.serving.middleware import LARGEST_BODY
from qaconv.serving.service import Service
from tests.small_service import small_service


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
