"""Video files in a stream: frames are read, changed and written one by one, in constant memory."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from sfumato.apps.film import QUALITY, levels, video_library
from sfumato.errors import DataError, StorageError
from sfumato.images import fit, from_levels, to_levels

if TYPE_CHECKING:
    from types import ModuleType

    from sfumato.apps.sample import Report

SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ogv", ".gif")
PIXELS = 2**20
"""Most pixels of frames that are changed together, unless a single one has more."""
RATE = 25.0
"""Frames a second of files that do not say."""
TURNS = {90: 1, -270: 1, 180: 2, -180: 2, -90: 3, 270: 3}
"""Quarter turns against the clock that set a frame upright, by what its file says."""

Paint = Callable[[Float[Tensor, "n 3 h w"]], Float[Tensor, "n 3 h w"]]


@dataclass(frozen=True)
class Shot:
    """Frames of a file that follow each other."""

    levels: UInt8[Tensor, "n 3 h w"]
    times: tuple[int, ...]
    """When each is shown, in units of the file's clock."""


@dataclass(frozen=True)
class Footage:
    """What a file says of itself."""

    frames: int
    """About so many; 0 if it does not say."""
    rate: Fraction
    clock: Fraction
    """Seconds a unit of time."""
    sound: bool


def is_video(path: Path) -> bool:
    """Whether a file is one by its name."""
    return path.suffix.lower() in SUFFIXES


def change(
    source: Path,
    target: Path,
    paint: Paint,
    settings: Mapping[str, Any],
    report: Report,
    *,
    side: int | None = None,
) -> tuple[str, ...]:
    """Write ``target`` (H.264) with every frame of ``source`` as ``paint`` answers it, at the same moment.

    ``side`` scales frames down so that the longer side has at most so many pixels. The settings stand as JSON
    in the comment. Returns what the user should know. Raises ``DataError`` for files that hold no video or
    break off at once, ``MissingExtraError`` without PyAV, ``StorageError`` if it cannot be written.
    """
    av = video_library()
    aside = target.with_name(f".{os.getpid()}-{target.name}.part")
    notes: list[str] = []
    with _opened(av, source) as file:
        told = _told(file)
        if told.sound:
            notes.append(f"'{source}' has sound, which is left out")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            done = _rewrite(av, _shots(av, file, source, side, notes), told, aside, paint, settings, report)
            if not done:
                raise DataError(f"'{source}' holds no frame that can be read; give another file.")
            os.replace(aside, target)
        except OSError as error:
            reason = error.strerror or str(error)
            raise StorageError(f"Cannot write '{target}': {reason}; free some space.") from error
        finally:
            aside.unlink(missing_ok=True)
    return tuple(notes)


def first_frame(source: Path, side: int | None = None) -> Float[Tensor, "1 3 h w"]:
    """The first frame of a file, in [-1, 1]; raises as ``change`` does."""
    av = video_library()
    with _opened(av, source) as file:
        shot = next(_shots(av, file, source, side, []), None)
    if shot is None:
        raise DataError(f"'{source}' holds no frame that can be read; give another file.")
    return from_levels(shot.levels[:1])


def _rewrite(
    av: ModuleType,
    shots: Iterator[Shot],
    told: Footage,
    aside: Path,
    paint: Paint,
    settings: Mapping[str, Any],
    report: Report,
) -> int:
    """The frames that were written."""
    done = 0
    stream: Any = None
    with av.open(str(aside), "w", format="mp4") as out:
        out.metadata["comment"] = json.dumps(dict(settings))
        for shot in shots:
            painted = levels(paint(from_levels(shot.levels)).float().cpu()).numpy()
            if stream is None:
                stream = out.add_stream("libx264", rate=told.rate)
                stream.height, stream.width = painted.shape[1:3]
                stream.pix_fmt, stream.options = "yuv420p", {"crf": QUALITY}
                stream.time_base = stream.codec_context.time_base = told.clock
            for pixels, time in zip(painted, shot.times, strict=True):
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                frame.pts, frame.time_base = time, told.clock
                out.mux(stream.encode(frame))
            done += len(painted)
            report(min(1.0, done / told.frames) if told.frames else 0.0)
        if stream is not None:
            out.mux(stream.encode())
    return done


def _told(file: Any) -> Footage:
    stream = file.streams.video[0]
    rate = stream.average_rate or stream.guessed_rate or Fraction(RATE)
    seconds = float(file.duration or 0) / 1e6
    frames = stream.frames or math.ceil(seconds * float(rate))
    clock = stream.time_base or 1 / rate
    return Footage(int(frames), Fraction(rate), Fraction(clock), bool(file.streams.audio))


def _shots(av: ModuleType, file: Any, source: Path, side: int | None, notes: list[str]) -> Iterator[Shot]:
    """Frames upright and scaled, as many together as may be; where a file breaks off it ends, with a note."""
    waiting: list[Tensor] = []
    times: list[int] = []
    try:
        for frame in file.decode(video=0):
            pixels = _pixels(frame, side)
            full = waiting and (
                pixels.shape != waiting[0].shape or pixels[0].numel() * (len(waiting) + 1) > PIXELS
            )
            if full:
                yield Shot(torch.stack(waiting), tuple(times))
                waiting, times = [], []
            after = times[-1] + 1 if times else 0
            waiting.append(pixels)
            times.append(after if frame.pts is None else int(frame.pts))
    except av.FFmpegError as error:
        notes.append(f"'{source}' breaks off: {error.strerror}; what came before is there")
    if waiting:
        yield Shot(torch.stack(waiting), tuple(times))


def _pixels(frame: Any, side: int | None) -> UInt8[Tensor, "3 h w"]:
    image = frame.to_image()
    if turns := TURNS.get(round(frame.rotation), 0):
        image = image.rotate(90 * turns, expand=True)
    if side is not None and max(image.size) > side:
        factor = side / max(image.size)
        image = fit(image, max(1, round(image.height * factor)), max(1, round(image.width * factor)))
    return to_levels(image)


@contextmanager
def _opened(av: ModuleType, source: Path) -> Iterator[Any]:
    try:
        file = av.open(str(source))
    except (av.FFmpegError, OSError) as error:
        raise DataError(f"Cannot read video '{source}': {error.strerror}; give another file.") from error
    with file:
        if not file.streams.video:
            raise DataError(f"'{source}' holds no video; give a file that does.")
        file.streams.video[0].thread_type = "AUTO"
        yield file
