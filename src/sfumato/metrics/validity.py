"""Whether pictures are of the world of shapes at all: each is painted anew from what is read in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.data.shapes.render import render
from sfumato.data.shapes.scene import Scenes
from sfumato.metrics.oracle import ShapesOracle, evaluation_oracle

VALID = 0.25
"""Root mean square difference, in [-1, 1], up to which a picture is one of a scene."""
SATURATED, MODERATE = 0.99, 0.9
"""A value beyond the first is as far as it can be; where the scene's is within the second, that is wrong."""
SHIFTS = (-1.0, -0.5, 0.0, 0.5, 1.0)
"""Of objects inside their cells, among which the best is taken."""
CHUNK = 64


class Painted(NamedTuple):
    """Pictures as they would be, were they of scenes."""

    pixels: Float[Tensor, "n 3 h w"]
    residual: Float[Tensor, " n"]
    """Root mean square difference from what was given."""


def painted_anew(pixels: Float[Tensor, "n 3 h w"], scenes: Scenes) -> Painted:
    """The scenes that were read in pictures, painted with every object where in its cell it fits best."""
    parts = torch.arange(len(pixels)).split(CHUNK)
    found = [_fitted(pixels[rows].float(), scenes[rows]) for rows in parts]
    return Painted(torch.cat([f.pixels for f in found]), torch.cat([f.residual for f in found]))


def _fitted(pixels: Tensor, scenes: Scenes) -> Painted:
    height, width = pixels.shape[2:]
    rows, columns = (torch.arange(n) * 3 // n for n in (height, width))
    cell = (rows[:, None] * 3 + columns[None]).flatten()
    tried = torch.stack(list(_shifted(scenes, height, width)))
    error = (tried - pixels).square().mean(2).flatten(2)  # (tries, pictures, places)
    sums = error.new_zeros(*error.shape[:2], 9).index_add_(2, cell, error)
    best = sums.min(0)
    which = best.indices[:, cell].view(len(pixels), 1, height, width).expand(-1, 3, -1, -1)
    return Painted(tried.gather(0, which[None])[0], (best.values.sum(1) / (height * width)).sqrt())


def _shifted(scenes: Scenes, height: int, width: int) -> Iterator[Tensor]:
    for right in SHIFTS:
        for down in SHIFTS:
            jitter = torch.zeros_like(scenes.jitter)
            jitter[..., 0], jitter[..., 1] = right, down
            yield render(replace(scenes, jitter=jitter), height, width)


class Validity(NamedTuple):
    """What share of pictures is of the world, and how much of them is saturated that should not be."""

    valid: float
    saturated: float
    residual: float
    """The mean of them all."""
    n: int


def validity(
    pixels: Float[Tensor, "n 3 h w"], oracle: ShapesOracle | None = None, limit: float = VALID
) -> Validity:
    """Let the evaluation oracle read pictures and see what is left of them when that is painted anew."""
    scenes = (oracle or evaluation_oracle()).read(pixels)
    painted = painted_anew(pixels, scenes)
    moderate = painted.pixels.abs() < MODERATE
    beyond = (pixels.abs() > SATURATED) & moderate
    return Validity(
        float((painted.residual <= limit).float().mean()),
        float(beyond.sum() / moderate.sum().clamp(min=1)),
        float(painted.residual.mean()),
        len(pixels),
    )
