"""Named feature spaces: what two pictures are compared by; a score means nothing without its space's name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from sfumato.metrics.inception import InceptionV3, Resize, load_inception, prepared

INCEPTION = "inception"
MOST = 1024
"""Largest number of raw pixel values that are compared as they are."""


@runtime_checkable
class FeatureSpace(Protocol):
    """Something that turns pictures in [-1, 1] into vectors, and says what they are."""

    @property
    def name(self) -> str: ...

    def features(self, pixels: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]: ...


@dataclass(frozen=True)
class Pixels:
    """The pixel values themselves; if ``side`` is given, averaged over areas to side x side first."""

    side: int | None = None

    @classmethod
    def fitting(cls, channels: int, height: int, width: int) -> Pixels:
        """Raw pixels of small pictures; of larger ones areas, so that no more than 1024 values remain."""
        if channels * height * width <= MOST:
            return cls()
        return cls(16)

    @property
    def name(self) -> str:
        return "pixels" if self.side is None else f"pixels, averaged to {self.side} x {self.side}"

    def features(self, pixels: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        x = pixels.float()
        return (x if self.side is None else adaptive_avg_pool2d(x, self.side)).flatten(1)


@dataclass(frozen=True)
class Oracle:
    """What a classifier of this very dataset sees just before it decides: its last hidden layer."""

    classifier: FeatureSpace

    @property
    def name(self) -> str:
        return f"oracle: {self.classifier.name}"

    def features(self, pixels: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        return self.classifier.features(pixels)


@dataclass(frozen=True)
class Inception:
    """The space of FID, KID and the inception score."""

    network: InceptionV3
    resize: Resize = "tensorflow"
    batch: int = 32

    @classmethod
    def open(cls, path: str | Path, *, resize: Resize = "tensorflow") -> Inception:
        """Use a weight file in the layout of pytorch-fid."""
        return cls(load_inception(path), resize)

    @property
    def name(self) -> str:
        return INCEPTION

    def features(self, pixels: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        return in_batches(lambda x: self.network(prepared(x, self.resize)), pixels, self.batch)

    def logits(self, pixels: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """What the inception score is computed from."""
        return self.network.logits(self.features(pixels))


@torch.no_grad()
def in_batches(
    function: Callable[[Tensor], Tensor], pixels: Float[Tensor, "n c h w"], size: int
) -> Float[Tensor, "n d"]:
    """Apply a network to many pictures, a few at a time."""
    return torch.cat([function(part) for part in pixels.split(size)])


def frechet_name(space: str) -> str:
    """FID in Inception's space, a Frechet distance with its space's name anywhere else.

    >>> frechet_name("inception"), frechet_name("pixels")
    ('FID', 'Frechet distance (pixels)')
    """
    return "FID" if space == INCEPTION else f"Frechet distance ({space})"


def kernel_name(space: str) -> str:
    """KID in Inception's space, a kernel distance with its space's name anywhere else."""
    return "KID" if space == INCEPTION else f"Kernel distance ({space})"
