"""The one picture whose style is to be learned: a file of the user's, or a painted texture by its number."""

from __future__ import annotations

import math
from pathlib import Path

from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from sfumato.data.textures import LARGEST, paint
from sfumato.errors import DataError, UsageError
from sfumato.images import open_image, to_levels, to_pil

TEXTURE = "texture:"
LEAST = 16
"""Pixels a side below which a picture holds no strokes to learn from."""


def style_levels(name: str, side: int, channels: int) -> UInt8[Tensor, "c h w"]:
    """Grey levels of a style picture, scaled to about as many pixels as a square of ``side`` has.

    ``name`` is the path of a file, or "texture:" and a number. Raises ``UsageError`` for a name that is
    neither, ``DataError`` for a picture too small or too long, and what ``open_image`` raises.
    """
    if not LEAST <= side <= LARGEST:
        raise UsageError(
            f"Styles are learned at {LEAST} to {LARGEST} pixels a side, got {side}; 256 is usual."
        )
    if name.startswith(TEXTURE):
        return to_levels(to_pil(paint(_number(name), side, side)), channels)
    if not Path(name).expanduser().is_file():
        raise UsageError(f"There is no style picture '{name}'; give the path of one, or such as {TEXTURE}19.")
    image = open_image(Path(name).expanduser())
    if min(image.size) < LEAST:
        raise DataError(
            f"'{name}' has {image.width} x {image.height} pixels, of which no style can be learned; give a "
            f"picture of {LEAST} pixels a side or more."
        )
    width, height = scaled(image.size, side)
    if min(width, height) < LEAST:
        raise DataError(
            f"'{name}' is too long and narrow: {image.width} x {image.height} pixels; give a part of it."
        )
    return to_levels(image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0), channels)


def scaled(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Width and height with the area of a square, in the same proportions.

    >>> scaled((400, 100), 64)
    (128, 32)
    """
    factor = side / math.sqrt(size[0] * size[1])
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _number(name: str) -> int:
    text = name.removeprefix(TEXTURE)
    if not text.isdigit():
        raise UsageError(f"Textures are numbered from 0, got '{name}'; write such as {TEXTURE}19.")
    return int(text)
