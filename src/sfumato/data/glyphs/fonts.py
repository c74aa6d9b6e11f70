"""Fonts that a pen writes: eight with names, and one for every number beyond them; characters as pictures."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sfumato.data.glyphs.pen import Strokes, Style, write
from sfumato.data.glyphs.render import ink
from sfumato.data.glyphs.skeletons import BELOW, numbers_of
from sfumato.data.shapes.scene import scene_keys, unit
from sfumato.errors import UsageError

REGULAR = (0.055, 0.0, 0.15, 0.0, 1.0, 1.0, 0.0)
"""The plain font that others are made from: one column for each field of ``Style``."""
NAMED = {
    "light": (0.024, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0),
    "bold": (0.105, 0.0, 0.3, 0.0, 0.9, 1.1, 0.0),
    "italic": (0.045, 0.3, 0.3, 0.0, 1.0, 0.9, 0.0),
    "roman": (0.06, 0.0, 0.65, 0.13, 1.0, 1.0, 0.0),
    "square": (0.06, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    "narrow": (0.06, 0.0, 0.2, 0.0, 0.6, 0.62, 0.0),
    "slab": (0.085, 0.0, 0.1, 0.15, 0.7, 0.95, 0.0),
    "backhand": (0.07, -0.25, 0.6, 0.07, 1.0, 0.95, 0.0),
}
LOWEST = (0.022, -0.2, 0.0, 0.0, 0.0, 0.65, 0.0)
HIGHEST = (0.11, 0.35, 0.7, 0.15, 1.0, 1.15, 0.008)
SANS = 0.5
"""Share of the fonts without names that have no serifs."""
FILL = 0.8
"""Of the picture's height that reaches from the lowest descender to the top of a capital."""
_PURPOSE = range(300, 308)
_CHANCE = 15


def styles_of(fonts: Int[Tensor, " n"]) -> Style:
    """The styles of fonts by number: 0 to 7 are those of ``NAMED``, -1 is the regular one, others follow."""
    named = torch.tensor([*NAMED.values(), REGULAR])
    chance = unit(scene_keys(0, fonts), _PURPOSE)
    low, high = torch.tensor(LOWEST), torch.tensor(HIGHEST)
    free = low + (high - low) * chance[:, :7]
    free[:, 3] *= chance[:, 7] >= SANS
    known = (fonts < len(NAMED))[:, None]
    return Style.stack(torch.where(known, named[fonts.clamp(max=len(NAMED) - 1)], free))


def glyphs(
    characters: Int[Tensor, " n"], styles: Style, size: int, chance: Float[Tensor, "n 15"] | None = None
) -> Float[Tensor, "n 1 h w"]:
    """Pictures of characters, black on white in [-1, 1], centred, all upon one line."""
    if size < 8:
        raise UsageError(f"Glyphs need 8 pixels a side, got {size}; choose 32 or 64.")
    return 1 - 2 * ink(placed(write(characters, styles, chance), size), size, size)[:, None]


def placed(strokes: Strokes, size: int) -> Strokes:
    """Strokes in pixels of a square picture."""
    scale = size * FILL / (1 + BELOW)
    left, right = strokes.extent
    middle = (left + right)[:, None] / 2
    bottom = size * (1 - FILL) / 2 + BELOW * scale

    def put(points: Tensor) -> Tensor:
        return torch.stack(
            [size / 2 + (points[..., 0] - middle) * scale, bottom + points[..., 1] * scale], -1
        )

    return replace(strokes.moved(put), start=strokes.start * scale, stop=strokes.stop * scale)


def of_text(text: str, font: int, size: int) -> Float[Tensor, "n 1 h w"]:
    """Pictures of the characters of a text in the font of a number."""
    characters = numbers_of(text)
    return glyphs(characters, styles_of(torch.full((len(characters),), font)), size)
