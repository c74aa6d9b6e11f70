"""Single shapes in pairs: a drawing, a label map or a depth map, and the picture it stands for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sfumato.data.dataset import Facts
from sfumato.data.labelled import check_split
from sfumato.data.shapes.render import palette
from sfumato.data.shapes.scene import BACKGROUNDS, COLOURS, Scenes, below
from sfumato.data.shapes.single import checked, distance, one_object, paint
from sfumato.errors import UsageError, nearest

WEAVE = 0.15
"""How much lighter or darker than the ground the threads of the cloth are, in units of half the range."""
THREAD = 2
"""Pixels; four threads repeat."""
PEN = 1.1
"""Pixels from the outline to where its pencil line ends."""
TINT = 0.5
"""How much of the ground's colour the paper has."""
LENGTHS = {"train": 20_000, "test": 2_000}
_SEEDS = {"train": 11, "test": 12}
_VERSION = 1
"""To be raised whenever the same number no longer gives the same pair."""


class ShapePairs:
    """Pairs of ``source`` and ``image``; the picture's ground is woven cloth, of which no source tells.

    Where the threads begin is chance, so whoever guesses the mean paints the ground flat.
    """

    def __init__(self, kind: str, split: str = "train", size: int = 32, *, length: int | None = None):
        if kind not in SOURCES:
            raise UsageError(f"There are no pairs '{kind}'{nearest(kind, SOURCES)}")
        check_split(kind, split)
        self.kind, self.split, self.size = kind, split, checked(size)
        self.length = LENGTHS[split] if length is None else length
        settings = repr((_VERSION, kind, split, size, self.length))
        self.facts = Facts(
            kind,
            channels=3,
            height=size,
            width=size,
            fields=frozenset({"source", "image"}),
            fingerprint=hashlib.sha256(settings.encode()).hexdigest()[:16],
            domains=tuple(kind.split("-to-")),
        )

    def __len__(self) -> int:
        return self.length

    def scenes(self, indices: Int[Tensor, " b"]) -> Scenes:
        """What the pairs with these numbers show."""
        return one_object(_SEEDS[self.split], indices)

    def batch(self, indices: Int[Tensor, " b"]) -> Mapping[str, Any]:
        if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < self.length:
            raise IndexError(f"'{self.kind}' holds examples 0 to {self.length - 1}, got {indices.tolist()}.")
        scenes = self.scenes(indices)
        return {"source": SOURCES[self.kind](scenes, self.size), "image": on_cloth(scenes, self.size)}


def edges_to_shapes(split: str = "train", size: int = 32, *, length: int | None = None) -> ShapePairs:
    """Outlines and patterns in coloured pencil, on paper with a tint of the ground, and the picture."""
    return ShapePairs("edges-to-shapes", split, size, length=length)


def labels_to_shapes(split: str = "train", size: int = 32, *, length: int | None = None) -> ShapePairs:
    """A map that has a flat code colour for each kind of thing, and the picture."""
    return ShapePairs("labels-to-shapes", split, size, length=length)


def depth_to_shapes(split: str = "train", size: int = 32, *, length: int | None = None) -> ShapePairs:
    """A map of heights that knows no colour, and the picture."""
    return ShapePairs("depth-to-shapes", split, size, length=length)


def on_cloth(scenes: Scenes, size: int) -> Float[Tensor, "n 3 h w"]:
    """The picture, on a ground of plain weave that begins at a thread which chance chooses."""
    ground = 1 - _cover(distance(scenes, size))
    period = 2 * THREAD
    rows, columns = (below(scenes.key, 50 + k, period)[:, None] + torch.arange(size) for k in range(2))
    y, x = rows[:, :, None], columns[:, None, :]
    over = (y // THREAD + x // THREAD) % 2 == 0
    thread = torch.where(over, y % THREAD, x % THREAD)[:, None] * 2.0 - 1
    return (paint(scenes, size) + WEAVE * ground * thread).clamp_(-1, 1)


def pencil(scenes: Scenes, size: int) -> Float[Tensor, "n 3 h w"]:
    """Outlines, stripes and dots on tinted paper, in the colour of their object."""
    away, ink = distance(scenes, size), _ink(scenes)
    pattern = (paint(scenes, size) - ink).abs().amax(1, keepdim=True).clamp_(max=1)
    line = (PEN - away.abs()).clamp_(0, 1)
    paper = 1 - TINT * (1 - palette(BACKGROUNDS)[scenes.background])[:, :, None, None]
    return torch.lerp(paper, ink, torch.maximum(line, pattern * _cover(away)))


def labels(scenes: Scenes, size: int) -> Float[Tensor, "n 3 h w"]:
    """A colour of code for every pair of colour and texture and for every ground, with hard edges."""
    thing = code(scenes.texture[:, 0] * len(COLOURS) + scenes.colour[:, 0])
    ground = code(3 * len(COLOURS) + scenes.background)
    return torch.where(distance(scenes, size) < 0, thing[:, :, None, None], ground[:, :, None, None])


def heights(scenes: Scenes, size: int) -> Float[Tensor, "n 3 h w"]:
    """The object rises from the ground like a pillow: the farther from its outline, the higher."""
    depth = -distance(scenes, size).clamp(max=0) / (size / 2)
    return depth.sqrt_().mul_(2).sub_(1).clamp_(max=1).expand(-1, 3, -1, -1)


SOURCES: Mapping[str, Callable[[Scenes, int], Tensor]] = {
    "edges-to-shapes": pencil,
    "labels-to-shapes": labels,
    "depth-to-shapes": heights,
}


def _cover(away: Tensor) -> Float[Tensor, "n 1 h w"]:
    return (0.5 - away).clamp(0, 1)


def _ink(scenes: Scenes) -> Float[Tensor, "n 3 1 1"]:
    return palette(COLOURS)[scenes.colour[:, 0]][:, :, None, None]


def code(number: Int[Tensor, "*s"]) -> Float[Tensor, "*s 3"]:
    """One of 32 colours of code: four levels of red and green, two of blue."""
    levels = torch.stack([number % 4 / 1.5, number // 4 % 4 / 1.5, number // 16 % 2 * 2.0], -1)
    return levels - 1
