"""Pictures of scenes: every object is a signed distance, turned into coverage of pixels."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sfumato.data.shapes.scene import BACKGROUNDS, COLOURS, SHAPES, SLOTS, Scenes
from sfumato.errors import UsageError

SMALLEST = 12
"""Pixels a side below which nothing can be told apart."""
FAR = 99.0
"""Pixels: a distance larger than any that is looked at."""
_RGB = {
    "red": (225, 30, 35), "orange": (255, 135, 0), "yellow": (255, 228, 30), "green": (40, 190, 75),
    "cyan": (50, 215, 225), "blue": (45, 95, 250), "purple": (160, 60, 225), "pink": (255, 150, 195),
    "white": (255, 255, 255), "grey": (128, 128, 128), "black": (0, 0, 0), "navy": (10, 20, 85),
    "olive": (85, 80, 10),
}  # fmt: skip
# Lengths in half cells; a picture is six half cells wide. Radius and shift together stay inside the cell.
_RADIUS = (0.62, 0.88)
_SHIFT = (0.25, 0.085)
_GROWTH = 0.035
_STRIPE = 0.55
_DOT, _DOT_SPACING = 0.14, 0.47
_RIM = 0.07
"""Dots keep this far from the edge, so that the outline stays whole on a white ground."""
_DARK, _LIGHT = 0.38, 0.9

Distance = Callable[[Tensor, Tensor], Tensor]


def render(scenes: Scenes, height: int, width: int | None = None) -> Float[Tensor, "n 3 h w"]:
    """Paint the scenes in [-1, 1], antialiased; every object into the patch around it alone."""
    width = height if width is None else width
    if min(height, width) < SMALLEST:
        raise UsageError(f"Shapes need {SMALLEST} pixels a side, got {height} x {width}; choose 32 or 64.")
    ground = palette(BACKGROUNDS)[scenes.background]
    canvas = ground[:, :, None].repeat(1, 1, height * width)
    row, slot = _objects(scenes)
    half = min(height, width) / 6
    y, x, dy, dx, radius = _patches(scenes, row, slot, height, width, half)
    away = _distance(scenes.shape[row, slot], dx / radius, dy / radius) * radius
    cover = (0.5 - away).clamp_(0, 1)
    dark, light = _texture(scenes, row, slot, dx, dy, away, half)
    ink = palette(COLOURS)[scenes.colour[row, slot]][:, :, None, None]
    # Ink over ground, as what must be added to the ground: objects keep to their cells, so the order is free.
    added = ink + dark[:, None] * (_DARK * (ink + 1) - 1 - ink) + light[:, None] * _LIGHT * (1 - ink)
    added = (added - ground[row][:, :, None, None]) * cover[:, None]
    where = (y[:, :, None] * width + x[:, None, :]).flatten(1)
    target = (row * 3)[:, None, None] + torch.arange(3)[None, :, None]
    flat = target * (height * width) + where[:, None]
    return canvas.view(-1).index_add_(0, flat.view(-1), added.view(-1)).view(-1, 3, height, width)


def distances(scenes: Scenes, height: int, width: int) -> Float[Tensor, "n s h w"]:
    """Signed distance of every pixel to the outline of each object, in pixels, negative inside.

    It is ``FAR`` away from the object and for slots that hold none. An object covers the share 0.5 - distance
    of a pixel, between 0 and 1.
    """
    row, slot = _objects(scenes)
    y, x, dy, dx, radius = _patches(scenes, row, slot, height, width, min(height, width) / 6)
    away = _distance(scenes.shape[row, slot], dx / radius, dy / radius) * radius
    found = torch.full((len(scenes), SLOTS, height, width), FAR)
    found[row[:, None, None], slot[:, None, None], y[:, :, None], x[:, None, :]] = away
    return found


def palette(names: tuple[str, ...]) -> Float[Tensor, "k 3"]:
    """The colours of these names, of objects or grounds, in [-1, 1]."""
    return torch.tensor([_RGB[name] for name in names]) / 127.5 - 1


def shades() -> Float[Tensor, "t k 3"]:
    """The colours of objects as they are, where stripes darken them, and where dots whiten them."""
    ink = palette(COLOURS)
    return torch.stack([ink, _DARK * (ink + 1) - 1, ink + _LIGHT * (1 - ink)])


def _objects(scenes: Scenes) -> tuple[Tensor, Tensor]:
    """Row and slot of every object there is, sorted by shape."""
    row, slot = torch.nonzero(scenes.shape >= 0, as_tuple=True)
    order = torch.argsort(scenes.shape[row, slot], stable=True)
    return row[order], slot[order]


def _patches(
    scenes: Scenes, row: Tensor, slot: Tensor, height: int, width: int, half: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Rows and columns of the pixels around every object, their distance to its centre, and its radius."""
    size, place, jitter = scenes.size[row, slot], scenes.place[row, slot], scenes.jitter[row, slot]
    shift = half * torch.tensor(_SHIFT)[size]
    radius = half * torch.tensor(_RADIUS)[size] * (1 + _GROWTH * jitter[:, 2])
    middle_y = (place // 3 + 0.5) * (height / 3) + shift * jitter[:, 1]
    middle_x = (place % 3 + 0.5) * (width / 3) + shift * jitter[:, 0]
    side = min(math.ceil(2 * half) + 2, height, width)
    y = _span(middle_y, side, height)
    x = _span(middle_x, side, width)
    dy = (y + 0.5 - middle_y[:, None])[:, :, None]
    dx = (x + 0.5 - middle_x[:, None])[:, None, :]
    return y, x, dy, dx, radius[:, None, None]


def _span(middle: Tensor, side: int, limit: int) -> Int[Tensor, "m p"]:
    start = (middle - side / 2).round().long().clamp(0, limit - side)
    return start[:, None] + torch.arange(side)


def _distance(shape: Tensor, u: Tensor, v: Tensor) -> Float[Tensor, "m p p"]:
    """Signed distance of every pixel to the outline, negative inside; objects come sorted by shape."""
    counts = torch.bincount(shape, minlength=len(SHAPES)).tolist()
    parts = []
    for name, u_, v_ in zip(SHAPES, u.split(counts), v.split(counts), strict=True):
        parts.append(_DISTANCE[name](u_, v_))
    return torch.cat(parts)


def _texture(
    scenes: Scenes, row: Tensor, slot: Tensor, dx: Tensor, dy: Tensor, outline: Tensor, half: float
) -> tuple[Tensor, Tensor]:
    """How far every pixel is darkened (stripes) and whitened (dots), in [0, 1]."""
    kind = scenes.texture[row, slot]
    dark = dx.new_zeros(len(row), dy.shape[1], dx.shape[2])
    light = dark.clone()
    striped, dotted = torch.nonzero(kind == 1)[:, 0], torch.nonzero(kind == 2)[:, 0]
    across = (dx[striped] + dy[striped]) / math.sqrt(2) / half / _STRIPE
    dark[striped] = (0.5 - ((across - across.round()).abs() - 0.25) * _STRIPE * half).clamp_(0, 1)
    offset = torch.tensor(_DOT_OFFSET)[scenes.shape[row, slot][dotted]][:, None, None]
    fx, fy = (d[dotted] / half / _DOT_SPACING + offset for d in (dx, dy))
    away = torch.hypot(fx - fx.round(), fy - fy.round()) * _DOT_SPACING
    inside = torch.maximum((away - _DOT) * half, outline[dotted] + _RIM * half)
    light[dotted] = (0.5 - inside).clamp_(0, 1)
    return dark, light


# Signed distances in units of the radius; v grows downwards.
def _circle(u: Tensor, v: Tensor) -> Tensor:
    return (u * u + v * v).sqrt_() - 0.97


def _square(u: Tensor, v: Tensor) -> Tensor:
    return torch.maximum(u.abs(), v.abs()) - 0.92


def _triangle(u: Tensor, v: Tensor) -> Tensor:
    base, height = 0.96, 1.8
    return torch.maximum((height * u.abs() - base * (v + 0.95)) / math.hypot(height, base), v - 0.85)


def _ring(u: Tensor, v: Tensor) -> Tensor:
    return ((u * u + v * v).sqrt_() - 0.7).abs_() - 0.28


def _cross(u: Tensor, v: Tensor) -> Tensor:
    u, v = u.abs(), v.abs()
    return torch.minimum(torch.maximum(u - 0.95, v - 0.36), torch.maximum(u - 0.36, v - 0.95))


def _star(u: Tensor, v: Tensor) -> Tensor:
    outer, inner, sector = 1.0, 0.48, 2 * math.pi / 5
    v = v - 0.06
    away, angle = (u * u + v * v).sqrt_(), torch.atan2(u, -v)
    angle = (angle - (angle / sector).round_() * sector).abs_()
    x, y = away * angle.sin(), away * angle.cos()
    tip_x, tip_y = inner * math.sin(sector / 2), inner * math.cos(sector / 2)
    return (x * (outer - tip_y) + (y - outer) * tip_x) / math.hypot(outer - tip_y, tip_x)


_DISTANCE: dict[str, Distance] = {
    "circle": _circle, "square": _square, "triangle": _triangle,
    "ring": _ring, "cross": _cross, "star": _star,
}  # fmt: skip
_DOT_OFFSET = (0.5, 0.5, 0.0, 0.5, 0.0, 0.0)
"""Shift of the grid of dots, by shape, so that some dots fall on the object and not into its gaps."""
