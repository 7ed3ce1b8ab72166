"""A file of keys is checked by name, read again when it changes, and loses no key."""

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from qaconv.errors import InputError
from qaconv.serving.auth import Keys, add_key


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def test_a_key_that_is_removed_or_added_counts_from_the_next_request_on(path: Path) -> None:
    first = add_key(path, "first", ["search"], None)
    keys = Keys(path)
    second = add_key(path, "second", ["enrol"], ["mall"])
    assert [caller and caller.name for caller in map(keys.caller, (first, second))] == ["first", "second"]
    entries = json.loads(path.read_text())
    path.write_text(json.dumps({"second": entries["second"]}))
    assert keys.caller(first) is None
    assert keys.caller(second) is not None


@pytest.mark.parametrize("content", ["", "{", '{"first": {"sha256": null}}', None])
def test_while_the_file_is_invalid_no_key_is_known_and_the_log_says_why(
    path: Path, content: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    key = add_key(path, "first", ["search"], None)
    sound = path.read_text()
    keys = Keys(path)
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    with caplog.at_level(logging.ERROR):
        assert keys.caller(key) is keys.caller(key) is None
    assert len(caplog.records) == 1 and str(path) in caplog.text
    path.write_text(sound)
    assert keys.caller(key) is not None


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"sha256": None}, "desk.sha256"),
        ({"sha256": 5}, "desk.sha256"),
        ({"sha256": "secret"}, "desk.sha256"),
        ({"sha256": "A" * 64}, "desk.sha256"),
        ({"scopes": None}, "desk.scopes"),
        ({"scopes": "search"}, "desk.scopes"),
        ({"scopes": ["admin"]}, "desk.scopes.0"),
        ({"scopes": [["search"]]}, "desk.scopes.0"),
        ({"targets": "mall"}, "desk.targets"),
        ({"targets": [1]}, "desk.targets.0"),
        ({"deployments": ["mall"]}, "rename 'deployments' to 'targets'"),
        ({"note": "x"}, "desk.note"),
    ],
)
def test_an_entry_that_is_no_key_is_refused_by_its_name_and_not_shown(
    path: Path, change: dict[str, Any], word: str
) -> None:
    add_key(path, "desk", ["search"], ["mall"])
    entries = json.loads(path.read_text())
    entries["desk"] |= change
    path.write_text(json.dumps(entries))
    with pytest.raises(InputError, match=f"keys.json: must be a file of keys: .*{word}") as error:
        Keys(path)
    assert "secret" not in str(error.value)
    with pytest.raises(InputError, match=word):
        add_key(path, "another", ["search"], None)


@pytest.mark.parametrize("content", ["[]", "null", '{"desk": null}', '{"desk": {}}', "[" * 100_000, "\xff"])
def test_a_file_that_is_no_object_of_entries_is_refused(path: Path, content: str) -> None:
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match=r"keys\.json: must be a file of keys"):
        Keys(path)


def test_a_name_or_a_key_that_stands_twice_is_refused(path: Path) -> None:
    add_key(path, "desk", ["search"], None)
    entry = json.loads(path.read_text())["desk"]
    path.write_text(json.dumps({"desk": entry, "door": entry}))
    with pytest.raises(InputError, match="two names have the same sha256"):
        Keys(path)
    path.write_text(f'{{"desk": {json.dumps(entry)}, "desk": {json.dumps(entry)}}}')
    with pytest.raises(InputError, match="a name stands twice among desk, desk"):
        Keys(path)


def test_keys_that_are_added_at_the_same_time_are_all_kept(path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda number: add_key(path, f"key{number}", ["search"], None), range(24)))
    keys = Keys(path)
    assert [caller and caller.name for caller in map(keys.caller, made)] == [f"key{number}" for number in range(24)]
