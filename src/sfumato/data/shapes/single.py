"""One coloured shape that fills its picture: the world of shapes for networks too small for whole scenes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from sfumato.data.dataset import Facts
from sfumato.data.labelled import check_split
from sfumato.data.shapes.render import SMALLEST, distances, render
from sfumato.data.shapes.scene import PLACES, SHAPES, Scenes, draw
from sfumato.errors import UsageError

CENTRE = PLACES.index("centre")
_VERSION = 1
"""To be raised whenever the same number no longer gives the same picture."""
_SEED = {"train": 1_000_003, "test": 1_000_033}
_LENGTH = {"train": 20_000, "test": 5_000}


class SingleShapes:
    """The middle cell of scenes of one object: six shapes, eight colours, two sizes, five grounds.

    The label is the shape, the field ``colour`` the colour. All pairs of both occur; nothing is textured.
    """

    def __init__(self, split: str = "train", size: int = 32, *, length: int | None = None):
        check_split("single-shapes", split, tuple(_SEED))
        self.split, self.size = split, checked(size)
        self.length = _LENGTH[split] if length is None else length
        settings = repr((_VERSION, self.split, self.size, self.length))
        self.facts = Facts(
            "single-shapes",
            channels=3,
            height=size,
            width=size,
            fields=frozenset({"image", "label", "colour"}),
            classes=SHAPES,
            fingerprint=hashlib.sha256(settings.encode()).hexdigest()[:16],
        )

    def __len__(self) -> int:
        return self.length

    def scenes(self, indices: Int[Tensor, " b"]) -> Scenes:
        """What the pictures with these numbers show."""
        scenes = one_object(_SEED[self.split], indices)
        return replace(scenes, texture=torch.where(scenes.place >= 0, 0, -1))

    def batch(self, indices: Int[Tensor, " b"]) -> Mapping[str, Any]:
        scenes = self.scenes(indices)
        image = paint(scenes, self.size)
        return {"image": image, "label": scenes.shape[:, 0], "colour": scenes.colour[:, 0]}


def checked(size: int) -> int:
    """The size, if a shape can be told at it."""
    if size < SMALLEST:
        raise UsageError(f"Shapes need {SMALLEST} pixels a side, got {size}; choose 32 or 64.")
    return size


def one_object(seed: int, indices: Int[Tensor, " n"]) -> Scenes:
    """Scenes of one object of any kind in the middle cell."""
    scenes = draw(seed, indices, pairs="any", objects=(1,))
    return replace(scenes, place=torch.where(scenes.place >= 0, CENTRE, -1))


def paint(scenes: Scenes, size: int) -> Float[Tensor, "n 3 h w"]:
    """The middle cell of scenes, filling the picture."""
    cell = slice(size, 2 * size)
    return render(scenes, 3 * size)[:, :, cell, cell].contiguous()


def distance(scenes: Scenes, size: int) -> Float[Tensor, "n 1 h w"]:
    """Signed distance of every pixel of the middle cell to the outline of the first object."""
    cell = slice(size, 2 * size)
    return distances(scenes, 3 * size, 3 * size)[:, :1, cell, cell].contiguous()


def in_a_scene(pixels: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h*3 w*3"]:
    """Put pictures of one shape into the middle of scenes on the same ground, as the oracles read them.

    The ground of a picture is the median of its rim.
    """
    height, width = pixels.shape[2:]
    rim = (pixels[:, :, 0], pixels[:, :, -1], pixels[:, :, :, 0], pixels[:, :, :, -1])
    ground = torch.cat(rim, 2).median(2).values[:, :, None, None]
    return pad(pixels - ground, (width, width, height, height)) + ground
