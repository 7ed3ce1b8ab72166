import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from qaconv.runtime import cbuild
from qaconv.runtime.cbuild import load_library

needs_compiler = pytest.mark.skipif(not any(map(shutil.which, cbuild.COMPILERS)), reason="no C compiler")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "qaconv"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "number.c"
    path.write_text("int number(void) { return 3; }\n")
    return path


@needs_compiler
def test_a_library_is_built_once_and_then_found(cache: Path, source: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        libraries = list(pool.map(lambda _: load_library(source, "slow"), range(4)))
    assert [library and library.number() for library in libraries] == [3] * 4
    (library,) = cache.iterdir()
    written = library.stat().st_mtime_ns
    cbuild._load.cache_clear()
    assert load_library(source, "slow") is not None
    assert [path.stat().st_mtime_ns for path in cache.iterdir()] == [written]


@needs_compiler
def test_other_code_is_another_library(cache: Path, source: Path) -> None:
    load_library(source, "slow")
    source.write_text("int number(void) { return 4; }\n")
    cbuild._load.cache_clear()
    library = load_library(source, "slow")
    assert library is not None and library.number() == 4


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("no compiler", r"there is no C compiler \(cc, gcc, clang\): slow"),
        pytest.param(
            "no instructions",
            "number.c cannot be built: .*error: #error needs other instructions; slow",
            marks=needs_compiler,
        ),
        pytest.param("no cache", "number.c cannot be built: .*Not a directory.*; slow", marks=needs_compiler),
        pytest.param("no home", "number.c cannot be built: Could not determine .*; slow", marks=needs_compiler),
    ],
)
def test_a_failed_build_logs_one_line(
    fault: str,
    message: str,
    cache: Path,
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if fault == "no compiler":
        monkeypatch.setenv("PATH", str(tmp_path))
    elif fault == "no instructions":
        source.write_text("#error needs other instructions\n")
    elif fault == "no cache":
        monkeypatch.setenv("XDG_CACHE_HOME", str(source))
    else:
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setattr(Path, "home", homeless)
    assert load_library(source, "slow") is None
    (record,) = caplog.records
    assert re.fullmatch(message, record.getMessage())


def homeless() -> Path:
    raise RuntimeError("Could not determine home directory.")
