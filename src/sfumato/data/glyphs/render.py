"""Ink on paper: how much of every pixel the strokes cover, by its distance from each of them."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.data.glyphs.pen import Strokes

BLOCK = 2**18
"""Distances that are computed at a time: few enough to stay in the processor's cache."""


def ink(strokes: Strokes, height: int, width: int) -> Float[Tensor, "n h w"]:
    """How much of every pixel is inked, from 0 to 1; strokes are in pixels, y upwards from the lower edge."""
    there = strokes.there
    count = there.sum(1)
    order = count.argsort()
    # What is not there goes last, so that glyphs of few strokes need not wait for those of many.
    front = (~there).to(torch.uint8).argsort(dim=1, stable=True)
    out = torch.zeros(len(count), height, width)
    start = 0
    while start < len(order):
        most = int(count[order[min(len(order), start + 64) - 1]]) or 1
        rows = order[start : start + max(1, BLOCK // (most * height * width))]
        most = int(count[rows[-1]])
        if most:
            out[rows] = _covered(_pick(strokes, rows, front[rows, :most]), height, width)
        start += len(rows)
    return out


def _pick(strokes: Strokes, rows: Tensor, columns: Tensor) -> Strokes:
    at = rows[:, None]
    return Strokes(
        strokes.a[at, columns], strokes.b[at, columns], strokes.start[at, columns], strokes.stop[at, columns]
    )


def _covered(strokes: Strokes, height: int, width: int) -> Float[Tensor, "n h w"]:
    """Half a pixel more than how deep a pixel lies inside the nearest stroke, whose half width changes."""
    along = strokes.b - strokes.a
    length = along.square().sum(-1).sqrt()
    ux, uy = (along / length.clamp(min=1e-6)[..., None]).unbind(-1)
    dx = torch.arange(width) + 0.5 - strokes.a[..., :1]
    dy = height - 0.5 - torch.arange(height) - strokes.a[..., 1:]
    s = (dx * ux[..., None])[:, :, None, :] + (dy * uy[..., None])[:, :, :, None]
    squared = dx.square()[:, :, None, :] + dy.square()[:, :, :, None]
    t = torch.minimum(s.clamp(min=0), length[:, :, None, None])
    squared.addcmul_(t, s.mul_(-2).add_(t)).clamp_(min=0).sqrt_()
    grows = ((strokes.stop - strokes.start) / length.clamp(min=1e-6))[:, :, None, None]
    depth = t.mul_(grows).add_(strokes.start[:, :, None, None]).sub_(squared)
    return depth.amax(1).add_(0.5).clamp_(0, 1)
