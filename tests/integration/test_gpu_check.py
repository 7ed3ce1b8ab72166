"""Rehearse the GPU check on the CPU, so that it does not fail on a GPU by a fault of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.gpu.__main__ import main, summarise
from benchmarks.gpu.market import draw_market
from benchmarks.gpu.pack import pack, unpack
from benchmarks.gpu.parts import PARTS, Part, chosen
from benchmarks.gpu.record import Check, Figure, Record, Row, at_most
from benchmarks.gpu.worker import run_part

PROJECT = Path(__file__).parents[2]
# That part starts two more processes; tests/integration/test_distributed.py tests several processes on the CPU.
REHEARSED = [part.name for part in PARTS if part.name != "parity.together"]
# A machine for the GPU check alone has none of these.
ABSENT = (
    "boto3",
    "dvc",
    "fastapi",
    "httpx",
    "msgpack",
    "mlflow",
    "prefect",
    "prometheus_client",
    "ruamel",
    "sqlalchemy",
)
REFUSAL = f"""
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {ABSENT}:
            raise ModuleNotFoundError(f"{{name}} is refused")

sys.meta_path.insert(0, Refuse())
"""


Rehearsal = tuple["subprocess.CompletedProcess[str]", dict[str, Any]]


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory: pytest.TempPathFactory) -> Rehearsal:
    """Run a rehearsal without the packages that only the whole project needs; return its process and its file."""
    folder = tmp_path_factory.mktemp("rehearsal")
    (folder / "sitecustomize.py").write_text(REFUSAL)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(folder), str(PROJECT)))}
    command = [sys.executable, "-m", "benchmarks.gpu", "--rehearse", "--out", str(folder / "gpu.json")]
    command += ["--only", ",".join(REHEARSED)]
    run = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    return run, json.loads((folder / "gpu.json").read_text())


def test_every_check_of_a_rehearsal_passes(rehearsal: Rehearsal) -> None:
    run, content = rehearsal
    assert [check for check in content["checks"] if not check["passed"]] == []
    assert run.returncode == 0, run.stdout + run.stderr


def test_a_rehearsal_goes_through_every_part(rehearsal: Rehearsal) -> None:
    _, content = rehearsal
    assert set(content["seconds"]) == set(REHEARSED)
    assert {row["part"] for row in content["checks"] + content["figures"]} == set(REHEARSED)
    assert content["rehearsal"]
    assert {"date", "commit", "torch", "cpu_cores"} <= set(content["machine"])


def test_figures_of_a_rehearsal_are_marked_as_rehearsed(rehearsal: Rehearsal) -> None:
    run, content = rehearsal
    assert all(figure["note"].startswith("rehearsal") for figure in content["figures"])
    for part in REHEARSED:
        assert f"{part}: " in run.stdout


def record_of(path: Path) -> Record:
    return Record(path / "gpu.json", rehearsal=False)


def test_a_part_that_raises_becomes_a_failed_check_and_keeps_its_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = record_of(tmp_path)

    def rows() -> Iterator[Row]:
        yield at_most("before", 1.0, 2.0)
        raise RuntimeError("no such kernel")

    run_part(Part("some", 5, "none:none"), rows, record)
    kept = Record.load(record.path)
    assert [row.name for row in kept.rows] == ["before", "runs to its end"]
    assert kept.failed[0].note == "RuntimeError: no such kernel"
    assert "Traceback" in kept.failed[0].error
    assert "some: 2 rows, 1 failed" in capsys.readouterr().out
    assert summarise(kept, 1.0) == 1


def test_a_part_that_takes_too_long_fails(tmp_path: Path) -> None:
    record = record_of(tmp_path)

    def rows() -> Iterator[Row]:
        while True:
            pass

    run_part(Part("endless", 0.2, "none:none"), rows, record)
    assert record.failed[0].note == "OutOfTime: did not end within 0.2 s"


def test_the_status_is_0_if_checks_ran_and_all_passed(tmp_path: Path) -> None:
    record = record_of(tmp_path)
    assert summarise(record, 1.0) == 1
    record.add("some", [at_most("same", 0.0, 0.0), Figure("speed", 2.0, "pairs/s", 1.0, "bf16", 0.25)], 1.0)
    assert summarise(Record.load(record.path), 1.0) == 0


@pytest.mark.parametrize(("measured", "passed"), [(0.1, True), (0.2, True), (0.3, False), (float("nan"), False)])
def test_a_check_passes_up_to_its_limit(measured: float, passed: bool) -> None:
    assert at_most("difference", measured, 0.2).passed is passed


def test_the_file_is_json_even_if_a_difference_is_nan(tmp_path: Path) -> None:
    record = record_of(tmp_path)
    record.add("some", [at_most("difference", float("nan"), 0.2)], 1.0)
    assert Record.load(record.path).rows == [Check("difference", False, None, 0.2, part="some")]


def test_a_figure_knows_its_share_of_the_bound() -> None:
    assert Figure("speed", 2.0, "pairs/s", 1.0, "bf16", 0.25).share_of_bound == 0.25


def test_parts_are_chosen_by_name_or_group() -> None:
    assert [part.name for part in chosen("speed.matching,rates")] == [
        "rates",
        "speed.matching.paper",
        "speed.matching.demo",
    ]
    with pytest.raises(ValueError, match="--only must name parts, got 'speeds'"):
        chosen("speeds")


def test_without_a_gpu_the_check_ends_with_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main([]) == 1
    message = capsys.readouterr().err
    assert "no NVIDIA GPU found" in message and message.count("\n") == 1


def test_packed_crops_come_back_under_their_names_without_junk(tmp_path: Path) -> None:
    folder, back = tmp_path / "market", tmp_path / "back"
    draw_market(folder)
    names = sorted(path.relative_to(folder) for path in folder.rglob("*.jpg"))
    (folder / "query" / "-1_c1s1_000001_00.jpg").write_bytes((folder / names[0]).read_bytes())
    assert "quality 75" in pack(folder, tmp_path / "market.pack", 1e6)
    unpack(tmp_path / "market.pack", back)
    assert sorted(path.relative_to(back) for path in back.rglob("*.jpg")) == names
    for name in names:
        before, after = (np.asarray(Image.open(root / name), dtype=float) for root in (folder, back))
        assert np.square(before - after).mean() < 100  # another crop differs by thousands


def test_a_smaller_file_has_a_lower_quality(tmp_path: Path) -> None:
    draw_market(tmp_path / "market")
    best = pack(tmp_path / "market", tmp_path / "best.pack", 1e6)
    size = (tmp_path / "best.pack").stat().st_size
    fewer = pack(tmp_path / "market", tmp_path / "fewer.pack", 400_000 + 0.7 * size)
    assert "quality 75" in best and "quality 75" not in fewer
    with pytest.raises(ValueError, match="needs more than 0.4 MB at quality 40"):
        pack(tmp_path / "market", tmp_path / "none.pack", 400_001)
