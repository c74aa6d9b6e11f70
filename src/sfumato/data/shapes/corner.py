"""One coloured shape in one of four corners, in words that never say which: what a caption leaves open."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from sfumato.data.shapes.one import SHORT, SolidShape
from sfumato.data.shapes.render import SMALLEST, render
from sfumato.data.shapes.scene import PLACES, Scenes, below
from sfumato.errors import UsageError

CORNERS = (0, 1, 3, 4)
"""The cells of a scene, by their numbers in ``PLACES``, that a picture shows: the upper left four of nine."""
_PURPOSE = 60
"""Of the random numbers that choose a corner; no other choice about a scene has it."""


class CornerShape(SolidShape):
    """Two by two cells, one of which holds a solid shape; captions such as "a large red circle".

    The place is as random as can be and is never said, so that who knows the words alone has 2 bits to guess.
    """

    def __init__(
        self,
        split: str = "train",
        size: int = 32,
        *,
        length: int | None = None,
        levels: Mapping[str, float] = SHORT,
    ):
        if size % 2 or size < SMALLEST:
            raise UsageError(
                f"Shapes in corners need an even number of pixels a side, {SMALLEST} or more, got {size}; "
                "choose 32 or 64."
            )
        super().__init__("corner-shape", split, size, 3 * size // 2, length, levels)

    def placed(self, scenes: Scenes) -> Int[Tensor, "b 1"]:
        return torch.tensor(CORNERS)[below(scenes.key, _PURPOSE, len(CORNERS))][:, None]

    def batch(self, indices: Int[Tensor, " b"]) -> Mapping[str, Any]:
        scenes = self.scenes(indices)
        image = render(scenes, 3 * self.size // 2)[:, :, : self.size, : self.size].contiguous()
        said = self._whole.captions(scenes)
        places = scenes.place[:, 0].tolist()
        captions = [text.replace(f" at the {PLACES[p]}", "") for text, p in zip(said, places, strict=True)]
        return {"image": image, "caption": captions, "index": indices}


def completed(pixels: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c i j"]:
    """Put two by two cells into the upper left of a scene on the same ground, as the oracles read them.

    The ground of a picture is the median of its rim.
    """
    height, width = pixels.shape[2:]
    rim = (pixels[:, :, 0], pixels[:, :, -1], pixels[:, :, :, 0], pixels[:, :, :, -1])
    ground = torch.cat(rim, 2).median(2).values[:, :, None, None]
    return pad(pixels - ground, (0, width // 2, 0, height // 2)) + ground
