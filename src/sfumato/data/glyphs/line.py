"""Single characters set in a line, as a printer sets them: each as wide as its ink."""

from __future__ import annotations

import unicodedata

import torch
from jaxtyping import Float
from torch import Tensor

INKED = 0.5
"""Below this level a pixel counts as ink."""
GAP = 0.08
"""Between letters, in heights of a picture."""
SPACE = 0.3
"""Width of a space, likewise."""
WIDE = 0.92
"""Advance of a Chinese character, likewise: it fills its square."""
MARGIN = 0.15


def line(text: str, glyphs: Float[Tensor, "n c h w"], gap: float = GAP) -> Float[Tensor, "c h l"]:
    """A line of text in [-1, 1] on white; ``glyphs`` are the pictures of what is no space, in order."""
    height = glyphs.shape[2]
    margin, between = round(MARGIN * height), round(gap * height)
    parts = [_blank(glyphs, margin)]
    pictures = iter(glyphs)
    for i, character in enumerate(text):
        if character.isspace():
            parts.append(_blank(glyphs, round(SPACE * height)))
            continue
        picture = next(pictures)
        if unicodedata.east_asian_width(character) in "WF":
            cut = round((1 - WIDE) * picture.shape[2] / 2)
            parts.append(picture[:, :, cut : picture.shape[2] - cut])
            continue
        inked = (picture.amin((0, 1)) < INKED).nonzero()[:, 0]
        if len(inked):
            picture = picture[:, :, int(inked[0]) : int(inked[-1]) + 1]
        parts.append(picture)
        if i + 1 < len(text):
            parts.append(_blank(glyphs, between))
    parts.append(_blank(glyphs, margin))
    return torch.cat(parts, 2)


def even(lines: list[Float[Tensor, "c h _"]]) -> Float[Tensor, "n c h l"]:
    """Lines of different length as pictures of one size, each in the middle."""
    longest = max(one.shape[2] for one in lines)
    out = lines[0].new_ones(len(lines), *lines[0].shape[:2], longest)
    for picture, one in zip(out, lines, strict=True):
        start = (longest - one.shape[2]) // 2
        picture[:, :, start : start + one.shape[2]] = one
    return out


def _blank(like: Tensor, width: int) -> Tensor:
    return like.new_ones(*like.shape[1:3], max(0, width))
