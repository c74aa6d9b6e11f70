"""CLIP score: how well pictures show what was asked for, as a CLIP sees it.

Hessel, Holtzman, Forbes, Le Bras, Choi 2021, arXiv 2104.08718. The figure here is 100 max(cos, 0), as
evaluations of text-to-image systems report it; the paper's own is 2.5 max(cos, 0), a fortieth of it. A score
means something beside others of the same CLIP only, so that its name stands with every figure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.contrastive import Contrastive
from sfumato.data.dataset import Dataset
from sfumato.metrics.precision_recall import standard_error
from sfumato.metrics.results import Row
from sfumato.metrics.retrieval import POOL, pools, r_precision, recall_at

ERROR = "standard error"
PART = 64
"""Pictures or texts looked at at a time."""


@dataclass(frozen=True)
class ClipScorer:
    """A CLIP with the name that stands with its figures."""

    model: Contrastive
    name: str

    @torch.no_grad()
    def images(self, pixels: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Unit vectors of pictures in [-1, 1] of any size; grey ones are taken as colours."""
        parts = pixels.expand(-1, 3, -1, -1).split(PART)
        return torch.cat([self.model.encode_images(part) for part in parts]).float().cpu()

    @torch.no_grad()
    def texts(self, captions: Sequence[str]) -> Float[Tensor, "n d"]:
        """Unit vectors of captions."""
        parts = [captions[start : start + PART] for start in range(0, len(captions), PART)]
        return torch.cat([self.model.encode_texts(list(part)) for part in parts]).float().cpu()

    def scores(self, pixels: Float[Tensor, "n c h w"], captions: Sequence[str]) -> Float[Tensor, " n"]:
        """100 max(cos, 0) of every picture with its own caption."""
        return clip_scores(self.images(pixels), self.texts(captions))

    def precision(self, pixels: Float[Tensor, "n c h w"], captions: Sequence[str]) -> Float[Tensor, " n"]:
        """Whether each picture's caption comes first among others (``retrieval.r_precision``)."""
        return r_precision(self.images(pixels) @ self.texts(captions).mT, captions)


def retrieval_rows(scorer: ClipScorer, data: Dataset, count: int, *, seed: int = 0) -> list[Row]:
    """How often pictures of data a CLIP has not seen find their captions, and captions their pictures.

    Among ``POOL`` at a time, all with different captions. Control: the caption of another picture as if it
    were their own.
    """
    found = [
        scorer.images(pixels) @ scorer.texts(captions).mT
        for pixels, captions in pools(data, count, seed=seed)
    ]
    rows, n = [], len(found) * POOL
    for side, way in enumerate(("picture to caption", "caption to picture")):
        for k in (1, 5):
            values = torch.tensor([recall_at(scores, k)[side] for scores in found])
            control = torch.tensor([recall_at(scores.roll(1, 1), k)[side] for scores in found])
            value = values.mean().item()
            row = Row(f"R@{k} of {POOL}, {way}", value, n, scorer.name, "high")
            spread = standard_error(value, n)
            rows.append(replace(row, spread=spread, spread_of=ERROR, control=control.mean().item()))
    return rows


def clip_scores(images: Float[Tensor, "n d"], texts: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """100 max(cos, 0) of unit vectors, pair by pair."""
    return 100 * (images * texts).sum(1).clamp(min=0)
