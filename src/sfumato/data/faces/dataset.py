"""Faces as a dataset: portraits without end, drawn and painted when asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from jaxtyping import Int
from torch import Tensor

from sfumato.data.dataset import Facts
from sfumato.data.faces.captions import VOCABULARY, caption
from sfumato.data.faces.render import SMALLEST, render
from sfumato.data.faces.scene import Portraits, draw
from sfumato.errors import UsageError, nearest

SPLITS = ("train", "test")
_LENGTH = {"train": 50_000, "test": 5_000}
_VERSION = 1
"""To be raised whenever the same number no longer gives the same picture and caption."""
_OFFSET = 7_000_000
"""Keeps the seeds of faces away from those of shapes."""


class Faces:
    """Portraits of drawn people, with everything about them: attributes, gaze and pose, and a caption.

    ``attributes`` holds an index into ``KINDS`` for each of ``ATTRIBUTES``; ``directions`` the gaze and the
    pose of the head. "test" has other people than "train".
    """

    def __init__(self, split: str = "train", size: int = 64, *, length: int | None = None, seed: int = 0):
        if split not in SPLITS:
            raise UsageError(f"Faces have no split '{split}'{nearest(split, SPLITS)}")
        if size < SMALLEST:
            raise UsageError(f"Faces need {SMALLEST} pixels a side, got {size}; choose 32 or 64.")
        self.split, self.size = split, size
        self.length = _LENGTH[split] if length is None else length
        self.seed = _OFFSET + seed * len(SPLITS) + SPLITS.index(split)

    @property
    def facts(self) -> Facts:
        settings = (_VERSION, "faces", self.split, self.size, self.length, self.seed)
        fingerprint = hashlib.sha256(repr(settings).encode()).hexdigest()[:16]
        fields = frozenset({"image", "caption", "attributes", "directions", "index"})
        return Facts("faces", 3, self.size, self.size, fields, words=VOCABULARY, fingerprint=fingerprint)

    def __len__(self) -> int:
        return self.length

    def portraits(self, indices: Int[Tensor, " b"]) -> Portraits:
        """What the pictures with these numbers show."""
        return draw(self.seed, indices)

    def batch(self, indices: Int[Tensor, " b"]) -> Mapping[str, Any]:
        if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < self.length:
            raise IndexError(f"Faces hold examples 0 to {self.length - 1}, got {indices.tolist()}.")
        portraits = self.portraits(indices)
        return {
            "image": render(portraits, self.size),
            "caption": caption(portraits, self.seed),
            "attributes": portraits.table,
            "directions": portraits.directions,
            "index": indices,
        }
