"""Moving pictures as a person holds them: GIF, MP4, a strip of stills; notebooks show them."""

from __future__ import annotations

import html
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import PIL.Image
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from sfumato import images
from sfumato.apps.pictures import free_together
from sfumato.core.result import Brief
from sfumato.errors import DataError, MissingExtraError

if TYPE_CHECKING:
    from types import ModuleType

STILLS = 9
"""Most pictures in a row of the strip."""
STILL = 96
"""Pixels of the shorter side of a still, or more."""
QUALITY = "18"
"""Constant rate factor of H.264: from here on people see no loss."""


@dataclass(frozen=True, repr=False)
class Film(Brief):
    """The answer to a request for moving pictures."""

    pixels: Float[Tensor, "f c h w"]
    """In [-1, 1]."""
    rate: float
    """Frames a second."""
    settings: Mapping[str, Any] = field(repr=False)
    """What makes it again."""
    rows: tuple[tuple[int, ...], ...] = field(repr=False)
    """The frames shown in the strip, row by row."""
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.pixels)

    def strip(self) -> PIL.Image.Image:
        """Stills, a row for each way from picture to picture."""
        columns = max(len(row) for row in self.rows)
        shown = [frame for row in self.rows for frame in row]
        return images.grid(images.enlarged(self.pixels[shown], STILL), columns)

    def gif(self) -> bytes:
        """The film as a GIF with its settings in the comment."""
        return images.gif(images.enlarged(self.pixels), self.rate, self.settings)

    def save(self, path: str | Path, *, mp4: bool = False) -> list[Path]:
        """Write ``path`` with the suffixes .gif and .png (the strip), and .mp4 if asked for; return these.

        Files there that were made with other settings keep their names; the new ones get a number.
        """
        av, path = video_library() if mp4 else None, Path(path)
        wanted = [path.with_suffix(suffix) for suffix in (".gif", ".png", *([".mp4"] if mp4 else []))]
        paths = free_together(wanted, self.settings)
        images.save_bytes(self.gif(), paths[0])
        images.save_png(self.strip(), paths[1], self.settings)
        if av is not None:
            images.save_bytes(h264(av, images.enlarged(self.pixels), self.rate, self.settings), paths[2])
        return paths

    def _repr_html_(self) -> str:
        notes = "".join(f"<p>note: {html.escape(note)}</p>" for note in self.notes)
        return f"<div>{images.gif_tag(self.pixels, self.rate)}{notes}</div>"


def stills(keys: int, frames: int, *, loop: bool, most: int = STILLS) -> tuple[tuple[int, ...], ...]:
    """The frames that show a walk over ``keys`` pictures, ``frames`` steps each: a row from key to key.

    >>> stills(3, 4, loop=False)
    ((0, 1, 2, 3, 4), (4, 5, 6, 7, 8))
    >>> stills(2, 16, loop=True)[1]
    (16, 18, 20, 22, 24, 26, 28, 30, 0)
    """
    legs = keys if loop else keys - 1
    total = legs * frames + (0 if loop else 1)
    count = min(most, frames + 1)
    steps = [round(i * frames / (count - 1)) for i in range(count)]
    return tuple(tuple((leg * frames + step) % total for step in steps) for leg in range(legs))


def video_library() -> ModuleType:
    """PyAV; a ``MissingExtraError`` if it is not installed."""
    try:
        import av
    except ImportError as error:
        raise MissingExtraError('MP4 needs the extra "video": pip install "sfumato[video]"') from error
    return av


def h264(av: ModuleType, pixels: Float[Tensor, "f c h w"], rate: float, settings: Mapping[str, Any]) -> bytes:
    """H.264 as every player takes it (even sides, 4:2:0), the settings as JSON in its comment."""
    frames, buffer = levels(pixels), io.BytesIO()
    with av.open(buffer, "w", format="mp4") as file:
        file.metadata["comment"] = json.dumps(dict(settings))
        stream = file.add_stream("libx264", rate=Fraction(rate).limit_denominator(1000))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.options = "yuv420p", {"crf": QUALITY}
        for frame in frames.numpy():
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode())
    return buffer.getvalue()


def levels(pixels: Float[Tensor, "f c h w"]) -> UInt8[Tensor, "f i j 3"]:
    """Grey levels 0 to 255 of RGB frames with even sides; an odd side repeats its last pixels."""
    height, width = pixels.shape[-2:]
    even = torch.nn.functional.pad(pixels, (0, width % 2, 0, height % 2), mode="replicate")
    if not bool(torch.isfinite(even).all()):
        raise DataError("The film holds NaN or infinity; try --precision fp32.")
    return (
        ((even.clamp(-1, 1) + 1) * 127.5)
        .round()
        .byte()
        .expand(-1, 3, -1, -1)
        .permute(0, 2, 3, 1)
        .contiguous()
    )
