"""What a network may be told besides x and t. There are four ways in, and no fifth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Condition:
    """Everything a denoiser is conditioned on; ``None`` means "not told"."""

    vector: Float[Tensor, "b d"] | None = None
    """Added to the time embedding: classes, CLIP embeddings, crop sizes."""
    tokens: Float[Tensor, "b l e"] | None = None
    """Read by attention: text, image patches, frames."""
    spatial: Float[Tensor, "b c h w"] | None = None
    """Concatenated to x: masks, low-resolution images, first frames."""
    hint: Float[Tensor, "b k i j"] | None = None
    """Read by a side network: edges, poses, sketches."""

    def drop(self, keep: Bool[Tensor, " b"], null: Condition) -> Condition:
        """Replace the rows where ``keep`` is false by those of ``null`` (classifier-free training)."""
        return self._with(null, lambda mine, other: torch.where(_like(keep, mine), mine, other))

    def stack(self, other: Condition) -> Condition:
        """Both conditions as one batch, mine first."""
        return self._with(other, lambda mine, theirs: torch.cat([mine, theirs]))

    def take(self, rows: Int[Tensor, " n"]) -> Condition:
        """The condition of these rows, in this order."""
        return self._with(self, lambda mine, _: mine[rows.to(mine.device)])

    def silent(self) -> Condition:
        """Zeros in place of all that is told."""
        return self._with(self, lambda mine, _: torch.zeros_like(mine))

    def to(self, like: Tensor) -> Condition:
        """On the device and in the dtype of ``like``."""
        if self.vector is self.tokens is self.spatial is self.hint is None:
            return self
        return self._with(self, lambda mine, _: mine.to(like))

    def _with(self, other: Condition, join: Callable[[Tensor, Tensor], Tensor]) -> Condition:
        told: list[Tensor | None] = []
        for name in WAYS:
            mine, theirs = getattr(self, name), getattr(other, name)
            if (mine is None) != (theirs is None):
                raise ValueError(f"Only one of two conditions tells '{name}'; give both or neither.")
            told.append(None if mine is None else join(mine, theirs))
        return Condition(*told)


WAYS = tuple(field.name for field in fields(Condition))


def _like(keep: Tensor, field: Tensor) -> Tensor:
    return keep.view(-1, *[1] * (field.ndim - 1))
