"""Scenes of shapes with what is known of them exactly: a map of labels, and a box for every object."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sfumato.data.dataset import Facts
from sfumato.data.labelled import check_split
from sfumato.data.pairs import code
from sfumato.data.shapes.render import distances, render
from sfumato.data.shapes.scene import COLOURS, SHAPES, TEXTURES, Scenes, draw
from sfumato.data.shapes.single import checked

THINGS = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)
"""What boxes are named after: colour and shape, but no texture."""
LENGTHS = {"train": 20_000, "test": 2_000}
_SEEDS = {"train": 21, "test": 22}
_VERSION = 1
"""To be raised whenever the same number no longer gives the same example."""


class Scenery:
    """One to three objects of any colour and shape, with ``source``, a map that has a flat colour of code for
    each ground and each pair of colour and texture, and ``boxes``."""

    def __init__(self, split: str = "train", size: int = 64, *, length: int | None = None):
        check_split("labels-to-scenes", split)
        self.split, self.size = split, checked(size)
        self.length = LENGTHS[split] if length is None else length
        settings = repr((_VERSION, split, size, self.length))
        self.facts = Facts(
            "labels-to-scenes",
            channels=3,
            height=size,
            width=size,
            fields=frozenset({"source", "image", "boxes"}),
            fingerprint=hashlib.sha256(settings.encode()).hexdigest()[:16],
            domains=("labels", "scenes"),
            things=THINGS,
        )

    def __len__(self) -> int:
        return self.length

    def scenes(self, indices: Int[Tensor, " b"]) -> Scenes:
        """What the examples with these numbers show."""
        return draw(_SEEDS[self.split], indices, pairs="any")

    def batch(self, indices: Int[Tensor, " b"]) -> Mapping[str, Any]:
        if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < self.length:
            raise IndexError(
                f"'labels-to-scenes' holds examples 0 to {self.length - 1}, got {indices.tolist()}."
            )
        scenes = self.scenes(indices)
        inside = distances(scenes, self.size, self.size) < 0
        return {
            "source": label_map(scenes, inside),
            "image": render(scenes, self.size),
            "boxes": boxes(scenes, inside),
        }


def label_map(scenes: Scenes, inside: Tensor) -> Float[Tensor, "n 3 h w"]:
    """The colours of code of what is where; ``inside`` says which pixels (n, s, h, w) each object has."""
    number = (len(TEXTURES) * len(COLOURS) + scenes.background)[:, None, None].expand(inside[:, 0].shape)
    for slot in range(inside.shape[1]):
        thing = scenes.texture[:, slot] * len(COLOURS) + scenes.colour[:, slot]
        number = torch.where(inside[:, slot], thing[:, None, None], number)
    return code(number).movedim(3, 1).contiguous()


def boxes(scenes: Scenes, inside: Tensor) -> Float[Tensor, "n s 5"]:
    """For each object 1 + its number in ``THINGS``, and the box around its pixels (left, top, right, bottom,
    in shares of the sides); zeros where there is none."""
    found = torch.zeros(*scenes.shape.shape, 5)
    there = scenes.shape >= 0
    found[..., 0] = torch.where(there, 1 + scenes.colour * len(SHAPES) + scenes.shape, 0)
    found[..., 1:] = around(inside) * there[..., None]
    return found


def around(inside: Tensor) -> Float[Tensor, "*n 4"]:
    """The boxes around true pixels, (\\*n, h, w); zeros where there are none."""
    sides = []
    for axis in (-2, -1):  # columns, then rows
        line = inside.any(axis)
        length = line.shape[-1]
        first, last = line.int().argmax(-1), length - line.flip(-1).int().argmax(-1)
        sides.append(torch.stack([first, last], -1) / length)
    left_right, top_bottom = sides
    found = torch.stack([left_right[..., 0], top_bottom[..., 0], left_right[..., 1], top_bottom[..., 1]], -1)
    return found * inside.flatten(-2).any(-1)[..., None]
