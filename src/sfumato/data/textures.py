"""Styles without end: procedural pictures of twelve kinds, each with its own palette, scale and hand."""

from __future__ import annotations

import colorsys
import hashlib
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from sfumato.data.dataset import Facts
from sfumato.data.labelled import check_split
from sfumato.errors import UsageError

STYLES, HELD = 200, 40
"""Styles of the dataset; the last of them are for testing alone. More can be painted by number."""
LENGTHS = {"train": 20_000, "test": 2_000}
SMALLEST, LARGEST = 16, 4096
_VERSION = 1
"""To be raised whenever the same number no longer gives the same picture."""
_FINE = 2
"""Samples a side of each pixel."""

Field = Float[Tensor, "h w"]


@dataclass(frozen=True)
class Style:
    """What all pictures of a style share."""

    number: int
    kind: str
    palette: Float[Tensor, "k 3"]
    """Two to five colours in [0, 1], the first one the ground."""
    period: float
    """Pixels after which it repeats, more or less."""
    angle: float
    """Radians."""
    shape: float
    """From 0 to 1: what else a kind varies, such as how thick its lines are."""
    grain: float
    """Deviation of the noise upon it, as of paper."""


def style(number: int) -> Style:
    """The style of a number; raises ``UsageError`` below 0."""
    if number < 0:
        raise UsageError(f"Styles are numbered from 0, got {number}.")
    dice = random.Random(f"style/{number}")
    kind = list(KINDS)[number % len(KINDS)]
    palette = _palette(dice)
    period = 7 * 2 ** dice.uniform(0, 1.6)
    return Style(
        number, kind, palette, period, dice.uniform(0, math.pi), dice.random(), dice.choice((0.0, 0.02, 0.05))
    )


def paint(
    number: int, height: int, width: int, *, variant: int = 0, scale: float = 1.0
) -> Float[Tensor, "3 h w"]:
    """A picture of a style, in [-1, 1]; its variants differ by place, by a slight turn and by chance.

    ``scale`` enlarges what is on it. Raises ``UsageError`` for sides outside 1 to 4096 pixels.
    """
    if not (1 <= height <= LARGEST and 1 <= width <= LARGEST and scale > 0):
        raise UsageError(
            f"Styles are painted on 1 to {LARGEST} pixels a side at a scale above 0, not {height} x {width} "
            f"at {scale:g}; give another size."
        )
    chosen = style(number)
    dice = random.Random(f"style/{number}/{variant}")
    canvas = _Canvas(chosen, height * _FINE, width * _FINE, dice, _FINE * scale)
    pixels = avg_pool2d(KINDS[chosen.kind](canvas)[None], _FINE)[0]
    pixels = pixels + chosen.grain * torch.randn(1, height, width, generator=canvas.generator)
    return (2 * pixels - 1).clamp(-1, 1)


class Textures:
    """Pictures of styles; the label is the kind, the field ``style`` the number.

    "test" shows the 40 held-out styles, none of which "train" has.
    """

    def __init__(self, split: str = "train", size: int = 64, *, length: int | None = None):
        check_split("textures", split)
        if not SMALLEST <= size <= LARGEST:
            raise UsageError(
                f"Textures have {SMALLEST} to {LARGEST} pixels a side, not {size}; choose 64 or 256."
            )
        self.split, self.size = split, size
        self.length = LENGTHS[split] if length is None else length
        self.styles = range(STYLES - HELD) if split == "train" else range(STYLES - HELD, STYLES)
        settings = repr((_VERSION, split, size, self.length))
        self.facts = Facts(
            "textures",
            channels=3,
            height=size,
            width=size,
            fields=frozenset({"image", "label", "style"}),
            classes=tuple(KINDS),
            fingerprint=hashlib.sha256(settings.encode()).hexdigest()[:16],
        )

    def __len__(self) -> int:
        return self.length

    def batch(self, indices: Int[Tensor, " b"]) -> Mapping[str, Any]:
        if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < self.length:
            raise IndexError(f"Textures hold examples 0 to {self.length - 1}, got {indices.tolist()}.")
        numbers = self.styles.start + indices % len(self.styles)
        variants = indices // len(self.styles)
        pairs = zip(numbers.tolist(), variants.tolist(), strict=True)
        image = torch.stack([paint(number, self.size, self.size, variant=k) for number, k in pairs])
        return {"image": image, "label": numbers % len(KINDS), "style": numbers}


# --- what kinds are made of --------------------------------------------------------------------------


class _Canvas:
    """Places of a picture in periods of its style, and what they can be filled with."""

    def __init__(self, chosen: Style, height: int, width: int, dice: random.Random, unit: float):
        self.style, self.shape = chosen, chosen.shape
        self.generator = torch.Generator().manual_seed(dice.getrandbits(62))
        self.key = dice.getrandbits(20)
        self.period = chosen.period * unit
        y, x = torch.arange(height) / self.period, torch.arange(width) / self.period
        self._y, self._x = torch.meshgrid(y + dice.uniform(0, 64), x + dice.uniform(0, 64), indexing="ij")
        self.turn = chosen.angle + dice.uniform(-0.15, 0.15)

    @property
    def size(self) -> tuple[int, int]:
        return self._y.shape[0], self._y.shape[1]

    def places(self, angle: float | None = None) -> tuple[Field, Field]:
        """Across and down, in periods, turned by the style's angle or another."""
        angle = self.turn if angle is None else angle
        c, s = math.cos(angle), math.sin(angle)
        return c * self._x + s * self._y, c * self._y - s * self._x

    def noise(self, period: float) -> Field:
        """A smooth field of deviation 1 that changes over so many of the style's periods."""
        height, width = self.size
        pixels = max(period * self.period, 1.0)
        cells = [min(math.ceil(n / pixels) + 3, n + 3) for n in (height, width)]
        coarse = torch.randn(1, 1, *cells, generator=self.generator)
        fine = interpolate(
            coarse, scale_factor=pixels, mode="bicubic", align_corners=False, recompute_scale_factor=False
        )
        return fine[0, 0, int(pixels) :, int(pixels) :][:height, :width] * 1.4

    def ink(self, index: Field) -> Float[Tensor, "3 h w"]:
        """Colours of the palette by number, taken again and again."""
        palette = self.style.palette
        return palette[index.long() % len(palette)].permute(2, 0, 1)

    def blend(self, value: Field) -> Float[Tensor, "3 h w"]:
        """From the first colour at 0 to the last at 1, gradually."""
        palette = self.style.palette
        at = value.clamp(0, 1) * (len(palette) - 1)
        low = at.floor().clamp(max=len(palette) - 2)
        share = (at - low)[..., None]
        low = low.long()
        return (palette[low] * (1 - share) + palette[low + 1] * share).permute(2, 0, 1)

    def chance(self, column: Field, row: Field, salt: int = 0) -> Field:
        """A number in [0, 1) for each cell of a grid, by its whole-numbered place."""
        left, top = int(column.min()), int(row.min())
        columns, rows = int(column.max()) - left + 1, int(row.max()) - top + 1
        y, x = torch.meshgrid(
            torch.arange(top, top + rows), torch.arange(left, left + columns), indexing="ij"
        )
        mixed = torch.full((rows, columns), self.key + 7919 * salt)
        for number in (x, y):
            mixed = (mixed ^ number) * 0x5BD1E995 & 0x7FFFFFFF
            mixed = (mixed ^ (mixed >> 15)) * 0x2C1B3C6D & 0x7FFFFFFF
        table = (mixed ^ (mixed >> 13)).float() / 2**31
        return table.flatten()[((row - top) * columns + (column - left)).long()]


def _lines(canvas: _Canvas, along: Field) -> Float[Tensor, "3 h w"]:
    """Bands of the palette's colours, one a period; the ground takes its own share of each."""
    share = 0.25 + 0.5 * canvas.shape
    inks = len(canvas.style.palette) - 1
    number = along.floor() % inks + 1
    return canvas.ink(torch.where(along - along.floor() < share, 0, number))


def _stripes(canvas: _Canvas) -> Float[Tensor, "3 h w"]:
    return _lines(canvas, canvas.places()[0])


def _waves(canvas: _Canvas) -> Float[Tensor, "3 h w"]:
    across, down = canvas.places()
    swing = 0.4 + 0.5 * canvas.shape
    return _lines(canvas, across + swing * torch.sin(2 * math.pi * down / 2.5))


def _wood(canvas: _Canvas) -> Float[Tensor, "3 h w"]:
    """Thin lines that drift, dark and light by turns."""
    across, down = canvas.places()
    drift = canvas.noise(5.0) * (0.6 + canvas.shape) + 0.15 * torch.sin(down * 0.7)
    along = 1.6 * across + drift
    tooth = along - along.floor()
    fibre = 0.12 * canvas.noise(0.12)
    return canvas.blend(tooth + fibre)


def _rings(canvas: _Canvas) -> Float[Tensor, "3 h w"]:
    """Circles around points of a wide grid, where each place belongs to its nearest point."""
    nearest, _, _ = _cells_of(canvas, 4.0)
    return _lines(canvas, nearest * 4.0 * 1.5)


def _checks(canvas: _Canvas) -> Float[Tensor, "3 h w"]:
    across, down = canvas.places()
    inks = len(canvas.style.palette)
    across = across * (0.6 + 0.8 * canvas.shape)
    return canvas.ink((across.floor() + down.floor() * (inks - 1)) % inks)


def _dots(canvas: _Canvas) -> Float[Tensor, "3 h w"]:
    """Discs in rows that stand in the gaps of their neighbours."""
    across, down = canvas.places()
    row = down.floor()
    across = across + 0.5 * (row % 2)
    column = across.floor()
    distance = torch.hypot(across - column - 0.5, down - row - 0.5)
    inks = len(canvas.style.palette) - 1
    number = 1 + (canvas.chance(column, row) * inks).floor()
    return canvas.ink(torch.where(distance < 0.24 + 0.2 * canvas.shape, number, 0))


def _plasma(canvas: _Canvas) -> Float[Tensor, "3 h w"]:
    """Clouds: noise of four sizes, the smaller the weaker."""
    value = sum(canvas.noise(3.0 / 2**k) * (0.35 + 0.3 * canvas.shape) ** k for k in range(4))
    return canvas.blend(0.5 + 0.3 * torch.as_tensor(value))


def _cells(canvas: _Canvas) -> Float[Tensor, "3 h w"]:
    """A Voronoi diagram with seams in the colour of the ground."""
    first, second, number = _cells_of(canvas, 1.5)
    inks = len(canvas.style.palette) - 1
    ink = 1 + (number * inks).floor()
    return canvas.ink(torch.where(second - first < 0.04 + 0.12 * canvas.shape, 0, ink))


def _cells_of(canvas: _Canvas, wide: float) -> tuple[Field, Field, Field]:
    """Distances to the nearest and second point of a shaken grid, and the chance of the nearest's cell."""
    across, down = (place / wide for place in canvas.places())
    column, row = across.floor(), down.floor()
    first, second = torch.full_like(across, 9.0), torch.full_like(across, 9.0)
    number = torch.zeros_like(across)
    for i in (-1, 0, 1):
        for j in (-1, 0, 1):
            x, y = column + i, row + j
            shaken = (canvas.chance(x, y, salt=1), canvas.chance(x, y, salt=2))
            distance = torch.hypot(x + shaken[0] - across, y + shaken[1] - down)
            nearer = distance < first
            second = torch.where(nearer, first, torch.minimum(second, distance))
            first = torch.where(nearer, distance, first)
            number = torch.where(nearer, canvas.chance(x, y, salt=3), number)
    return first, second, number


def _strokes(canvas: _Canvas) -> Float[Tensor, "3 h w"]:
    """Brush strokes in layers, which follow a flow; bristles leave lines in them."""
    flow = canvas.noise(6.0)
    ink, shade = torch.zeros(canvas.size), torch.ones(canvas.size)
    inks = len(canvas.style.palette)
    length, thick = 1.0 + 0.5 * canvas.shape, 0.2 + 0.12 * canvas.shape
    for layer in range(3):
        across, down = canvas.places()
        across, down = across / 1.2 + 0.37 * layer, down / 1.2 + 0.61 * layer
        column, row = across.floor(), down.floor()
        for i in (-1, 0, 1):
            for j in (-1, 0, 1):
                x, y = column + i, row + j
                dx = across - x - canvas.chance(x, y, salt=10 + layer)
                dy = down - y - canvas.chance(x, y, salt=20 + layer)
                lean = 0.5 * flow + 0.8 * (canvas.chance(x, y, salt=30 + layer) - 0.5)
                c, s = torch.cos(lean), torch.sin(lean)
                along, aside = c * dx + s * dy, c * dy - s * dx
                inside = ((along / length).abs() ** 3 + (aside / thick) ** 2) < 1
                number = (canvas.chance(x, y, salt=40 + layer) * inks).floor()
                light = 1 + 0.12 * torch.sin(aside / thick * 9 + 20 * number) - 0.1 * (aside / thick).abs()
                ink, shade = torch.where(inside, number, ink), torch.where(inside, light, shade)
    return (canvas.ink(ink) * shade).clamp(0, 1)


def _bricks(canvas: _Canvas) -> Float[Tensor, "3 h w"]:
    """Courses of bricks, each a shade of its own, with mortar in the colour of the ground."""
    across, down = canvas.places()
    long = 1.6 + canvas.shape
    row = down.floor()
    across = across / long + 0.5 * (row % 2)
    column = across.floor()
    inks = len(canvas.style.palette) - 1
    number = 1 + (canvas.chance(column, row) * inks).floor()
    shade = 0.8 + 0.3 * canvas.chance(column, row, salt=1)
    mortar = (down - row < 0.16) | ((across - column) * long < 0.16)
    pixels = torch.where(mortar, canvas.ink(torch.zeros(canvas.size)), canvas.ink(number) * shade)
    return (pixels * (1 + 0.06 * canvas.noise(0.15))).clamp(0, 1)


def _scales(canvas: _Canvas) -> Float[Tensor, "3 h w"]:
    """Discs that overlap like tiles of a roof, with a rim."""
    across, down = canvas.places()
    ink, shade = torch.zeros(canvas.size), torch.ones(canvas.size)
    inks = len(canvas.style.palette) - 1
    base = (2 * down).floor()
    for k in (2, 1, 0, -1):
        row = base + k
        shifted = across + 0.5 * (row % 2)
        column = shifted.floor()
        distance = torch.hypot(shifted - column - 0.5, down - row / 2)
        number = 1 + (canvas.chance(column, row) * inks).floor()
        inside, rim = distance < 0.56, distance > 0.50 - 0.1 * canvas.shape
        ink = torch.where(inside, torch.where(rim, 0, number), ink)
        shade = torch.where(inside, torch.where(rim, 1.0, 0.7 + 0.6 * distance), shade)
    return (canvas.ink(ink) * shade).clamp(0, 1)


def _weave(canvas: _Canvas) -> Float[Tensor, "3 h w"]:
    """Bands over and under each other, darker where they dip."""
    across, down = canvas.places()
    column, row = across.floor(), down.floor()
    x, y = across - column - 0.5, down - row - 0.5
    gap = 0.36 + 0.1 * canvas.shape
    over = (column + row) % 2 == 0
    warp, weft = x.abs() < gap, y.abs() < gap
    inks = len(canvas.style.palette) - 1
    upright = canvas.ink(1 + column % inks) * (1 - 0.9 * y.abs() * ~over)
    level = canvas.ink(1 + (row + 1) % inks) * (1 - 0.9 * x.abs() * over)
    pixels = canvas.ink(torch.zeros(canvas.size)) * 0.6
    pixels = torch.where(torch.where(over, weft, warp), torch.where(over, level, upright), pixels)
    return torch.where(torch.where(over, warp, weft), torch.where(over, upright, level), pixels).clamp(0, 1)


KINDS: Mapping[str, Callable[[_Canvas], Float[Tensor, "3 h w"]]] = {
    "stripes": _stripes,
    "checks": _checks,
    "dots": _dots,
    "rings": _rings,
    "waves": _waves,
    "plasma": _plasma,
    "cells": _cells,
    "strokes": _strokes,
    "bricks": _bricks,
    "scales": _scales,
    "weave": _weave,
    "wood": _wood,
}
"""Style number n is of kind n modulo twelve."""


def _palette(dice: random.Random) -> Float[Tensor, "k 3"]:
    """Colours that belong together: near each other on the wheel, opposite, in thirds, earthen or greys."""
    count = dice.randint(3, 5)
    hue = dice.random()
    steps = dice.choice(((0.0, 0.06, 0.12), (0.0, 0.5, 0.06), (0.0, 1 / 3, 2 / 3), (0.0, 0.0, 0.55)))
    rich = dice.choice((0.15, 0.5, 0.8, 0.95))
    colours = []
    for k in range(count):
        h = (hue + steps[k % len(steps)] + dice.uniform(-0.03, 0.03)) % 1
        s = min(1.0, max(0.0, rich + dice.uniform(-0.2, 0.2)))
        colours.append(colorsys.hsv_to_rgb(h, s, 0.15 + 0.8 * (k + dice.random()) / count))
    dice.shuffle(colours)
    return torch.tensor(colours)
