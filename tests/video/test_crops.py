"""Crops show the people of the track file at the right times, and the folder is always whole."""

import io
import logging
from collections.abc import Callable, Container, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from qaconv import cli
from qaconv.errors import InputError
from qaconv.video import crops
from qaconv.video.crops import Cut, cut_crops
from qaconv.video.frames import Frame, open_frames
from qaconv.video.picture import Box
from qaconv.video.settings import DEFAULTS, CropSettings
from tests.video.conftest import SETTINGS, Recording

START = datetime(2026, 3, 1, 9, tzinfo=timezone(timedelta(hours=1)))
CLOSE = CropSettings(spacing_s=0.3)


@pytest.fixture(scope="module")
def cut(recording: Recording, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Cut]:
    folder: Path = tmp_path_factory.mktemp("cut") / "plaza"
    return folder, cut_crops(recording.video, recording.tracks, folder, "entrance", start=START, settings=CLOSE)


def read_table(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "sightings.csv", dtype=str, keep_default_na=False)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def edit(recording: Recording, path: Path, change: Callable[[str], str]) -> Path:
    path.write_text(change(recording.tracks.read_text()))
    return path


def test_table_has_the_camera_the_time_and_the_track_of_every_image(
    cut: tuple[Path, Cut], recording: Recording
) -> None:
    folder, done = cut
    table = read_table(folder)
    assert list(table.columns) == ["image", "camid", "time_s", "track"]
    assert (done.crops, done.tracks, done.is_known) == (len(table), 3, False)
    assert set(table["camid"]) == {"entrance"} and set(table["track"]) == {f"entrance-{n}" for n in (1, 2, 3)}
    assert set(table["image"]) == {path for path in contents(folder) if path.endswith(".jpg")}
    names = table["image"].str.extract(r"images/entrance/(?P<track>\d+)_(?P<frame>\d+)\.jpg").astype(int)
    assert (table["track"] == "entrance-" + names["track"].astype(str)).all()
    times = pd.to_datetime(table["time_s"])
    seconds = (names["frame"] - 1) / SETTINGS.frame_rate
    assert ((times - START).dt.total_seconds() - seconds).abs().max() < 1e-3
    assert table["time_s"].str.endswith("+01:00").all()


def test_every_crop_is_the_whole_box_of_someone_who_stands_alone(cut: tuple[Path, Cut], recording: Recording) -> None:
    folder, _ = cut
    frames = {frame.number: frame.picture for frame in open_frames(recording.video, None).read(range(99))}
    truth = recording.boxes.set_index(["track", "frame"])
    for image in read_table(folder)["image"]:
        track, frame = map(int, Path(image).stem.split("_"))
        box: Any = truth.loc[(track, frame)]
        assert box["left"] > 1 and box["left"] + box["width"] < SETTINGS.width - 1
        picture = frames[frame]
        assert picture is not None
        left, top = int(box["left"]) // 2 * 2, int(box["top"]) // 2 * 2
        brightness = np.asarray(Image.open(folder / image).convert("L")).astype(float)
        assert abs(brightness.shape[0] - box["height"]) <= 3 and abs(brightness.shape[1] - box["width"]) <= 3
        luma = picture.brightness(Box(left, top, left + brightness.shape[1], top + brightness.shape[0]))
        assert np.corrcoef(luma.ravel(), brightness.ravel())[0, 1] > 0.98


def test_crops_of_a_track_are_the_spacing_apart(cut: tuple[Path, Cut]) -> None:
    table = read_table(cut[0])
    times = pd.to_datetime(table["time_s"])
    seconds = (times - START).dt.total_seconds()
    gaps = seconds.groupby(table["track"]).diff().dropna()
    assert len(gaps) >= 6 and gaps.min() >= 0.3 - 1e-6


def test_second_camera_is_added_and_the_same_one_is_not(
    cut: tuple[Path, Cut], recording: Recording, tmp_path: Path
) -> None:
    folder = tmp_path / "plaza"
    for camera in ("entrance", "hall"):
        cut_crops(recording.video, recording.tracks, folder, camera, start=START, settings=CLOSE)
    before = contents(folder)
    table = read_table(folder)
    assert set(table["camid"]) == {"entrance", "hall"} and not table["track"].str.startswith("-").any()
    assert table.groupby("track")["camid"].nunique().max() == 1
    first = table[table["camid"] == "entrance"].reset_index(drop=True)
    pd.testing.assert_frame_equal(first, read_table(cut[0]))

    again = cut_crops(recording.video, recording.tracks, folder, "hall", start=START, settings=CLOSE)
    assert (again.is_known, again.crops, again.tracks) == (True, len(first), 3)
    with pytest.raises(InputError, match=r"camera 'hall' is there already, cut from another source \(settings\)"):
        cut_crops(recording.video, recording.tracks, folder, "hall", start=START)
    with pytest.raises(InputError, match=r"cut from another source \(start\)"):
        cut_crops(recording.video, recording.tracks, folder, "hall", settings=CLOSE)
    other = edit(recording, tmp_path / "other.txt", lambda text: text.replace("0.90", "0.80"))
    with pytest.raises(InputError, match=r"cut from another source \(tracks_sha256\)"):
        cut_crops(recording.video, other, folder, "hall", start=START, settings=CLOSE)
    assert contents(folder) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [".plaza.lock", "other.txt", "plaza"]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (
            lambda text: text + "51,1,50,10,30,90,1,-1,-1,-1\n",
            "1 boxes are in frames after the",
        ),
        (
            lambda text: text + "9,77,240,10,30,90,1,-1,-1,-1\n",
            r"outside the picture of 240 x 160 pixels in .*\n  line",
        ),
        (lambda text: text + "9,77,10,-95,30,90,1,-1,-1,-1\n", "1 boxes are outside the picture"),
        (lambda text: "1,1,20,20,20,40,1,-1,-1,-1\n", r"no box fulfils the rules .*: of 1 are 1 too small, 0 cut off"),
    ],
)
def test_track_file_that_does_not_fit_the_video_leaves_no_folder(
    change: Callable[[str], str], fault: str, recording: Recording, tmp_path: Path
) -> None:
    tracks = edit(recording, tmp_path / "tracks.txt", change)
    with pytest.raises(InputError, match=fault):
        cut_crops(recording.video, tracks, tmp_path / "plaza", "entrance", start=START)
    assert [path.name for path in tmp_path.iterdir()] == ["tracks.txt"]


def test_start_is_that_of_the_metadata_and_said(
    recording: Recording, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        cut_crops(recording.video, recording.tracks, tmp_path / "plaza", "a")
    assert "starts at 2026-03-01 08:00:00+00:00 by its metadata; --start corrects that" in caplog.text
    times = pd.to_datetime(read_table(tmp_path / "plaza")["time_s"])
    assert times.min() >= datetime(2026, 3, 1, 8, tzinfo=UTC) and times.max() < datetime(2026, 3, 1, 8, 1, tzinfo=UTC)


def write_frames(recording: Recording, folder: Path) -> Path:
    """Write the recording as a folder of JPEG frames, which has no start."""
    (folder / "img1").mkdir(parents=True)
    (folder / "seqinfo.ini").write_text(f"[Sequence]\nimDir=img1\nframeRate={SETTINGS.frame_rate}\n")
    for frame in open_frames(recording.video, None).read(range(99)):
        assert frame.picture is not None
        rgb = frame.picture._frame.to_ndarray(format="rgb24")
        Image.fromarray(rgb).save(folder / f"img1/{frame.number:06d}.jpg", quality=95)
    return folder


def test_folder_of_frames_gives_the_crops_of_the_video_with_seconds(
    cut: tuple[Path, Cut], recording: Recording, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frames = write_frames(recording, tmp_path / "MOT17-02")
    cut_crops(frames, recording.tracks, tmp_path / "plaza", "entrance", settings=CLOSE)
    assert "states no start, so time_s is in seconds from its first frame" in caplog.text
    table = read_table(tmp_path / "plaza")
    assert table["time_s"].astype(float).max() < SETTINGS.seconds
    assert {*table["track"]} == {*read_table(cut[0])["track"]}
    with pytest.raises(InputError, match="every camera must have times with a date, got none of entrance; set --start"):
        cut_crops(recording.video, recording.tracks, tmp_path / "plaza", "hall")
    assert not (tmp_path / "plaza/images/hall").exists()


def test_start_without_a_zone_is_refused(recording: Recording, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the start must have a zone, such as 2026-03-01T08:00:00\\+01:00"):
        cut_crops(recording.video, recording.tracks, tmp_path / "a", "a", start=datetime(2026, 3, 1, 8))


def test_detections_without_tracks_are_sightings_by_themselves(recording: Recording, tmp_path: Path) -> None:
    lines = [line.split(",") for line in recording.tracks.read_text().splitlines()]
    tracks = tmp_path / "det.txt"
    tracks.write_text("\n".join(",".join([line[0], "-1", *line[2:]]) for line in lines))
    cut_crops(recording.video, tracks, tmp_path / "plaza", "a", start=START)
    table = read_table(tmp_path / "plaza")
    assert set(table["track"]) == {""}
    frames = sorted({int(Path(image).stem.split("_")[1]) for image in table["image"]})
    assert 3 <= len(frames) <= 5 and min(np.diff(frames)) >= SETTINGS.frame_rate


def test_kill_before_the_rows_are_written_leaves_the_other_cameras_and_can_be_repeated(
    recording: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "plaza"
    cut_crops(recording.video, recording.tracks, folder, "entrance", start=START)
    table = read_table(folder)
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(pd.DataFrame, "to_csv", lambda *_, **__: exit(143))
        cut_crops(recording.video, recording.tracks, folder, "hall", start=START)
    pd.testing.assert_frame_equal(read_table(folder), table)
    assert cut_crops(recording.video, recording.tracks, folder, "hall", start=START).crops == len(table)
    assert set(read_table(folder)["camid"]) == {"entrance", "hall"}


@pytest.mark.parametrize("camera", ["", "../hall", "a b", "-x"])
def test_camera_that_cannot_name_a_folder_is_refused(camera: str, recording: Recording, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="camera: a name must be of letters"):
        cut_crops(recording.video, recording.tracks, tmp_path / "plaza", camera, start=START)


def test_folder_of_something_else_is_refused_and_kept(recording: Recording, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "images/entrance").mkdir(parents=True)
    (home / "images/entrance/holiday.jpg").touch()
    with pytest.raises(InputError, match="images/entrance: must be absent, or be images that `qaconv crops` wrote"):
        cut_crops(recording.video, recording.tracks, home, "entrance", start=START)
    (home / "sightings.csv").write_text("image,pid,camid,time_s,split\n")
    with pytest.raises(InputError, match=r"sightings\.csv: must have the columns image, camid, time_s, track that"):
        cut_crops(recording.video, recording.tracks, home, "entrance", start=START)
    (home / "sightings.csv").rename(home / "letter.csv")
    with pytest.raises(InputError, match="home: must be absent, or a folder that `qaconv crops` wrote"):
        cut_crops(recording.video, recording.tracks, home, "entrance", start=START)
    assert (home / "images/entrance/holiday.jpg").exists()


def test_damaged_frames_are_left_out_and_counted(
    recording: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Damaged:
        def __init__(self, path: Path, frame_rate: float | None) -> None:
            self._frames = open_frames(path, frame_rate)
            self.path, self.created = path, None
            self.width, self.height = self._frames.width, self._frames.height

        def read(self, wanted: Container[int]) -> Iterator[Frame]:
            for frame in self._frames.read(wanted):
                yield frame._replace(picture=None) if 10 <= frame.number < 20 else frame

    monkeypatch.setattr(crops, "open_frames", Damaged)
    cut_crops(recording.video, recording.tracks, tmp_path / "plaza", "a", start=START, settings=CLOSE)
    frames = {int(Path(image).stem.split("_")[1]) for image in read_table(tmp_path / "plaza")["image"]}
    assert frames and not frames & set(range(10, 20))
    assert "10 damaged frames with people are left out" in caplog.text


def test_memory_does_not_grow_with_the_length_of_the_video(
    recording: Recording,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    peak_bytes: Callable[[Callable[[], object]], int],
) -> None:
    (frame, *_) = open_frames(recording.video, None).read({1})

    class Long:
        path, width, height, created = recording.video, SETTINGS.width, SETTINGS.height, None

        def __init__(self, path: Path, frame_rate: float | None) -> None:
            pass

        def read(self, wanted: Container[int]) -> Iterator[Frame]:
            yield from (Frame(number, float(number), frame.picture) for number in range(1, 1001))

    monkeypatch.setattr(crops, "open_frames", Long)
    tracks = tmp_path / "tracks.txt"
    tracks.write_text("".join(f"{n},{n // 5},10,10,200,140\n" for n in range(1, 1001)))  # 42 kB for each crop
    peak = peak_bytes(lambda: cut_crops(recording.video, tracks, tmp_path / "plaza", "a", start=START))
    assert len(read_table(tmp_path / "plaza")) == 1000
    assert peak < 12e6


def test_command_says_in_one_line_what_it_did_and_has_the_defaults_of_the_library(
    recording: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[CropSettings] = []

    def cut_and_note(*arguments: Any, settings: CropSettings, **options: Any) -> Cut:
        seen.append(settings)
        return cut_crops(*arguments, settings=settings, **options)

    monkeypatch.setattr("qaconv.video.commands.cut_crops", cut_and_note)
    words = ["crops", "--camera", "hall", "--video", recording.video, "--tracks", recording.tracks]
    words += ["--out", tmp_path / "plaza", "--start", "2026-03-01T08:00:00+01:00"]
    runner = CliRunner()
    for expected in ("camera hall has 6 crops of 3 tracks; boxes left out: 0 too small, ", "nothing to do"):
        result = runner.invoke(cli.app, [str(word) for word in words])
        assert result.exit_code == 0 and expected in result.output, result.output
    assert seen == [DEFAULTS, DEFAULTS]
    result = runner.invoke(cli.app, [*map(str, words[:-1]), "tomorrow"])
    assert result.exit_code == 2 and "--start must be a time such as" in result.output


def test_crops_are_jpeg_files_that_the_project_decodes(cut: tuple[Path, Cut]) -> None:
    for path, content in contents(cut[0]).items():
        if path.endswith(".jpg"):
            with Image.open(io.BytesIO(content)) as image:
                assert (image.format, image.mode) == ("JPEG", "RGB")
