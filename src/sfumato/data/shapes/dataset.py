"""Shapes as a dataset: captioned scenes without end, drawn and painted when asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from sfumato.data.dataset import Facts
from sfumato.data.shapes.captions import LEVELS, NOISE, VOCABULARY, caption
from sfumato.data.shapes.render import SMALLEST, render
from sfumato.data.shapes.scene import Scenes, draw, scene_keys, unit
from sfumato.errors import UsageError, nearest

SPLITS = ("train", "test", "held")
MIX: Mapping[str, float] = {"full": 0.55, "short": 0.35, "descriptive": 0.1}
"""Share of each caption level by default."""
IN_BRIEF: Mapping[str, float] = {"short": 0.7, "full": 0.2, "descriptive": 0.1}
"""The same for a model that is to follow short captions, which leave most of a scene to it."""
_VERSION = 1
"""To be raised whenever the same number no longer gives the same picture and caption."""
_PAIRS = {"train": "train", "test": "train", "held": "held"}
_LENGTH = {"train": 50_000, "test": 5_000, "held": 5_000}


class Shapes:
    """One to three coloured shapes on a plain ground, with captions that can be read back.

    "test" has fresh scenes of the kind seen in training; every scene of "held" has at least one of the
    (colour, shape) pairs that training never shows.
    """

    def __init__(
        self,
        split: str = "train",
        size: int = 64,
        *,
        length: int | None = None,
        objects: Sequence[int] = (1, 2, 3),
        levels: Mapping[str, float] = MIX,
        seed: int = 0,
    ):
        if split not in SPLITS:
            raise UsageError(f"Shapes have no split '{split}'{nearest(split, SPLITS)}")
        if size < SMALLEST:
            raise UsageError(f"Shapes need {SMALLEST} pixels a side, got {size}; choose 32 or 64.")
        for unknown in set(levels) - set(LEVELS):
            raise UsageError(f"Unknown caption level '{unknown}'{nearest(unknown, LEVELS)}")
        if not levels or min(levels.values()) < 0 or sum(levels.values()) <= 0:
            raise UsageError(f"Caption levels need weights above 0, got {dict(levels)}; give such as full=1.")
        self.split, self.size, self.objects = split, size, tuple(objects)
        self.length = _LENGTH[split] if length is None else length
        self.levels = tuple(levels)
        weights = torch.tensor([float(levels[level]) for level in self.levels], dtype=torch.float64)
        self._edges = (weights.cumsum(0) / weights.sum()).float()[:-1]
        self.seed = seed * len(SPLITS) + SPLITS.index(split)
        self._weights = weights.tolist()
        draw(self.seed, torch.zeros(1, dtype=torch.long), objects=self.objects)

    @property
    def facts(self) -> Facts:
        settings = (self.split, self.size, self.length, self.objects, self.levels, self._weights, self.seed)
        fingerprint = hashlib.sha256(repr((_VERSION, *settings)).encode()).hexdigest()[:16]
        fields = frozenset({"image", "caption", "index"})
        noisy = "noisy" in self.levels
        words = tuple(word for word in VOCABULARY if noisy or word not in NOISE)
        return Facts("shapes", 3, self.size, self.size, fields, words=words, fingerprint=fingerprint)

    def __len__(self) -> int:
        return self.length

    def scenes(self, indices: Int[Tensor, " b"]) -> Scenes:
        """What the pictures with these numbers show."""
        return draw(self.seed, indices, pairs=_PAIRS[self.split], objects=self.objects)

    def captions(self, scenes: Scenes) -> list[str]:
        """The captions of scenes of this dataset, each at the level that falls to it."""
        chance = unit(scene_keys(self.seed, scenes.key), range(20, 21))[:, 0]
        levels = [self.levels[k] for k in torch.bucketize(chance, self._edges, right=True).tolist()]
        return caption(scenes, levels, self.seed)

    def batch(self, indices: Int[Tensor, " b"]) -> Mapping[str, Any]:
        if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < self.length:
            raise IndexError(f"Shapes hold examples 0 to {self.length - 1}, got {indices.tolist()}.")
        scenes = self.scenes(indices)
        return {"image": render(scenes, self.size), "caption": self.captions(scenes), "index": indices}


def in_brief(split: str = "train", size: int = 64, *, length: int | None = None) -> Shapes:
    """The same scenes, most of them with short captions such as "a red circle above a blue square"."""
    return Shapes(split, size, length=length, levels=IN_BRIEF)


def in_full(split: str = "train", size: int = 64, *, length: int | None = None) -> Shapes:
    """The same scenes, every caption saying all: what words mean is learned fastest from such."""
    return Shapes(split, size, length=length, levels={"full": 1.0})


def alone(split: str = "train", size: int = 64, *, length: int | None = None) -> Shapes:
    """Scenes of one object, three in five, and short captions: there a form is all that tells many apart."""
    return Shapes(split, size, length=length, levels=IN_BRIEF, objects=(1, 1, 1, 2, 3))
