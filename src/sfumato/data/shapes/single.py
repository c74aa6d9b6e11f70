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
from sfumato.data.shapes.render import SMALLEST, render
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
        if size < SMALLEST:
            raise UsageError(f"Shapes need {SMALLEST} pixels a side, got {size}; choose 32 or 64.")
        self.split, self.size = split, size
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
        scenes = draw(_SEED[self.split], indices, pairs="any", objects=(1,))
        there = scenes.place >= 0
        return replace(
            scenes,
            place=torch.where(there, CENTRE, scenes.place),
            texture=torch.where(there, 0, scenes.texture),
        )

    def batch(self, indices: Int[Tensor, " b"]) -> Mapping[str, Any]:
        scenes = self.scenes(indices)
        cell = slice(self.size, 2 * self.size)
        image = render(scenes, 3 * self.size)[:, :, cell, cell].contiguous()
        return {"image": image, "label": scenes.shape[:, 0], "colour": scenes.colour[:, 0]}


def in_a_scene(pixels: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h*3 w*3"]:
    """Put pictures of one shape into the middle of scenes on the same ground, as the oracles read them.

    The ground of a picture is the median of its rim.
    """
    height, width = pixels.shape[2:]
    rim = (pixels[:, :, 0], pixels[:, :, -1], pixels[:, :, :, 0], pixels[:, :, :, -1])
    ground = torch.cat(rim, 2).median(2).values[:, :, None, None]
    return pad(pixels - ground, (width, width, height, height)) + ground
