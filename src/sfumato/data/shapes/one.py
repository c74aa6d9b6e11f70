"""One coloured shape that fills its picture, in few words: the world of small text-to-image systems."""

from __future__ import annotations

import abc
import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from sfumato.data.dataset import Facts
from sfumato.data.shapes.dataset import Shapes
from sfumato.data.shapes.render import render
from sfumato.data.shapes.scene import PLACES, Scenes

CENTRE = PLACES.index("centre")
SHORT: Mapping[str, float] = {"short": 1.0}
_VERSION = 1
"""To be raised whenever the same number no longer gives the same picture and caption."""


class SolidShape(abc.ABC):
    """A part of scenes of one solid object, with captions, as a rule short ("a red circle").

    "train" and "test" leave out the (colour, shape) pairs of ``HELD_OUT``, which alone are in "held".
    """

    def __init__(
        self, name: str, split: str, size: int, whole: int, length: int | None, levels: Mapping[str, float]
    ):
        """``whole`` is the side of the scenes of which pictures of ``size`` pixels are a part."""
        self._whole = Shapes(split, whole, length=length, objects=(1,), levels=levels)
        self.size = size
        told = self._whole.facts
        digest = hashlib.sha256(f"{_VERSION} {told.fingerprint}".encode()).hexdigest()[:16]
        self.facts = Facts(name, 3, size, size, told.fields, words=told.words, fingerprint=digest)

    def __len__(self) -> int:
        return len(self._whole)

    def scenes(self, indices: Int[Tensor, " b"]) -> Scenes:
        """What the pictures with these numbers show."""
        scenes = self._whole.scenes(indices)
        there = scenes.place >= 0
        return replace(
            scenes,
            place=torch.where(there, self.placed(scenes), scenes.place),
            texture=torch.where(there, 0, scenes.texture),
        )

    @abc.abstractmethod
    def placed(self, scenes: Scenes) -> Int[Tensor, "#b 1"]:
        """In which cell the object of each scene stands."""

    @abc.abstractmethod
    def batch(self, indices: Int[Tensor, " b"]) -> Mapping[str, Any]:
        """Pictures and captions."""


class OneShape(SolidShape):
    """The middle cell of such scenes; ``in_a_scene`` turns pictures back into scenes."""

    def __init__(
        self,
        split: str = "train",
        size: int = 32,
        *,
        length: int | None = None,
        levels: Mapping[str, float] = SHORT,
    ):
        super().__init__("one-shape", split, size, 3 * size, length, levels)

    def placed(self, scenes: Scenes) -> Int[Tensor, "1 1"]:
        return torch.tensor([[CENTRE]])

    def batch(self, indices: Int[Tensor, " b"]) -> Mapping[str, Any]:
        scenes = self.scenes(indices)
        cell = slice(self.size, 2 * self.size)
        image = render(scenes, 3 * self.size)[:, :, cell, cell].contiguous()
        return {"image": image, "caption": self._whole.captions(scenes), "index": indices}
