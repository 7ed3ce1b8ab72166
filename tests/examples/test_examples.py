"""The scripts of examples/ run and print what they promise."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from fastapi.testclient import TestClient

from qaconv import plugins
from qaconv.serving.app import create_app
from qaconv.video.crops import cut_crops
from tests.imports import PROJECT
from tests.small_service import crop, small_service


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, PROJECT / f"examples/{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget what an example registers."""
    monkeypatch.setattr(plugins, "_registered", {})
    yield


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("evaluate_scores", ["rank-1 100.0%, mAP 100.0% of 3 queries"]),
        ("search_gallery", ["query 0: image 3 (", "query 1: image 11 ("]),
        ("custom_layout", ["image pid camid time_s split", "known/person1-camera1-5s.png 1 0 5.0 train"]),
    ],
)
def test_example_prints_its_result(name: str, lines: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    load(name).main()
    printed = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert all(any(text.startswith(line) for text in printed) for line in lines), printed


def test_two_videos_have_track_files_that_crops_can_be_cut_by(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load("two_videos").main(str(tmp_path), people=2, seconds=7)
    assert capsys.readouterr().out.splitlines()[0] == "entrance: 7 s with 2 people"
    cut = cut_crops(tmp_path / "entrance.mp4", tmp_path / "entrance.txt", tmp_path / "plaza", "entrance")
    assert cut.tracks >= 1


def test_reranking_and_lifting_raise_map(capsys: pytest.CaptureFixture[str]) -> None:
    load("rerank_and_lift").main()
    values = [float(line.split("mAP ")[1].rstrip("%")) for line in capsys.readouterr().out.splitlines()]
    direct, reranked, lifted = values
    assert direct < reranked and direct < lifted


def test_custom_loss_falls(capsys: pytest.CaptureFixture[str]) -> None:
    load("custom_loss").main()
    first, last = (float(line.split("loss ")[1]) for line in capsys.readouterr().out.splitlines())
    assert last < first


def test_service_finds_the_enrolled_crop_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    app = create_app(small_service(tmp_path), None, 10_000, "127.0.0.1")
    client = TestClient(app, base_url="http://127.0.0.1")
    load("call_service").enrol_and_search(client, "mall", [crop(1), crop(0)])
    enrolled, best, other, *by_both = capsys.readouterr().out.splitlines()
    assert enrolled == "enrolled 2 sightings"
    assert best.startswith("sighting 1:") and other.startswith("sighting 2:")
    assert sorted(line[:11] for line in by_both) == ["sighting 1:", "sighting 2:"]
