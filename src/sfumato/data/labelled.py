"""Small grey pictures with labels, all in memory: what digits and clothes have in common."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from sfumato.data.dataset import Facts
from sfumato.errors import UsageError, nearest


class Labelled:
    """Pictures kept as bytes and scaled to [-1, 1] when asked for; datasets say where they come from.

    ``white`` is the largest level. ``size`` beyond that of the pictures surrounds them with black.
    """

    def __init__(
        self,
        name: str,
        levels: UInt8[Tensor, "n h w"],
        labels: Int[Tensor, " n"],
        *,
        classes: Sequence[str],
        size: int,
        white: int,
    ):
        side = levels.shape[-1]
        if size < side:
            raise UsageError(
                f"'{name}' has pictures of {side} x {side} pixels, not {size}; give --size {side} or more."
            )
        before, after = (size - side) // 2, (size - side + 1) // 2
        padded = torch.nn.functional.pad(levels, (before, after, before, after))
        self._levels, self._labels, self._white = padded[:, None].contiguous(), labels, white
        digest = hashlib.blake2b(self._levels.numpy().tobytes(), digest_size=8)
        digest.update(self._labels.numpy().tobytes())
        self.facts = Facts(
            name=name,
            channels=1,
            height=size,
            width=size,
            fields=frozenset({"image", "label"}),
            classes=tuple(classes),
            fingerprint=digest.hexdigest(),
        )

    def __len__(self) -> int:
        return len(self._labels)

    def batch(self, indices: Int[Tensor, " b"]) -> Mapping[str, Any]:
        image = self._levels[indices].float().div_(self._white / 2).sub_(1)
        return {"image": image, "label": self._labels[indices]}


def check_split(name: str, split: str, splits: Sequence[str] = ("train", "test")) -> None:
    """Refuse a part of a dataset that does not exist."""
    if split not in splits:
        raise UsageError(f"'{name}' has no split '{split}'{nearest(split, splits)}")
