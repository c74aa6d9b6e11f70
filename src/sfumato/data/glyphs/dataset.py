"""Glyphs: letters and digits in fonts without end, labelled by what they are."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from jaxtyping import Int
from torch import Tensor

from sfumato.data.dataset import Facts
from sfumato.data.glyphs.fonts import NAMED, glyphs, styles_of
from sfumato.data.glyphs.skeletons import LATIN
from sfumato.data.labelled import check_split
from sfumato.data.shapes.scene import below, scene_keys, unit

LENGTHS = {"train": 50_000, "test": 5_000}
FONTS = {"train": range(100, 2100), "test": range(2100, 2300)}
"""Numbers of the fonts; none is among those that have names."""
_SEEDS = {"train": 41, "test": 42}
_VERSION = 1
"""To be raised whenever the same number no longer gives the same glyph."""


class Glyphs:
    """Fields ``image`` and ``label``: one of 62 characters; no font is both in "train" and in "test"."""

    def __init__(self, split: str = "train", size: int = 32, *, length: int | None = None):
        check_split("glyphs", split)
        self.split, self.size = split, size
        self.length = LENGTHS[split] if length is None else length
        assert FONTS[split].start > len(NAMED)
        settings = repr((_VERSION, split, size, self.length))
        self.facts = Facts(
            "glyphs",
            channels=1,
            height=size,
            width=size,
            fields=frozenset({"image", "label"}),
            classes=tuple(LATIN),
            fingerprint=hashlib.sha256(settings.encode()).hexdigest()[:16],
        )

    def __len__(self) -> int:
        return self.length

    def batch(self, indices: Int[Tensor, " b"]) -> Mapping[str, Any]:
        if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < self.length:
            raise IndexError(f"Glyphs hold examples 0 to {self.length - 1}, got {indices.tolist()}.")
        keys, fonts = scene_keys(_SEEDS[self.split], indices), FONTS[self.split]
        label = below(keys, 0, len(LATIN))
        styles = styles_of(fonts.start + below(keys, 1, len(fonts)))
        return {"image": glyphs(label, styles, self.size, unit(keys, range(2, 17))), "label": label}
