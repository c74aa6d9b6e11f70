"""What a small network learns to see from: textures, shapes before anything, photographs, in any colour."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sfumato.data.dataset import Facts
from sfumato.data.labelled import check_split
from sfumato.data.photos import Photos
from sfumato.data.shapes.scene import SHAPES
from sfumato.data.shapes.single import SingleShapes, distance
from sfumato.data.textures import HELD, KINDS, LARGEST, SMALLEST, STYLES, paint
from sfumato.errors import UsageError

LENGTHS = {"train": 30_000, "test": 3_000}
KEPT = 0.25
"""Share of pictures that keep their colours."""
_ENDLESS = 10**6
"""Styles, and variants of each."""
_VERSION = 2
"""To be raised whenever the same number no longer gives the same picture."""


class Sights:
    """Textures, labelled with their kind; shapes, labelled with the shape; photographs, labelled as such.

    Of six pictures, three are textures, two shapes and one is a crop of a photograph. Shapes are plain or
    textured and stand on a plain ground, a texture or a photograph. Colours are shaken, so that they tell
    little. "train" has new styles without end, "test" those that ``textures`` holds out and the right-hand
    parts of photographs. Raises ``MissingExtraError`` without scikit-image or scikit-learn.
    """

    def __init__(self, split: str = "train", size: int = 64, *, length: int | None = None):
        check_split("sights", split)
        if not SMALLEST <= size <= LARGEST // 16:
            raise UsageError(
                f"Sights have {SMALLEST} to {LARGEST // 16} pixels a side, not {size}; choose 64."
            )
        self.split, self.size = split, size
        self.length = LENGTHS[split] if length is None else length
        self._shapes = SingleShapes(split, size, length=2**40)
        self._photos = Photos(split, size, length=2**40)
        settings = repr((_VERSION, split, size, self.length, self._photos.facts.fingerprint))
        self.facts = Facts(
            "sights",
            channels=3,
            height=size,
            width=size,
            fields=frozenset({"image", "label"}),
            classes=(*KINDS, *SHAPES, "photograph"),
            fingerprint=hashlib.sha256(settings.encode()).hexdigest()[:16],
        )

    def __len__(self) -> int:
        return self.length

    def batch(self, indices: Int[Tensor, " b"]) -> Mapping[str, Any]:
        if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < self.length:
            raise IndexError(f"Sights hold examples 0 to {self.length - 1}, got {indices.tolist()}.")
        pairs = [self._one(index) for index in indices.tolist()]
        return {
            "image": torch.stack([pixels for pixels, _ in pairs]),
            "label": torch.tensor([label for _, label in pairs]),
        }

    def _one(self, index: int) -> tuple[Float[Tensor, "3 h w"], int]:
        dice = random.Random(f"sights/{self.split}/{index}")
        kind, at = "tstspt"[index % 6], torch.tensor([index])
        if kind == "s":
            pixels, label = self._shape(at, dice)
            label += len(KINDS)
        elif kind == "p":
            pixels, label = self._photos.batch(at)["image"][0], len(KINDS) + len(SHAPES)
        else:
            number = self._style(dice)
            pixels, label = self._texture(number, dice), number % len(KINDS)
        return (pixels if dice.random() < KEPT else shaken(pixels, dice)), label

    def _style(self, dice: random.Random) -> int:
        """Any but those held out, or one of these."""
        if self.split == "test":
            return dice.randrange(STYLES - HELD, STYLES)
        number = dice.randrange(_ENDLESS)
        return number if number < STYLES - HELD else number + HELD

    def _texture(self, number: int, dice: random.Random) -> Float[Tensor, "3 h w"]:
        return paint(number, self.size, self.size, variant=dice.randrange(_ENDLESS))

    def _shape(self, at: Int[Tensor, " 1"], dice: random.Random) -> tuple[Float[Tensor, "3 h w"], int]:
        scenes = self._shapes.scenes(at)
        batch = self._shapes.batch(at)
        pixels = batch["image"][0]
        inside = distance(scenes, self.size)[0] < 0
        others = torch.tensor([dice.randrange(_ENDLESS)])
        ground = dice.choice(("own", "texture", "photograph"))
        if ground != "own":
            texture = ground == "texture"
            other = (
                self._texture(self._style(dice), dice) if texture else self._photos.batch(others)["image"][0]
            )
            pixels = torch.where(inside, pixels, other)
        if dice.random() < 0.3:
            pixels = torch.where(inside, self._texture(self._style(dice), dice), pixels)
        return pixels, int(batch["label"])


def shaken(pixels: Float[Tensor, "3 h w"], dice: random.Random) -> Float[Tensor, "3 h w"]:
    """The colours change places, are paled or enriched, and each is made stronger or weaker."""
    grey = pixels.mean(0, keepdim=True)
    rich = dice.uniform(0, 1.3)
    order = torch.tensor(dice.sample(range(3), 3))
    pixels = grey + rich * (pixels - grey)[order]
    gains = torch.tensor([[[dice.uniform(0.6, 1.3)]] for _ in range(3)])
    shifts = torch.tensor([[[dice.uniform(-0.2, 0.2)]] for _ in range(3)])
    return (pixels * gains + shifts).clamp(-1, 1)
