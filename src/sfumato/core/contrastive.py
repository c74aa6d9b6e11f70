"""The contrastive game: among all pictures and texts at hand, those that belong together find each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from sfumato.core import parallel


@runtime_checkable
class Contrastive(Protocol):
    """A system that has pictures and texts in one space: what scores, searches and filters are made with."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the pictures it looks at, in pixels."""
        ...

    @property
    def templates(self) -> tuple[str, ...]:
        """Sentences around a label, which stands in place of {}."""
        ...

    @property
    def fingerprint(self) -> str:
        """Tells its weights from any other's."""
        ...

    def prepared(self, pixels: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c i j"]:
        """Pictures in [-1, 1], scaled and cropped to ``size``."""
        ...

    def encode_images(self, pixels: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Unit vectors of pictures in [-1, 1] of any size."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> Float[Tensor, "n d"]:
        """Unit vectors of texts."""
        ...

    def encode_labels(self, labels: Sequence[str], templates: Sequence[str]) -> Float[Tensor, "k d"]:
        """Unit vectors of labels, each the mean over the sentences around it."""
        ...

    def unread(self, texts: Sequence[str]) -> tuple[str, ...]:
        """A sentence for every text that does not fit."""
        ...


def contrastive_losses(
    images: Float[Tensor, "b d"],
    texts: Float[Tensor, "b d"],
    scale: Float[Tensor, ""],
    tokens: Int[Tensor, "b l"] | None = None,
    misses: Float[Tensor, "b k d"] | None = None,
) -> dict[str, Tensor]:
    """Half of the cross-entropy each way, over the pairs of all processes (Radford et al. 2021, figure 3).

    ``images`` and ``texts`` are unit vectors of pairs. Equal ``tokens`` are one text: a picture is not asked
    to tell its caption from another's that says the same. ``misses`` are texts that are nearly right, each
    picture's own: it must tell them from its caption too (Yuksekgonul et al. 2023, section 4). The mean over
    processes is the loss of one process with all pairs, and so is its gradient.
    """
    all_images, first = parallel.joined(images.float())
    all_texts, _ = parallel.joined(texts.float())
    own = torch.arange(first, first + len(images), device=images.device)
    mask = None if tokens is None else _twins(parallel.together(tokens), own)
    sides = {"image": (images, all_texts), "text": (texts, all_images)}
    with torch.autocast(images.device.type, enabled=False):
        logits = {name: scale.float() * mine.float() @ others.mT for name, (mine, others) in sides.items()}
    if mask is not None:
        logits = {name: values.masked_fill(mask, float("-inf")) for name, values in logits.items()}
    if misses is not None:
        near = scale.float() * torch.einsum("bd,bkd->bk", images.float(), misses.float())
        logits["image"] = torch.cat([logits["image"], near], 1)
    return {name: cross_entropy(values, own) / 2 for name, values in logits.items()}


def _twins(tokens: Int[Tensor, "n l"], own: Int[Tensor, " b"]) -> Bool[Tensor, "b n"]:
    """Which of all texts say the same as mine, without my own."""
    _, sentence = tokens.unique(dim=0, return_inverse=True)
    same = sentence[own, None] == sentence[None]
    return same.scatter(1, own[:, None], False)
