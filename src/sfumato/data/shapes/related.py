"""Two plain shapes and how they stand to each other: captions whose meaning hangs on the order of their
words."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from sfumato.data.dataset import Facts
from sfumato.data.shapes.captions import relations
from sfumato.data.shapes.dataset import Shapes
from sfumato.data.shapes.render import render
from sfumato.data.shapes.scene import COLOURS, PLACES, SHAPES, SIZES, Scenes, unit

LARGE = SIZES.index("large")
CHOICES, FACING = range(50, 56), range(56, 58)
"""Purposes of the random numbers that choose words, and places."""
ACROSS, UPRIGHT = (PLACES.index("left"), PLACES.index("right")), (PLACES.index("top"), PLACES.index("bottom"))
_VERSION = 1
"""To be raised whenever the same number no longer gives the same picture and caption."""

Teller = Callable[[list[str], list[int], list[float]], str]
"""From two objects in words, their cells and numbers in [0, 1) to a text."""


class RelatedShapes:
    """Two large solid shapes that face each other across the middle of a plain ground, with captions such as
    "a red circle above a blue square".

    The same words in another order describe another picture. "train" and "test" leave out the (colour, shape)
    pairs of ``HELD_OUT``; every scene of "held" has at least one. The ground is never said. With
    ``stories`` objects stand anywhere, and the captions are texts of two or three sentences that say of one
    scene several things which follow from each other: what a language can be learned from without pictures.
    """

    def __init__(
        self, split: str = "train", size: int = 48, *, length: int | None = None, stories: bool = False
    ):
        self._whole = Shapes(split, size, length=length, objects=(2,), levels={"short": 1.0})
        self.size = size
        self._stories = stories
        self._tell: Teller = _story if stories else _in_relation
        told = self._whole.facts
        digest = hashlib.sha256(f"{_VERSION} {stories} {told.fingerprint}".encode()).hexdigest()[:16]
        name = "shape-stories" if stories else "related-shapes"
        self.facts = Facts(name, 3, size, size, told.fields, words=told.words, fingerprint=digest)

    def __len__(self) -> int:
        return len(self._whole)

    def scenes(self, indices: Int[Tensor, " b"]) -> Scenes:
        """What the pictures with these numbers show."""
        scenes = self._whole.scenes(indices)
        there = scenes.place >= 0
        place = scenes.place if self._stories else _facing(scenes)
        size = torch.where(there, LARGE, -1)
        return replace(scenes, size=size, texture=torch.where(there, 0, -1), place=place)

    def captions(self, scenes: Scenes) -> list[str]:
        """What is said of scenes of this dataset; which of two objects comes first depends on the scene."""
        chances = unit(scenes.key, CHOICES).tolist()
        columns = (scenes.colour, scenes.shape, scenes.place)
        rows = torch.stack(columns, 2)[:, :2].tolist()
        out = []
        for row, chance in zip(rows, chances, strict=True):
            things = [_object(colour, shape) for colour, shape, _ in row]
            out.append(self._tell(things, [cell for _, _, cell in row], chance))
        return out

    def batch(self, indices: Int[Tensor, " b"]) -> Mapping[str, Any]:
        scenes = self.scenes(indices)
        return {"image": render(scenes, self.size), "caption": self.captions(scenes), "index": indices}


def shape_stories(split: str = "train", size: int = 48, *, length: int | None = None) -> RelatedShapes:
    """The same scenes with longer texts, from which a language can be learned."""
    return RelatedShapes(split, size, length=length, stories=True)


def _facing(scenes: Scenes) -> Int[Tensor, "n s"]:
    """The first two objects left and right of the middle, or above and below it, in any order."""
    upright, swapped = (unit(scenes.key, FACING) < 0.5).unbind(1)
    pairs = torch.tensor((ACROSS, UPRIGHT))[upright.long()]
    pairs = torch.where(swapped[:, None], pairs.flip(1), pairs)
    return torch.cat([pairs, torch.full((len(pairs), scenes.place.shape[1] - 2), -1)], 1)


def _object(colour: int, shape: int) -> str:
    article = "an" if COLOURS[colour][0] in "aeiou" else "a"
    return f"{article} {COLOURS[colour]} {SHAPES[shape]}"


def _in_relation(things: list[str], cells: list[int], chance: list[float]) -> str:
    first = int(chance[0] < 0.5)
    true = relations(cells[first], cells[1 - first])
    return f"{things[first]} {true[int(chance[1] * len(true))]} {things[1 - first]}"


def _story(things: list[str], cells: list[int], chance: list[float]) -> str:
    """The relation, its converse or another, and where each object is, in any order."""
    one = _in_relation(things, cells, chance)
    first = int(chance[2] < 0.5)
    true = relations(cells[first], cells[1 - first])
    other = f"{things[first]} {true[int(chance[3] * len(true))]} {things[1 - first]}"
    where = [f"at the {PLACES[cell]} is {thing}" for thing, cell in zip(things, cells, strict=True)]
    if chance[4] < 0.5:
        where.reverse()
    ways = ([one, other], [one, *where], [*where, one], [one, where[0], other])
    return f"{'. '.join(ways[int(chance[5] * len(ways))])}."
