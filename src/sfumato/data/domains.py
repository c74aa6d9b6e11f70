"""Two domains of pictures that are no pairs: shapes plain and striped, warm and cool; two seasons."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sfumato.data.dataset import Facts
from sfumato.data.labelled import check_split
from sfumato.data.photos import Photos
from sfumato.data.shapes.scene import COLOURS, TEXTURES, Scenes
from sfumato.data.shapes.single import checked, one_object, paint
from sfumato.errors import UsageError, nearest

KINDS = ("plain-to-striped", "warm-to-cool")
LENGTHS = {"train": 20_000, "test": 2_000}
_SEEDS = {"train": 21, "test": 23}
_VERSION = 1
"""To be raised whenever the same number no longer gives the same pictures."""
Side = Literal["a", "b"]


class ShapeDomains:
    """Fields ``a`` and ``b``: single shapes, and other ones, plain and striped, or warm and cool.

    No warm colour (red to green) belongs to one of the cool (cyan to pink) more than to another.
    """

    def __init__(self, kind: str, split: str = "train", size: int = 32, *, length: int | None = None):
        if kind not in KINDS:
            raise UsageError(f"There are no domains '{kind}'{nearest(kind, KINDS)}")
        check_split(kind, split)
        self.kind, self.split, self.size = kind, split, checked(size)
        self.length = LENGTHS[split] if length is None else length
        settings = repr((_VERSION, kind, split, size, self.length))
        self.facts = Facts(
            kind,
            channels=3,
            height=size,
            width=size,
            fields=frozenset({"a", "b"}),
            fingerprint=hashlib.sha256(settings.encode()).hexdigest()[:16],
            domains=tuple(kind.split("-to-")),
        )

    def __len__(self) -> int:
        return self.length

    def scenes(self, indices: Int[Tensor, " b"], side: Side) -> Scenes:
        """What the pictures with these numbers show; no scene of ``a`` is among those of ``b``."""
        return self.across(one_object(_SEEDS[self.split] + (side == "b"), indices), side)

    def across(self, scenes: Scenes, side: Side) -> Scenes:
        """The same scenes as they would look on a side."""
        there = scenes.shape >= 0
        if self.kind == "plain-to-striped":
            texture = TEXTURES.index("solid" if side == "a" else "striped")
            return replace(scenes, texture=torch.where(there, texture, -1))
        half = len(COLOURS) // 2
        return replace(scenes, colour=torch.where(there, scenes.colour % half + half * (side == "b"), -1))

    def batch(self, indices: Int[Tensor, " b"]) -> Mapping[str, Any]:
        if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < self.length:
            raise IndexError(f"'{self.kind}' holds examples 0 to {self.length - 1}, got {indices.tolist()}.")
        return {
            "a": paint(self.scenes(indices, "a"), self.size),
            "b": paint(self.scenes(indices, "b"), self.size),
        }


def plain_to_striped(split: str = "train", size: int = 32, *, length: int | None = None) -> ShapeDomains:
    """Plain shapes, and other shapes that are striped."""
    return ShapeDomains("plain-to-striped", split, size, length=length)


def warm_to_cool(split: str = "train", size: int = 32, *, length: int | None = None) -> ShapeDomains:
    """Shapes in red, orange, yellow and green, and other shapes in cyan, blue, purple and pink."""
    return ShapeDomains("warm-to-cool", split, size, length=length)


class Seasons:
    """Crops of photographs in the colours of summer (``a``), and other crops in those of winter (``b``).

    Raises ``MissingExtraError`` without scikit-image or scikit-learn.
    """

    def __init__(self, split: str = "train", size: int = 64, *, length: int | None = None):
        self._photos = Photos(split, size, length=None if length is None else 2 * length)
        self.facts = replace(
            self._photos.facts,
            name="seasons",
            fields=frozenset({"a", "b"}),
            classes=(),
            fingerprint=f"seasons-{_VERSION}-{self._photos.facts.fingerprint}",
            domains=("summer", "winter"),
        )

    def __len__(self) -> int:
        return len(self._photos) // 2

    def batch(self, indices: Int[Tensor, " b"]) -> Mapping[str, Any]:
        a, b = (self._photos.batch(2 * indices + side)["image"] for side in (0, 1))
        return {"a": summer(a), "b": winter(b)}


def summer(x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Warmer and more saturated."""
    grey = x.mean(1, keepdim=True)
    return (grey + 1.25 * (x - grey) + torch.tensor([0.08, 0.04, -0.08]).view(3, 1, 1)).clamp(-1, 1)


def winter(x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Pale, bluish, and light where it was green, as under snow."""
    grey = x.mean(1, keepdim=True)
    green = (x[:, 1:2] - torch.maximum(x[:, :1], x[:, 2:])).clamp(min=0)
    pale = grey + 0.4 * (x - grey) + torch.tensor([-0.06, 0.02, 0.14]).view(3, 1, 1)
    return (0.85 * pale + 0.15 + 2 * green).clamp(-1, 1)
