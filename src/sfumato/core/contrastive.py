"""The contrastive game: among all pictures and texts at hand, those that belong together find each other."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from sfumato.core import parallel


def contrastive_losses(
    images: Float[Tensor, "b d"],
    texts: Float[Tensor, "b d"],
    scale: Float[Tensor, ""],
    tokens: Int[Tensor, "b l"] | None = None,
) -> dict[str, Tensor]:
    """Half of the cross-entropy each way, over the pairs of all processes (Radford et al. 2021, figure 3).

    ``images`` and ``texts`` are unit vectors of pairs. Equal ``tokens`` are one text: a picture is not asked
    to tell its caption from another's that says the same. The mean over processes is the loss of one process
    with all pairs, and so is its gradient.
    """
    all_images, first = parallel.joined(images.float())
    all_texts, _ = parallel.joined(texts.float())
    own = torch.arange(first, first + len(images), device=images.device)
    mask = None if tokens is None else _twins(tokens, parallel.together(tokens), own)
    sides = {"image": (images, all_texts), "text": (texts, all_images)}
    with torch.autocast(images.device.type, enabled=False):
        logits = {name: scale.float() * mine.float() @ others.mT for name, (mine, others) in sides.items()}
    if mask is not None:
        logits = {name: values.masked_fill(mask, float("-inf")) for name, values in logits.items()}
    return {name: cross_entropy(values, own) / 2 for name, values in logits.items()}


def _twins(
    tokens: Int[Tensor, "b l"], others: Int[Tensor, "n l"], own: Int[Tensor, " b"]
) -> Bool[Tensor, "b n"]:
    """Which of all texts say the same as mine, without my own."""
    same = (tokens[:, None] == others[None]).all(2)
    return same.scatter(1, own[:, None], False)
