"""A batch adds its sound images to a dataset once, and rejected ones are named with a reason."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from qaconv.config.operation import IngestConfig
from qaconv.data import layouts
from qaconv.data.ingest import check_batch
from qaconv.data.ingest_dataset import IMAGES, TABLE, Dataset, Verdict, read_dataset

RULES = IngestConfig(max_share_change=0.3, share_from=8, wait_hours=24)


def write_batch(folder: Path, first: int, rows: list[tuple[int, int, float, str]]) -> Path:
    """Write a batch whose images are drawn by their number, so that the same number is the same content."""
    folder.mkdir(parents=True)
    table = pd.DataFrame(rows, columns=["pid", "camid", "time_s", "split"])
    table.insert(0, "image", [f"crop{first + index}.png" for index in range(len(rows))])
    for index, image in enumerate(table["image"]):
        pixels = np.random.default_rng(first + index).integers(0, 256, (8, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / image)
    table.to_csv(folder / TABLE, index=False)
    return folder


def sightings(count: int, *, camid: int | None = None, pid: int = 0) -> list[tuple[int, int, float, str]]:
    """Make rows of the gallery, two a person, on three cameras in turn or on `camid`."""
    return [
        (pid + index // 2, index % 3 if camid is None else camid, float(index), "gallery") for index in range(count)
    ]


def images_of(batch: Path) -> dict[str, Path]:
    return {path.name: path for path in batch.glob("*.png")}


def check(batch: Path, dataset: Path) -> Verdict:
    return check_batch(batch / TABLE, images_of(batch), Dataset(dataset), RULES)


def check_and_join(batch: Path, dataset: Path) -> Verdict:
    verdict = check(batch, dataset)
    add(verdict, images_of(batch), dataset)
    return verdict


def add(verdict: Verdict, images: dict[str, Path], folder: Path) -> None:
    dataset = Dataset(folder)
    dataset.add(verdict, images, "2026-01-05T02:00:00+00:00")
    dataset.save()


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Make a dataset of twelve sightings."""
    check_and_join(write_batch(tmp_path / "first", 0, sightings(12)), tmp_path / "shop")
    return tmp_path / "shop"


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_accepted_images_form_a_dataset_that_the_table_layout_reads(dataset: Path) -> None:
    frame = layouts.read("table", dataset / TABLE, domain="shop").frame
    assert len(frame) == 12
    assert sorted(frame["time_s"]) == [float(second) for second in range(12)]


def test_the_same_batch_again_changes_no_byte(dataset: Path, tmp_path: Path) -> None:
    before = files(dataset)
    verdict = check_and_join(tmp_path / "first", dataset)
    assert (len(verdict.accepted), verdict.known, len(verdict.refused)) == (0, 12, 0)
    assert files(dataset) == before


def test_broken_and_contradicting_images_are_refused_and_the_others_join(dataset: Path, tmp_path: Path) -> None:
    batch = write_batch(
        tmp_path / "second", 10, [(5, 1, 10.0, "gallery"), (9, 2, 11.0, "gallery"), *sightings(3, pid=20)]
    )
    (batch / "crop12.png").write_bytes(b"no image")
    (batch / "crop13.png").write_bytes((batch / "crop13.png").read_bytes()[:-40])
    verdict = check_and_join(batch, dataset)
    assert verdict.known == 1  # crop10 has not changed
    assert {image: reason.split()[0] for image, reason in verdict.refused[["image", "reason"]].to_numpy()} == {
        "crop11.png": "the",
        "crop12.png": "is",
        "crop13.png": "cannot",
    }
    assert verdict.accepted["image"].tolist() == ["crop14.png"]
    assert len(read_dataset(dataset).rows) == 13


def test_an_image_of_two_people_in_a_batch_is_refused_for_both(dataset: Path, tmp_path: Path) -> None:
    batch = write_batch(tmp_path / "second", 20, [*sightings(2, pid=30), (40, 0, 5.0, "gallery")])
    (batch / "crop22.png").write_bytes((batch / "crop20.png").read_bytes())
    verdict = check(batch, dataset)
    assert verdict.refused["image"].tolist() == ["crop20.png", "crop22.png"]
    assert verdict.accepted["image"].tolist() == ["crop21.png"]


def test_a_person_of_the_test_split_is_never_added_to_training(dataset: Path, tmp_path: Path) -> None:
    verdict = check(write_batch(tmp_path / "second", 20, [(0, 0, 1.0, "train")]), dataset)
    assert "training and test" in verdict.refused["reason"].item()


def test_a_camera_whose_share_jumps_refuses_the_whole_batch(dataset: Path, tmp_path: Path) -> None:
    verdict = check(write_batch(tmp_path / "second", 20, sightings(9, camid=0)), dataset)
    assert verdict.accepted.empty and len(verdict.refused) == 9
    assert verdict.fault.startswith("camera 0 has 100%, 33% before, camera 1 has 0%, 33% before")
    few = check(write_batch(tmp_path / "third", 40, sightings(7, camid=0)), dataset)
    assert len(few.accepted) == 7


@pytest.mark.parametrize(
    ("column", "value", "word"),
    [
        ("camid", "two ", "camid"),
        ("pid", -4, "pid"),
        ("image", "../first/crop0.png", "leads out"),
        ("image", "/etc/hostname", "leads out"),
        ("image", "crop\0.png", "leads out"),
    ],
)
def test_an_invalid_table_refuses_the_whole_batch(
    dataset: Path, tmp_path: Path, column: str, value: Any, word: str
) -> None:
    batch = write_batch(tmp_path / "second", 20, sightings(2))
    table = pd.read_csv(batch / TABLE).astype(object)
    table[column] = [value, *table[column][1:]]
    table.to_csv(batch / TABLE, index=False)
    verdict = check(batch, dataset)
    assert word in verdict.fault
    assert verdict.accepted.empty and len(verdict.refused) == 2


def test_the_table_names_every_stored_image_and_no_other(dataset: Path) -> None:
    assert set(read_dataset(dataset).rows["image"]) == {
        f"{IMAGES}/{path.name}" for path in (dataset / IMAGES).iterdir()
    }


def test_a_table_without_rows_refuses_the_whole_batch(dataset: Path, tmp_path: Path) -> None:
    batch = write_batch(tmp_path / "second", 20, sightings(2))
    (batch / TABLE).write_text("image,pid,camid,time_s,split\n")
    verdict = check(batch, dataset)
    assert "has no sightings" in verdict.fault and len(verdict.refused) == 2


def test_a_name_with_a_drive_or_an_odd_ending_is_refused_or_stored_without_it(dataset: Path, tmp_path: Path) -> None:
    batch = write_batch(tmp_path / "second", 20, sightings(2, pid=30))
    table = pd.read_csv(batch / TABLE)
    table["image"] = ["C:\\crop20.png", odd := f"crop21.{'n' * 300}"]
    table.to_csv(batch / TABLE, index=False)
    images = {odd: batch / "crop21.png"}
    verdict = check_batch(batch / TABLE, images, Dataset(dataset), RULES)
    assert verdict.refused["reason"].tolist() == ["leads out of the batch"]
    add(verdict, images, dataset)
    assert len(read_dataset(dataset).rows) == 13


def test_a_batch_that_cannot_be_stored_leaves_the_dataset_as_before(dataset: Path, tmp_path: Path) -> None:
    batch = write_batch(tmp_path / "second", 20, sightings(2, pid=30))
    verdict = check(batch, dataset)
    before = files(dataset)
    with pytest.raises(FileNotFoundError):
        add(verdict, images_of(batch) | {"crop21.png": tmp_path / "none"}, dataset)
    assert files(dataset) == before


def add_order(batch: Path, order: list[int], times: list[float]) -> Path:
    rows = pd.read_csv(batch / TABLE)
    rows.assign(order=order, time_s=times).to_csv(batch / TABLE, index=False)
    return batch


def test_a_clock_that_begins_again_between_two_batches_is_corrected_as_in_one_table(tmp_path: Path) -> None:
    dataset = tmp_path / "shop"
    first = add_order(
        write_batch(tmp_path / "first", 0, sightings(4, camid=0)), [1, 2, 3, 4], [0.0, 50.0, 100.0, 150.0]
    )
    again = add_order(write_batch(tmp_path / "second", 4, sightings(3, camid=0, pid=5)), [7, 5, 6], [40.0, 0.0, 20.0])
    check_and_join(first, dataset)
    check_and_join(again, dataset)
    manifest = layouts.read("table", dataset / TABLE)
    assert sorted(manifest.frame["time_s"]) == [0, 50, 100, 150, 150, 170, 190]
    assert [finding["kind"] for finding in manifest.clocks] == ["reset"]
    assert sorted(read_dataset(dataset).rows["time_s"]) == sorted(manifest.frame["time_s"])


def test_the_second_half_of_a_corrected_batch_is_known_when_it_is_sent_again(tmp_path: Path) -> None:
    dataset = tmp_path / "shop"
    times = [0.1 + 0.2, 100 / 3, 1e9 / 7, 0.0, 20.0]
    check_and_join(add_order(write_batch(tmp_path / "all", 0, sightings(5, camid=0)), [1, 2, 3, 4, 5], times), dataset)
    before = files(dataset)
    half = write_batch(tmp_path / "half", 2, sightings(3, camid=0, pid=1))
    verdict = check_and_join(add_order(half, [3, 4, 5], times[2:]), dataset)
    assert (verdict.known, len(verdict.refused)) == (3, 0)
    assert files(dataset) == before


def test_batches_with_and_without_an_order_share_a_dataset(dataset: Path, tmp_path: Path) -> None:
    times = [100.0, 0.0, 10.0, 20.0, 30.0]
    batch = write_batch(tmp_path / "second", 20, sightings(5, camid=0, pid=20))
    check_and_join(add_order(batch, [1, 2, 3, 4, 5], times), dataset)
    manifest = layouts.read("table", dataset / TABLE)
    assert len(manifest.frame) == 17
    assert [finding["camid"] for finding in manifest.clocks] == [0]
    assert check_and_join(tmp_path / "first", dataset).known == 12


def test_the_same_image_at_another_place_in_the_order_is_refused(dataset: Path, tmp_path: Path) -> None:
    batch = write_batch(tmp_path / "second", 20, sightings(2, pid=20))
    check_and_join(add_order(batch, [1, 2], [0.0, 1.0]), dataset)
    verdict = check(add_order(batch, [1, 3], [0.0, 1.0]), dataset)
    assert verdict.refused["image"].tolist() == ["crop21.png"]


@pytest.mark.parametrize(("column", "value"), [("camid", 10**6), ("camid", 1e15), ("time_s", 1e300), ("pid", 2**60)])
def test_numbers_that_no_fit_can_hold_refuse_the_batch(
    column: str, value: float, dataset: Path, tmp_path: Path
) -> None:
    batch = write_batch(tmp_path / "second", 20, sightings(2, pid=20))
    pd.read_csv(batch / TABLE).assign(**{column: value}).to_csv(batch / TABLE, index=False)
    verdict = check(batch, dataset)
    assert f"2 rows have a {column} that is" in verdict.fault


def write_unlabelled(folder: Path, first: int, **columns: Any) -> Path:
    """Write a batch of sightings without people and splits."""
    count = len(next(iter(columns.values())))
    batch = write_batch(folder, first, sightings(count))
    rows = pd.read_csv(batch / TABLE)[["image"]]
    rows.assign(**columns).to_csv(batch / TABLE, index=False)
    return batch


DATES = ["2026-11-27T08:15:30.250+01:00", "2026-11-27T07:15:31Z", ""]


def test_sightings_without_people_by_camera_names_dates_and_tracks_are_stored_as_a_table_has_them(
    tmp_path: Path,
) -> None:
    dataset = tmp_path / "shop"
    first = write_unlabelled(tmp_path / "1", 0, camid=["roof", "lift", "3"], time_s=DATES, track=["t", "", "u"])
    check_and_join(first, dataset)
    check_and_join(write_unlabelled(tmp_path / "2", 3, camid=[3, 12], time_ms=[1795763730250, ""]), dataset)
    stored = pd.read_csv(dataset / TABLE, dtype=str, keep_default_na=False)
    assert sorted(zip(stored["camid"], stored["time_s"], stored["track"], strict=True)) == [
        ("12", "", ""),
        ("3", "", "u"),
        ("3", "2026-11-27T07:15:30.250000+00:00", ""),
        ("lift", "2026-11-27T07:15:31+00:00", ""),
        ("roof", "2026-11-27T07:15:30.250000+00:00", "t"),
    ]
    assert set(stored["pid"]) == set(stored["split"]) == {""}
    manifest = layouts.read("table", dataset)
    assert list(manifest.cameras.values()) == ["12", "3", "lift", "roof"]
    assert manifest.frame["time_s"].dropna().tolist().count(1795763730.25) == 2
    before = files(dataset)
    assert check_and_join(first, dataset).known == 3
    assert files(dataset) == before


def test_a_batch_with_another_kind_of_times_than_the_dataset_is_refused_by_name(dataset: Path, tmp_path: Path) -> None:
    dated = write_unlabelled(tmp_path / "second", 20, time_s=DATES)
    fault = check(dated, dataset).fault
    clocks = "times must be seconds on the cameras' clocks as in the dataset, got dates or Unix milliseconds"
    assert fault == f"{dated / TABLE}: {clocks}"
    check_and_join(dated, tmp_path / "mall")
    fault = check(write_batch(tmp_path / "third", 30, sightings(2)), tmp_path / "mall").fault
    assert "times must be dates or Unix milliseconds as in the dataset, got seconds" in fault
    timeless = write_unlabelled(tmp_path / "fourth", 40, camid=[0, 1])
    assert check(timeless, dataset).fault == check(timeless, tmp_path / "mall").fault == ""


def test_a_table_that_a_person_wrote_grows_and_its_sightings_are_older_than_every_batch(tmp_path: Path) -> None:
    dataset = write_batch(tmp_path / "shop", 0, sightings(3))
    check_and_join(write_batch(tmp_path / "1", 10, sightings(2, pid=5)), dataset)
    for _ in range(2):
        rows = read_dataset(dataset).rows
        assert sorted(rows["arrived"]) == ["", "", "", *["2026-01-05T02:00:00+00:00"] * 2]
        check_and_join(tmp_path / "1", dataset)
    assert set(rows["image"][rows["arrived"] == ""]) == {f"crop{number}.png" for number in range(3)}


@pytest.mark.parametrize(
    ("columns", "is_refused"),
    [
        ({"camid": ["roof"], "track": ["t"]}, False),
        ({"camid": ["lift"], "track": ["t"]}, True),
        ({"camid": ["roof"], "track": ["t"], "pid": [4], "split": ["gallery"]}, True),
        ({"camid": ["roof"], "track": ["t"], "split": ["gallery"]}, True),
        ({"camid": ["lift"], "track": ["v"]}, False),
    ],
)
def test_a_track_of_the_dataset_goes_on_with_the_same_person_on_the_same_camera_only(
    columns: dict[str, Any], is_refused: bool, tmp_path: Path
) -> None:
    dataset = tmp_path / "shop"
    check_and_join(write_unlabelled(tmp_path / "1", 0, camid=["roof", "lift"], track=["t", "u"]), dataset)
    refused = check(write_unlabelled(tmp_path / "2", 10, **columns), dataset).refused
    reasons = ["its track is in the dataset with another person, camera or split"] * is_refused
    assert refused["reason"].tolist() == reasons


@pytest.mark.parametrize(
    "columns",
    [
        {"camid": ["lift"], "track": ["t"]},
        {"camid": ["roof"], "track": ["v"]},
        {"camid": ["roof"], "track": ["t"], "pid": [4], "split": ["gallery"]},
    ],
)
def test_the_same_image_with_another_camera_track_or_person_is_refused(columns: dict[str, Any], tmp_path: Path) -> None:
    dataset = tmp_path / "shop"
    check_and_join(write_unlabelled(tmp_path / "1", 0, camid=["roof"], track=["t"]), dataset)
    again = write_unlabelled(tmp_path / "2", 0, **columns)
    assert check(again, dataset).refused["reason"].str.startswith("the same image is there with another").all()
    assert len(check(again, dataset).refused) == 1


def test_people_who_are_unknown_may_be_in_training_and_test(tmp_path: Path) -> None:
    dataset = tmp_path / "shop"
    check_and_join(write_batch(tmp_path / "1", 0, [(1, 0, 0.0, "train"), (-1, 0, 1.0, "train")]), dataset)
    verdict = check_and_join(write_unlabelled(tmp_path / "2", 10, camid=[0, 0]), dataset)
    assert len(verdict.accepted) == 2 and layouts.read("table", dataset).split("query").shape[0] == 1


def test_batches_are_checked_against_those_before_them_and_appended_together(dataset: Path, tmp_path: Path) -> None:
    before = (dataset / TABLE).read_bytes()
    stored = Dataset(dataset)
    verdicts = []
    for name, first, pid in (("second", 20, 30), ("third", 30, 40), ("again", 20, 30)):
        batch = write_batch(tmp_path / name, first, sightings(4, pid=pid))
        verdicts.append(check_batch(batch / TABLE, images_of(batch), stored, RULES))
        stored.add(verdicts[-1], images_of(batch), "2026-01-06T02:00:00+00:00")
    assert [(len(verdict.accepted), verdict.known) for verdict in verdicts] == [(4, 0), (4, 0), (0, 4)]
    assert (dataset / TABLE).read_bytes() == before
    stored.save()
    after = (dataset / TABLE).read_bytes()
    assert after.startswith(before) and len(read_dataset(dataset).rows) == len(stored) == 20
    stored.save()
    assert (dataset / TABLE).read_bytes() == after


def test_a_table_without_a_last_newline_is_written_again(dataset: Path, tmp_path: Path) -> None:
    (dataset / TABLE).write_bytes((dataset / TABLE).read_bytes().rstrip(b"\n"))
    check_and_join(write_batch(tmp_path / "second", 20, sightings(2, pid=30)), dataset)
    assert len(read_dataset(dataset).rows) == 14


def test_an_image_that_the_dataset_has_by_another_name_is_not_stored_again(dataset: Path, tmp_path: Path) -> None:
    named = next((dataset / IMAGES).iterdir())
    (dataset / "first").mkdir()
    named.rename(dataset / "first" / "0001.png")
    table = (dataset / TABLE).read_text()
    (dataset / TABLE).write_text(table.replace(f"{IMAGES}/{named.name}", "first/0001.png"))
    before = files(dataset)
    verdict = check_and_join(write_batch(tmp_path / "again", 0, sightings(12)), dataset)
    assert (len(verdict.accepted), verdict.known) == (0, 12)
    later = [(pid, camid, time_s + 1, split) for pid, camid, time_s, split in sightings(12)]
    verdict = check_and_join(write_batch(tmp_path / "later", 0, later), dataset)
    assert (len(verdict.accepted), len(verdict.refused)) == (0, 12)
    assert files(dataset) == before
