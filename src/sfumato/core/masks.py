"""Masks drawn at random: boxes, strokes of a broad brush, and now and then the whole picture."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.rng import Rng

KINDS = 8
"""Of these one is the whole picture, four are boxes, and three are strokes."""
BOXES = 4
SIDES = (0.2, 0.7)
"""Of a box, as a share of the picture's."""
BRUSH = (0.06, 0.16)
"""Half the width of a stroke, as a share of the picture's shorter side."""
CORNERS = 4
"""Points that a stroke goes through."""


def drawn(rng: Rng, height: int, width: int) -> Float[Tensor, "n 1 h w"]:
    """One mask a sample, 1 where it covers the picture; samples do not depend on each other."""
    kind, chance = rng.integers(0, KINDS), torch.special.ndtr(rng.normal(2 * CORNERS + 1))
    y, x = (torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width
    box = _boxes(chance, y, x)
    stroke = _strokes(chance, y * height, x * width)
    whole = (kind == 0)[:, None, None]
    mask = torch.where((kind <= BOXES)[:, None, None], box | whole, stroke)
    return mask[:, None].float()


def _boxes(chance: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Side and corner along each axis are uniform."""
    inside = []
    for place, axis in enumerate((y, x)):
        side = SIDES[0] + (SIDES[1] - SIDES[0]) * chance[:, 2 * place]
        start = (1 - side) * chance[:, 2 * place + 1]
        inside.append((axis >= start[:, None]) & (axis < (start + side)[:, None]))
    return inside[0][:, :, None] & inside[1][:, None, :]


def _strokes(chance: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """All that is near a line through a few points."""
    size = torch.tensor([len(y), len(x)])
    points = chance[:, 1:].unflatten(1, (CORNERS, 2)) * size
    radius = (BRUSH[0] + (BRUSH[1] - BRUSH[0]) * chance[:, 0]) * int(size.min())
    start, way = points[:, :-1, None, None], points.diff(dim=1)[:, :, None, None]
    pixels = torch.stack(torch.meshgrid(y, x, indexing="ij"), 2) - start
    share = ((pixels * way).sum(4) / way.square().sum(4).clamp(min=1e-6)).clamp(0, 1)
    away = (pixels - share[..., None] * way).norm(dim=4)
    return away.amin(1) <= radius[:, None, None]
