"""Frames have the times of their stamps, and a video that cannot be trusted is refused with one message."""

import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from qaconv.errors import InputError
from qaconv.video.frames import open_frames
from qaconv.video.picture import Box
from tests.video.conftest import SETTINGS, Recording


def write_video(path: Path, stamps: list[int], **metadata: str) -> Path:
    """Write frames of growing brightness with time stamps in milliseconds."""
    with av.open(str(path), "w") as container:
        container.metadata.update(metadata)
        stream = container.add_stream("libx264", rate=25, options={"g": "5"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, stamp in enumerate(stamps):
            noise = np.random.default_rng(number).integers(0, 100, (48, 64, 3), dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(noise, "rgb24")
            frame.pts = stamp
            frame.time_base = Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def read_all(path: Path) -> list[float]:
    return [frame.time_s for frame in open_frames(path, None).read(())]


def cut_short(path: Path, share: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    return path


def write_sound(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), "fltp", "mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    return path


def test_times_of_a_variable_frame_rate_are_those_of_the_stamps(tmp_path: Path) -> None:
    stamps = [200, 240, 500, 1500, 1510, 4000]
    for name in ("a.mp4", "a.mkv"):
        times = read_all(write_video(tmp_path / name, stamps))
        assert times == pytest.approx([(stamp - 200) / 1000 for stamp in stamps], abs=2e-3)


@pytest.mark.parametrize(
    ("stated", "created"),
    [
        ("2026-03-01T08:00:00Z", "2026-03-01T08:00:00+00:00"),
        ("1970-01-01T00:00:00Z", "None"),  # a clock that was never set
        ("2126-03-01T08:00:00Z", "None"),
    ],
)
def test_creation_time_is_read_if_a_clock_can_have_shown_it(stated: str, created: str, tmp_path: Path) -> None:
    frames = open_frames(write_video(tmp_path / "a.mp4", [0, 40], creation_time=stated), None)
    assert str(frames.created).replace(" ", "T") == created


@pytest.mark.parametrize(
    ("name", "write", "fault"),
    [
        ("a.mp4", lambda path: path.write_bytes(b""), "cannot be read as a video: Invalid data"),
        ("a.mp4", lambda path: path.write_bytes(b"no video" * 99), "cannot be read as a video: Invalid data"),
        ("a.mp4", lambda path: cut_short(write_video(path, [*range(0, 2000, 40)]), 0.5), "cannot be read as a video"),
        ("a.mp4", write_sound, "must have a video stream, got none"),
        ("a.h264", lambda path: write_video(path, [0, 40]), "must have time stamps, which a file of the format h264"),
        ("a.mp4", lambda path: None, "must be a video file or a folder of frames, does not exist"),
    ],
    ids=["empty", "no video", "without its index", "sound alone", "bare stream", "missing"],
)
def test_file_that_is_no_video_with_times_is_refused(
    name: str, write: Callable[[Path], object], fault: str, tmp_path: Path
) -> None:
    write(tmp_path / name)
    with pytest.raises(InputError, match=f"{re.escape(name)}: {fault}"):
        read_all(tmp_path / name)


@pytest.mark.parametrize("name", ["a.mkv", "a.flv"])
def test_video_that_breaks_half_way_is_refused_with_its_last_good_time(name: str, tmp_path: Path) -> None:
    path = cut_short(write_video(tmp_path / name, [*range(0, 6000, 40)]), 0.5)
    with pytest.raises(InputError, match=r"damaged or cut off after [123]\.\d\d s \(\d+ frames\)"):
        read_all(path)


def test_damage_in_the_middle_is_refused_with_the_last_good_time(recording: Recording, tmp_path: Path) -> None:
    content = bytearray(recording.video.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4000] = np.random.default_rng(0).bytes(4000)
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"damaged or cut off after \d\.\d\d s \(\d+ frames\): Invalid data"):
        read_all(path)


def test_frame_rate_of_a_video_file_must_not_be_set(recording: Recording) -> None:
    with pytest.raises(InputError, match="has its own times, so that the frame rate must not be set"):
        open_frames(recording.video, 25.0)


def test_video_that_is_stored_turned_is_refused(tmp_path: Path) -> None:
    upright = write_video(tmp_path / "upright.mp4", [0, 40, 80])
    turned = tmp_path / "turned.mp4"
    with av.open(str(upright)) as source, av.open(str(turned), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        stream.set_display_rotation(90)
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)
    with pytest.raises(InputError, match=r"must be stored upright, got a turn by -?90 degrees"):
        read_all(turned)


def test_planes_of_a_box_are_the_pixels_of_the_frame(recording: Recording) -> None:
    frame = next(open_frames(recording.video, None).read({1}))
    assert frame.picture is not None
    with av.open(str(recording.video)) as container:
        whole = next(container.decode(video=0)).to_ndarray(format="rgb24")
    box = Box(31, 21, 70, 100)
    cut = frame.picture.cut(box).to_ndarray(format="rgb24")
    np.testing.assert_allclose(cut.astype(int), whole[20:100, 30:70], atol=4)
    assert frame.picture.brightness(box).shape == (79, 39)


def write_sequence(folder: Path, numbers: range, info: str | None) -> Path:
    (folder / "img1").mkdir(parents=True)
    for number in numbers:
        Image.new("RGB", (64, 48), (number * 20, 0, 0)).save(folder / f"img1/{number:06d}.png")
    if info is not None:
        (folder / "seqinfo.ini").write_text(info)
    return folder


def test_motchallenge_folder_has_the_frame_rate_of_its_description(tmp_path: Path) -> None:
    folder = write_sequence(tmp_path / "MOT17-02", range(1, 4), "[Sequence]\nimDir=img1\nframeRate=10\n")
    for path in (folder, folder / "img1"):
        frames = open_frames(path, None)
        assert (frames.width, frames.height, frames.created) == (64, 48, None)
        read = list(frames.read({2}))
        assert [(frame.number, frame.time_s) for frame in read] == [(1, 0.0), (2, 0.1), (3, 0.2)]
        assert [frame.picture is not None for frame in read] == [False, True, False]
    assert [frame.time_s for frame in open_frames(folder / "img1", 5.0).read(())] == [0.0, 0.2, 0.4]


@pytest.mark.parametrize(
    ("numbers", "info", "extra", "fault"),
    [
        (range(1, 3), None, None, "must have a frame rate"),
        (range(2, 4), "[Sequence]\nframeRate=10\n", None, "one image for each frame, numbered from 1"),
        (range(1, 6, 2), "[Sequence]\nframeRate=10\n", None, "one image for each frame, numbered from 1 without gaps"),
        (range(1, 3), "[Sequence]\nframeRate=0\n", None, "a frameRate above 0"),
        (range(1, 3), "frameRate\n", None, "cannot be read as a sequence's description"),
        (range(1, 3), "[Sequence]\nframeRate=10\n", "cover.jpg", "1 names do not have the form 000001.jpg"),
        (range(1, 3), "[Sequence]\nframeRate=10\n", "00001.jpg", "one image for each frame"),
        (range(0), "[Sequence]\nframeRate=10\n", None, "one image for each frame"),
    ],
)
def test_folder_of_frames_without_clear_times_is_refused(
    numbers: range, info: str | None, extra: str | None, fault: str, tmp_path: Path
) -> None:
    folder = write_sequence(tmp_path / "a", numbers, info)
    if extra:
        (folder / "img1" / extra).touch()
    with pytest.raises(InputError, match=fault):
        open_frames(folder / "img1", None)


def test_image_that_does_not_decode_or_has_another_size_is_named(tmp_path: Path) -> None:
    folder = write_sequence(tmp_path / "a", range(1, 4), "[Sequence]\nframeRate=10\n")
    frames = open_frames(folder, None)
    Image.new("RGB", (32, 48)).save(folder / "img1/000002.png")
    (folder / "img1/000003.png").write_bytes(b"\x89PNG but not for long")
    with pytest.raises(InputError, match=r"000002\.png: must have 64 x 48 pixels as the first, got 32 x 48"):
        list(frames.read({2}))
    with pytest.raises(InputError, match=r"000003\.png: cannot be read as an image"):
        list(frames.read({3}))


def test_recording_has_the_frames_that_were_rendered(recording: Recording) -> None:
    times = read_all(recording.video)
    assert times == pytest.approx(np.arange(SETTINGS.seconds * SETTINGS.frame_rate) / SETTINGS.frame_rate)
