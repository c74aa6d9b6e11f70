"""A reader of layouts: three tokens for each box, its class and its upper left and lower right corners."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sfumato.nn.transformer import ReadingBlock, computing_dtype, normalised

WAVES = 6
"""Sines and cosines of each coordinate; the fastest has 2^(WAVES - 1) half periods across the picture."""


@dataclass(frozen=True)
class BoxesConfig:
    """The shape of a reader of layouts."""

    things: tuple[str, ...] = ()
    """Names of the classes."""
    most: int = 3
    """Boxes it can read."""
    width: int = 128
    depth: int = 1
    heads: int = 4


class Boxes(nn.Module):
    """The tokens of Rombach et al. 2022 (section 4.3.2 and E.2) through a small bidirectional transformer.

    There a corner is one of 8,192 places, each with a row of its own in a table. Here it is sines and cosines
    of its coordinates (Mildenhall et al. 2020, equation 4), so that near places are alike from the start.
    """

    def __init__(self, config: BoxesConfig):
        super().__init__()
        self.config = config
        width = config.width
        self.thing = nn.Embedding(len(config.things) + 1, width)
        self.corner = nn.Linear(4 * WAVES, width)
        self.part = nn.Parameter(torch.randn(3, width) * 0.5)
        self.slot = nn.Parameter(torch.randn(config.most, width) * 0.5)
        self.blocks = nn.ModuleList(ReadingBlock(width, config.heads) for _ in range(config.depth))
        nn.init.normal_(self.thing.weight, std=1.0)

    def forward(self, boxes: Float[Tensor, "b s 5"]) -> tuple[Float[Tensor, "b l d"], Float[Tensor, "b d"]]:
        """One vector a token, and their mean over the boxes that hold something.

        A box is 1 + the number of its class, or 0 for none, then left, top, right and bottom in [0, 1].
        """
        thing, sides = boxes[..., 0].long(), boxes[..., 1:].unflatten(-1, (2, 2))
        there = (thing > 0)[..., None, None]
        corners = self.corner(waves(sides).to(self.corner.weight.dtype)) * there
        x = torch.cat([self.thing(thing)[..., None, :], corners], -2) + self.part + self.slot[:, None]
        x = x.flatten(1, 2).to(computing_dtype(self.thing.weight))
        for block in self.blocks:
            x = block(x)
        x = normalised(x)
        held = (thing > 0).repeat_interleave(3, 1)[..., None].to(x)
        return x, (x * held).sum(1) / held.sum(1).clamp(min=1)


def waves(sides: Float[Tensor, "*s 2"]) -> Float[Tensor, "*s w"]:
    """Sines and cosines of two coordinates at doubling frequencies."""
    angles = sides[..., None] * (math.pi * 2.0 ** torch.arange(WAVES, device=sides.device))
    return torch.cat([angles.sin(), angles.cos()], -1).flatten(-2)
