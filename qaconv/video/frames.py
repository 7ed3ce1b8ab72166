"""Read the frames of a video, or of a folder of images, one by one, each with its time."""

import configparser
import re
from collections.abc import Container, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, Protocol

import av

from qaconv.errors import InputError, name_first
from qaconv.video.picture import Picture

FRAME_NAME = re.compile(r"(\d+)\.(jpg|jpeg|png|bmp)", re.IGNORECASE)
FIRST_CREDIBLE = datetime(2000, 1, 1, tzinfo=UTC)  # a file's earlier creation time is of a clock that was never set
NO_TIMESTAMPS = 0x80  # AVFMT_NOTIMESTAMPS of FFmpeg
MISSING_END_S = 1.0  # that a video may end before its stated length: streams of one file differ by less


class Frame(NamedTuple):
    """One frame of a camera."""

    number: int  # from 1
    time_s: float  # since the first frame
    picture: Picture | None  # None if it was not wanted, or is damaged


class Frames(Protocol):
    """Frames of a camera: their size in pixels, when the first was recorded, and the frames one by one."""

    path: Path
    width: int
    height: int
    created: datetime | None

    def read(self, wanted: Container[int]) -> Iterator[Frame]:
        """Yield every frame, with the pictures of the wanted numbers."""


def open_frames(path: Path, frame_rate: float | None) -> Frames:
    """Open a video file, a folder of images, or a MOTChallenge folder with seqinfo.ini.

    Args:
        path: the file or folder. Images are named by their frame number, such as 000001.jpg.
        frame_rate: of a folder of images, in frames per second. Default: frameRate in seqinfo.ini.

    Raises:
        InputError: it cannot be read, has no frames, or the time of its frames is unknown.
    """
    if path.is_dir():
        return _FolderFrames(path, frame_rate)
    if not path.is_file():
        raise InputError(f"{path}: must be a video file or a folder of frames, does not exist")
    if frame_rate is not None:
        raise InputError(f"{path}: a video file has its own times, so that the frame rate must not be set")
    return _VideoFrames(path)


class _VideoFrames:
    """Frames of a video file. A frame's time is that of its presentation time stamp."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._open() as container:
            stream = container.streams.video[0]
            self.width = stream.codec_context.width
            self.height = stream.codec_context.height
            stated = container.metadata.get("creation_time") or stream.metadata.get("creation_time")
        self.created = _read_creation_time(stated)

    def read(self, wanted: Container[int]) -> Iterator[Frame]:
        first = 0
        time_s = 0.0
        number = 0
        with self._open() as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            length_s = _stated_length(container)
            decoded = container.decode(stream)
            while True:
                try:
                    frame = next(decoded, None)
                except (av.FFmpegError, EOFError) as error:
                    raise InputError(f"{self.path}: {_breaks(time_s, number)}: {_reason(error)}") from error
                if frame is None:
                    break
                if frame.pts is None or frame.time_base is None:
                    raise InputError(f"{self.path}: frame {number + 1} must have a time stamp, got none")
                number += 1
                first = frame.pts if number == 1 else first
                earlier, time_s = time_s, float((frame.pts - first) * frame.time_base)
                self._check(frame, number, earlier, time_s)
                is_wanted = number in wanted and not frame.is_corrupt
                yield Frame(number, time_s, Picture(frame) if is_wanted else None)
        if number == 0:
            raise InputError(f"{self.path}: must have at least one frame, got none")
        if length_s is not None and time_s + MISSING_END_S < length_s:
            raise InputError(f"{self.path}: {_breaks(time_s, number)}: must have {length_s:.2f} s by its header")

    def _check(self, frame: av.VideoFrame, number: int, earlier: float, time_s: float) -> None:
        if time_s < earlier:
            raise InputError(f"{self.path}: times must not run backwards, got {time_s:.3f} s after {earlier:.3f} s")
        if (frame.width, frame.height) != (self.width, self.height):
            raise InputError(
                f"{self.path}: all frames must have {self.width} x {self.height} pixels, got {frame.width} x "
                f"{frame.height} in frame {number}"
            )
        if frame.rotation:
            raise InputError(
                f"{self.path}: must be stored upright, got a turn by {frame.rotation} degrees that a player makes; "
                "`ffmpeg -i VIDEO UPRIGHT.mp4` stores it upright"
            )

    def _open(self) -> av.container.InputContainer:
        try:
            container = av.open(str(self.path))
        except (av.FFmpegError, EOFError) as error:
            raise InputError(f"{self.path}: cannot be read as a video: {_reason(error)}") from error
        fault = None
        if not container.streams.video:
            fault = "must have a video stream, got none"
        elif container.format.flags & NO_TIMESTAMPS or container.streams.video[0].time_base is None:
            fault = (
                f"must have time stamps, which a file of the format {container.format.name} has not; put it into mp4"
            )
        if fault:
            container.close()
            raise InputError(f"{self.path}: {fault}")
        return container


class _FolderFrames:
    """Frames that are images of a folder, named by their number, with a constant frame rate."""

    created: datetime | None = None  # files of images are as new as their last copy

    def __init__(self, path: Path, frame_rate: float | None) -> None:
        self.path = path
        images, stated_rate = _read_sequence(path)
        rate = frame_rate or stated_rate
        if rate is None:
            raise InputError(f"{path}: must have a frame rate (--frame-rate, or frameRate in seqinfo.ini), got none")
        self._rate = rate
        entries = sorted(entry for entry in images.iterdir() if not entry.name.startswith("."))
        matches = [FRAME_NAME.fullmatch(entry.name) for entry in entries]
        if wrong := [entry.name for entry, match in zip(entries, matches, strict=True) if match is None]:
            raise InputError(
                f"{images}: {len(wrong)} names do not have the form 000001.jpg (frame):{name_first(wrong)}"
            )
        self._files = {int(match[1]): entry for entry, match in zip(entries, matches, strict=True) if match}
        if not entries or sorted(self._files) != [*range(1, len(entries) + 1)]:
            raise InputError(f"{images}: must have one image for each frame, numbered from 1 without gaps")
        picture = self._load(1)
        self.width = picture.width
        self.height = picture.height

    def read(self, wanted: Container[int]) -> Iterator[Frame]:
        for number in sorted(self._files):
            yield Frame(number, (number - 1) / self._rate, self._load(number) if number in wanted else None)

    def _load(self, number: int) -> Picture:
        path = self._files[number]
        try:
            with av.open(str(path)) as container:
                picture = Picture(next(container.decode(video=0)))
        except (av.FFmpegError, EOFError, StopIteration, IndexError) as error:
            raise InputError(f"{path}: cannot be read as an image: {_reason(error)}") from error
        if number != 1 and (picture.width, picture.height) != (self.width, self.height):
            raise InputError(
                f"{path}: must have {self.width} x {self.height} pixels as the first, got {picture.width} x "
                f"{picture.height}"
            )
        return picture


def _read_sequence(path: Path) -> tuple[Path, float | None]:
    """Return the folder of images, and the frame rate that seqinfo.ini in or above it states."""
    is_sequence = (path / "seqinfo.ini").is_file()
    info = path / "seqinfo.ini" if is_sequence else path.parent / "seqinfo.ini"
    if not info.is_file():
        return path, None
    parser = configparser.ConfigParser()
    try:
        parser.read(info, encoding="utf-8")
        rate = parser.getfloat("Sequence", "frameRate")
        images = path / parser.get("Sequence", "imDir", fallback="img1") if is_sequence else path
    except (configparser.Error, ValueError) as error:
        raise InputError(f"{info}: cannot be read as a sequence's description: {error}") from error
    if not images.is_dir() or not rate > 0:
        raise InputError(f"{info}: must name a folder imDir and a frameRate above 0, got {images} and {rate:g}")
    return images, rate


def _read_creation_time(stated: str | None) -> datetime | None:
    """Read the creation time in a file's metadata; None if there is none, or one that no clock can have shown."""
    try:
        created = datetime.fromisoformat(stated or "")
    except ValueError:
        return None
    is_credible = created.tzinfo is not None and FIRST_CREDIBLE < created < datetime.now(UTC)
    return created if is_credible else None


def _stated_length(container: av.container.InputContainer) -> float | None:
    """Return the length of the video stream in seconds by the file's header; None if it states none."""
    stream = container.streams.video[0]
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    matroska = re.fullmatch(r"(\d+):(\d+):([\d.]+)", stream.metadata.get("DURATION", ""))
    if matroska:
        return 3600 * int(matroska[1]) + 60 * int(matroska[2]) + float(matroska[3])
    is_alone = len(container.streams) == 1  # a file's length is that of its longest stream
    return container.duration / av.time_base if is_alone and container.duration else None


def _breaks(time_s: float, number: int) -> str:
    return f"the video is damaged or cut off after {time_s:.2f} s ({number} frames)"


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
