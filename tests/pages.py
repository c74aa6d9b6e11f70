"""Pages in one hand, drawn line by line, whose words stand where they were put."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.data.words import Words

Lines = tuple[tuple[str, ...], ...]
LINES: Lines = (
    ("the", "quick", "brown", "fox"),
    ("jumps", "over", "a", "lazy", "dog"),
    ("moon", "rose", "near"),
)


def page(
    lines: Lines = LINES, *, writer: int = 503, high: int = 40
) -> tuple[Float[Tensor, "1 h w"], list[tuple[int, int, int]]]:
    """A page in [-1, 1], lit from the left, and line, left and right of every word, in pixels."""
    world = Words("test", size=high, width=8 * high, slant=0.05, bend=0.0, noise=0.0)
    drawn, places = torch.zeros(len(lines) * 3 * high // 2 + 60, 24 * high), []
    for number, words in enumerate(lines):
        keys = torch.arange(len(words)) * 7919 + number
        left, top = 40, 30 + number * 3 * high // 2
        for ink in world.written(list(words), torch.full((len(words),), writer), keys):
            columns = (ink > 0.3).any(0).nonzero()[:, 0]
            ink = ink[:, int(columns[0]) : int(columns[-1]) + 1]
            drawn[top : top + high, left : left + ink.shape[1]] = ink
            places.append((number, left, left + ink.shape[1]))
            left += ink.shape[1] + high // 2
    noise = 0.02 * torch.randn(drawn.shape, generator=torch.Generator().manual_seed(0))
    light = 0.9 - 0.3 * torch.linspace(0, 1, drawn.shape[1])
    return (2 * (light - drawn * (light - 0.15) + noise) - 1).clamp(-1, 1)[None], places
