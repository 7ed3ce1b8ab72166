"""A promotion or rollback that is killed after any of its writes: the next change gives a right answer."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from qaconv.config import Params
from qaconv.errors import InputError
from qaconv.registry import find_champion, find_release, locking, promotion
from qaconv.registry.promotion import promote, rollback
from tests.tracked_projects import MODELS, pointed_to

WRITES = (
    "create_model_version",
    "delete_model_version",
    "delete_model_version_tag",
    "delete_registered_model_alias",
    "set_model_version_tag",
    "set_registered_model_alias",
    "update_model_version",
)


class Killed(BaseException):
    """Ends the process."""


@contextmanager
def killed_after(count: int) -> Iterator[list[str]]:
    """Let `count` writes to the registry happen and none after; yield their names."""
    done: list[str] = []

    def limit(name: str) -> Callable[..., Any]:
        write = getattr(MlflowClient, name)

        def limited(*args: Any, **kwargs: Any) -> Any:
            if len(done) == count:
                raise Killed
            done.append(name)
            return write(*args, **kwargs)

        return limited

    with pytest.MonkeyPatch.context() as patch:
        for name in WRITES:
            patch.setattr(MlflowClient, name, limit(name))
        yield done


@pytest.fixture
def params(registry: tuple[Path, Params], monkeypatch: pytest.MonkeyPatch) -> Params:
    monkeypatch.setattr(promotion, "load_served", lambda _: None)  # reads only
    monkeypatch.setattr(locking, "LEASE_S", 0)
    monkeypatch.setattr(locking, "POLL_S", 0)
    return registry[1]


def change(name: str, params: Params) -> None:
    """Promote version 4, or roll version 3 back."""
    if name == "promotion":
        release = find_release("qaconv", "4")
        assert release is not None
        promote(release, params.gate)
    else:
        rollback("qaconv", "3", "it confuses twins")


def marked() -> set[str]:
    versions = MlflowClient().search_model_versions("name = 'qaconv'")
    return {str(version.version) for version in versions if "rolled_back" in version.tags}


def restore(store: bytes) -> None:
    """Set the store back while MLflow has it open."""
    with closing(sqlite3.connect(":memory:")) as source, closing(sqlite3.connect("mlflow.db")) as target:
        source.deserialize(store)
        source.backup(target)


@pytest.mark.parametrize("following", ["promotion", "rollback"])
@pytest.mark.parametrize("killed", ["promotion", "rollback"])
def test_after_a_kill_at_any_write_the_next_change_is_right(params: Params, killed: str, following: str) -> None:
    store = Path("mlflow.db").read_bytes()
    new = "4" if killed == "promotion" else "2"
    count = 0
    while True:
        with killed_after(count) as done:
            try:
                change(killed, params)
                return
            except Killed:
                assert len(done) == count
        interrupted = find_champion("qaconv").version
        assert interrupted in ("3", new)
        left_behind = {"3"} if killed == "rollback" and interrupted == "2" else set()
        try:
            change(following, params)
        except InputError as error:  # of the two rollbacks, the first one has happened
            assert following == "rollback" and f"version {interrupted} is" in str(error)
        champion = find_champion("qaconv").version
        if following == "promotion":
            assert champion == "4"
            assert marked() == left_behind
            previous = "2" if left_behind else "3"
        else:
            assert champion == (new if interrupted == new else "2")
            assert marked() == ({"3"} if champion == "2" else set())
            previous = {"4": "3", "2": "1"}[champion]
        assert pointed_to("champion") == dict.fromkeys(MODELS, champion)
        assert pointed_to("previous") == dict.fromkeys(MODELS, previous)
        assert MlflowClient().get_model_version("qaconv", champion).tags["gate"] == "promoted"
        restore(store)
        count += 1


def test_of_two_people_who_roll_back_the_same_version_the_second_is_refused(params: Params) -> None:
    rollback("qaconv", "3", "it confuses twins")
    with pytest.raises(InputError, match="qaconv: version 3 is not the champion, version 2 is"):
        rollback("qaconv", "3", "twins are confused")
    assert pointed_to("champion") == dict.fromkeys(MODELS, "2")
    assert pointed_to("previous") == dict.fromkeys(MODELS, "1")
