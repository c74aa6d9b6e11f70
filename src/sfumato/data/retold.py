"""The same pictures in other words: what recaptioning makes of a dataset."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from sfumato.data.dataset import Dataset, Facts
from sfumato.data.text import vocabulary_of
from sfumato.errors import DataError, UsageError

SYNTHETIC = 0.95
"""Share of new captions in DALL-E 3's training (Betker et al. 2023, section 3.3)."""


@dataclass(frozen=True)
class Retold:
    """A dataset with other captions, one for each of its examples."""

    whole: Dataset
    captions: Sequence[str]

    def __post_init__(self) -> None:
        if len(self.captions) != len(self.whole):
            raise DataError(
                f"{len(self.captions)} captions do not pair with {len(self.whole)} pictures; give one each."
            )

    @property
    def facts(self) -> Facts:
        told = self.whole.facts
        digest = hashlib.sha256(repr((told.fingerprint, *self.captions)).encode()).hexdigest()[:16]
        words = tuple(dict.fromkeys((*told.words, *vocabulary_of(self.captions))))
        return replace(told, fields=told.fields | {"caption"}, words=words, fingerprint=digest)

    def __len__(self) -> int:
        return len(self.whole)

    def batch(self, indices: Int[Tensor, " b"]) -> Mapping[str, Any]:
        return {**self.whole.batch(indices), "caption": [self.captions[i] for i in indices.tolist()]}


def mixed(old: Sequence[str], new: Sequence[str], share: float = SYNTHETIC, seed: int = 0) -> list[str]:
    """The new captions for a share of the pictures, chosen by the seed, and the old for the others."""
    if not 0 <= share <= 1:
        raise UsageError(f"The share of new captions must lie between 0 and 1, got {share}.")
    order = torch.randperm(len(new), generator=torch.Generator().manual_seed(seed))
    chosen = set(order[: round(share * len(new))].tolist())
    return [n if i in chosen else o for i, (o, n) in enumerate(zip(old, new, strict=True))]
