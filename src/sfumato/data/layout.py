"""Where lines and words stand on a page: found by the white between them, no networks.

Projection profiles: the ink of every row of pixels tells lines apart, that of every column of a line its
words. Lines must not overlap. A page may be lit unevenly and lie a little askew, its paper light or dark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, max_pool2d, pad

from sfumato.data.frame import dark_on_light

FAINTEST = 0.25
"""Ink must be so much darker than its paper, of the 2 from black to white, or else there is none."""
COARSE = 4
"""Pixels a side that are taken together to find the paper's tone."""
SMALL = 0.35
"""Of the usual height of a line: lower ones are dots and accents, or dirt."""
NEAR = 0.3
"""Of the usual height of a line: white between two that belong together."""
SPACE = 0.25
"""Of a line's height: the least white between two words."""
WIDE_SPACE = 0.6
"""Of a line's height: white that parts words wherever it stands."""
UNLIKE = 2.0
"""How many times wider the white between words is than that between letters."""
MARGIN = 0.15
"""Of a line's height: how much paper is left around a word."""
SKEWS = [angle / 4 for angle in range(-24, 25)]
"""Degrees by which a page may lie askew."""
SKEWED_FROM = 96
"""Pixels of height from which a page may be turned: below, it is a word that may rise as it likes."""
STRAIGHT = 1.05
"""How much clearer lines must become for a page to be turned."""


@dataclass(frozen=True)
class Box:
    """A word's place on its page, in pixels; right and bottom are the first beyond it."""

    line: int
    left: int
    top: int
    right: int
    bottom: int


def inked(page: Float[Tensor, "1 h w"]) -> Bool[Tensor, "h w"]:
    """Where there is ink, on a page with dark ink; nowhere if it is everywhere as light as its paper."""
    x = avg_pool2d(pad(page[None], (1, 1, 1, 1), mode="replicate"), 3, 1)
    dark = (_paper(x) - x)[0, 0]
    if float(dark.flatten().kthvalue(math.ceil(0.998 * dark.numel())).values) < FAINTEST:
        return torch.zeros(dark.shape, dtype=torch.bool)
    mask = dark > max(FAINTEST / 2, _otsu(dark))
    neighbours = avg_pool2d(mask[None, None].float(), 3, 1, 1)[0, 0] * 9
    return mask & (neighbours > 2.5)


def _paper(x: Float[Tensor, "1 1 h w"]) -> Float[Tensor, "1 1 h w"]:
    """The tone of the paper under the ink: the lightest around, taken back to where it came from."""
    height, width = x.shape[2:]
    coarse = max_pool2d(x, COARSE, ceil_mode=True)
    reach = max(2, math.ceil(min(height, width) / 4 / COARSE))
    coarse = pad(coarse, (2 * reach,) * 4, mode="replicate")
    for sign in (1, -1):  # a closing, along one axis after the other
        for kernel in ((2 * reach + 1, 1), (1, 2 * reach + 1)):
            coarse = sign * max_pool2d(sign * coarse, kernel, 1)
    return interpolate(coarse, (height, width), mode="bilinear")


def _otsu(values: Float[Tensor, "h w"]) -> float:
    """The threshold that parts values into the two most different groups (Otsu 1979)."""
    counts = torch.histc(values, 64, 0.0, 2.0)
    centres = (torch.arange(64) + 0.5) / 32
    below, sums = counts.cumsum(0), (counts * centres).cumsum(0)
    above = below[-1] - below
    apart = sums / below.clamp(min=1) - (sums[-1] - sums) / above.clamp(min=1)
    return float(centres[int((below * above * apart.square()).argmax())]) + 1 / 64


def skew(page: Float[Tensor, "1 h w"]) -> float:
    """Degrees by which the lines of a page with dark ink rise to the right; 0 if that is not clear.

    Turned by the right angle, rows hold much ink or none: the sum of their squares is largest.
    """
    if page.shape[1] < SKEWED_FROM:
        return 0.0
    y, x = (axis.double() for axis in inked(page).nonzero().unbind(1))
    if not len(y):
        return 0.0
    clear = {angle: _clarity(y, x, angle) for angle in SKEWS}
    best = max(clear, key=lambda angle: clear[angle])
    return best if clear[best] > STRAIGHT * clear[0.0] else 0.0


def _clarity(y: Tensor, x: Tensor, angle: float) -> float:
    rows = (y + x * math.tan(math.radians(angle))).round().long()
    return float(torch.bincount(rows - rows.min()).double().square().sum())


def words(page: Float[Tensor, "1 h w"]) -> list[Box]:
    """The words of a page, line by line, from left to right; none on an empty page.

    Boxes are at least as high as a usual line of the page, so that letters keep their size from word to word.
    """
    mask = inked(dark_on_light(page[None])[0])
    found = lines(mask)
    heights = sorted(bottom - top for top, bottom in found)
    usual = heights[len(heights) // 2] if heights else 0
    return [
        box
        for number, (top, bottom) in enumerate(found)
        for box in _words_of(mask[top:bottom], number, top, usual, mask.shape)
    ]


def lines(mask: Bool[Tensor, "h w"]) -> list[tuple[int, int]]:
    """First row of each line, and the first beyond it."""
    profile = mask.sum(1).double()
    runs = _runs(profile > 0.04 * profile.max()) if bool(mask.any()) else []
    if not runs:
        return []
    usual = _usual(mask, runs)
    joined: list[tuple[int, int]] = []
    for start, end in runs:
        small = end - start < SMALL * usual
        before_small = bool(joined) and joined[-1][1] - joined[-1][0] < SMALL * usual
        if joined and (small or before_small) and start - joined[-1][1] < NEAR * usual:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return [_all_of(mask, *run) for run in joined if run[1] - run[0] >= SMALL * usual]


def _usual(mask: Tensor, runs: Sequence[tuple[int, int]]) -> int:
    """Height of the line that holds the middle of the ink, from low lines to high ones."""
    by_height = sorted((end - start, int(mask[start:end].sum())) for start, end in runs)
    half = sum(ink for _, ink in by_height) / 2
    for high, ink in by_height:
        half -= ink
        if half <= 0:
            return high
    return by_height[-1][0]


def _all_of(mask: Tensor, start: int, end: int) -> tuple[int, int]:
    """A line with the thin ends of its letters: as far as there is ink without a white row."""
    rows = mask.any(1).tolist()
    most = (end - start) // 3
    top, bottom = start, end
    while top > max(0, start - most) and rows[top - 1]:
        top -= 1
    while bottom < min(len(rows), end + most) and rows[bottom]:
        bottom += 1
    return top, bottom


def _words_of(line: Bool[Tensor, "h w"], number: int, top: int, usual: int, page: Sequence[int]) -> list[Box]:
    """The words of one line, each with a margin of paper."""
    high = len(line)
    runs = _runs(line.any(0))
    if not runs:
        return []
    gaps = [start - before for (_, before), (start, _) in pairwise(runs)]
    space = _space(gaps, high)
    spans = [list(runs[0])]
    for gap, run in zip(gaps, runs[1:], strict=True):
        if gap >= space:
            spans.append(list(run))
        spans[-1][1] = run[1]
    margin = max(2, round(MARGIN * high))
    boxes = []
    for left, right in spans:
        rows = line[:, left:right].any(1).nonzero()[:, 0]
        first, last = top + int(rows[0]), top + int(rows[-1]) + 1
        lacking = max(0, usual - (last - first)) // 2
        first, last = first - lacking, last + lacking
        boxes.append(
            Box(
                number,
                max(0, left - margin),
                max(0, first - margin),
                min(page[1], right + margin),
                min(page[0], last + margin),
            )
        )
    return boxes


def _space(gaps: Sequence[int], high: int) -> float:
    """From which width on white parts words: where the gaps of a line fall into two unlike groups."""
    ordered = sorted(gaps)
    best, space = 0.0, WIDE_SPACE * high
    for k in range(1, len(ordered)):
        small, large = ordered[:k], ordered[k:]
        near, far = sum(small) / len(small), sum(large) / len(large)
        apart = len(small) * len(large) * (far - near) ** 2
        if apart > best and far >= UNLIKE * max(near, 1) and large[0] >= SPACE * high:
            best, space = apart, float(large[0])
    return space


def _runs(inside: Bool[Tensor, " n"]) -> list[tuple[int, int]]:
    """First place of each stretch of true ones, and the first beyond it."""
    edges = pad(inside.long(), (1, 1)).diff()
    return list(
        zip((edges == 1).nonzero()[:, 0].tolist(), (edges == -1).nonzero()[:, 0].tolist(), strict=True)
    )
