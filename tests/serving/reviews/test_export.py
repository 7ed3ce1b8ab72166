"""`qaconv reviews` writes the answers of a service's reviewers as a table."""

from hashlib import sha256
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient

from qaconv.errors import InputError
from qaconv.paths import REVIEWS
from qaconv.reviews.table import drawn_pairs, read_reviews
from qaconv.serving import commands
from qaconv.serving.app import create_app
from qaconv.serving.reviews.reviews import Answered, Reviews
from tests.small_service import crop, enrol, small_service


def test_every_page_of_answers_is_written_with_digests_and_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(commands, "PAGE", 3)
    service = small_service(tmp_path)
    enrol(service, 6)
    reviews = Reviews(service)
    pairs = [(pair.first.id, pair.second.id) for pair in reviews.next("mall", "ada", 6).pairs]
    reviews.answer("mall", [Answered(*pair, "same") for pair in pairs], "ada", "sample")
    reviews.answer("mall", [Answered(1, 4, "different")], "bob", "search")
    app = create_app(service, None, 10_000, "127.0.0.1")
    monkeypatch.setattr(httpx, "Client", lambda base_url, headers, timeout: TestClient(app, base_url, headers=headers))
    commands.export_reviews("mall", "http://127.0.0.1")
    table = read_reviews(REVIEWS / "mall.csv")
    assert table["reviewer"].tolist() == ["ada"] * 6 + ["bob"] and table["draw"].count() == 6
    assert table["first_sha256"].tolist() == [sha256(crop(first - 1)).hexdigest() for first in table["first"]]
    assert drawn_pairs(table)["weight"].sum() == 12  # all pairs on two cameras


def test_another_server_is_named_and_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(httpx.Client, "get", lambda *_, **__: httpx.Response(200, json={"answers": 3}))
    with pytest.raises(InputError, match="must be the address of `qaconv serve`"):
        commands.export_reviews("mall", "http://127.0.0.1")
    assert not REVIEWS.exists()
