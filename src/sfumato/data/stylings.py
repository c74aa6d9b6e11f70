"""What is to be painted, and how: crops of photographs, and styles that have nothing to do with them."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from sfumato.data.photos import photographs
from sfumato.data.textures import Textures, paint
from sfumato.images import from_levels, to_levels, to_pil

SHEETS = 3
"""How many times as large a style is painted as the pieces that are cut out of it."""
_VERSION = 1
"""To be raised whenever the same number no longer gives the same pictures."""


class Stylings:
    """Fields ``a``, crops of photographs, and ``b``, pieces of painted styles; no pairs.

    "test" has the photographs and the styles that "train" never shows (``photographs``, ``textures``); there,
    example i has style i modulo 40. Raises ``MissingExtraError`` without scikit-image or scikit-learn.
    """

    def __init__(self, split: str = "train", size: int = 64, *, length: int | None = None):
        self._photos = photographs(split, size, length=length)
        self._textures = Textures(split, size)
        self.split, self.size = split, size
        self._sheets: dict[int, UInt8[Tensor, "3 h w"]] = {}
        marks = (part.facts.fingerprint for part in (self._photos, self._textures))
        self.facts = replace(
            self._photos.facts,
            name="stylings",
            fields=frozenset({"a", "b"}),
            classes=(),
            fingerprint="-".join(("stylings", str(_VERSION), *marks)),
            domains=("photographs", "textures"),
        )

    def __len__(self) -> int:
        return len(self._photos)

    @property
    def styles(self) -> range:
        """The numbers of the styles it shows."""
        return self._textures.styles

    def batch(self, indices: Int[Tensor, " b"]) -> Mapping[str, Any]:
        photos = self._photos.batch(indices)["image"]
        return {"a": photos, "b": torch.stack([self._piece(index) for index in indices.tolist()])}

    def _piece(self, index: int) -> Float[Tensor, "3 h w"]:
        """A piece of a style, mirrored or not; which style goes round, which piece is chance."""
        dice = random.Random(f"stylings/{self.split}/{index}")
        number = self.styles[index % len(self.styles)]
        sheet = self._sheet(number)
        top, left = (dice.randint(0, side - self.size) for side in sheet.shape[1:])
        piece = from_levels(sheet[:, top : top + self.size, left : left + self.size])
        return piece.flip(2) if dice.random() < 0.5 else piece

    def _sheet(self, number: int) -> UInt8[Tensor, "3 h w"]:
        """A large picture of a style, painted when first needed: pieces are cut twenty times as fast."""
        if number not in self._sheets:
            side = SHEETS * self.size
            self._sheets[number] = to_levels(to_pil(paint(number, side, side)))
        return self._sheets[number]
