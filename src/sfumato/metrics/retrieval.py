"""Retrieval: how often the right text, or the right picture, is among the first found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sfumato.data.dataset import Dataset
from sfumato.errors import DataError

POOL = 128
"""Pictures and captions among which each must find its own."""
OTHERS = 99
"""Captions of other pictures among which a picture's own must come first (Xu et al. 2018, section 4)."""


def ranks(scores: Float[Tensor, "n m"], right: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
    """At which place, from 0, the right column of each row comes; of equal scores the right one comes last.

    >>> ranks(torch.tensor([[0.1, 0.9, 0.5], [0.2, 0.2, 0.1]]), torch.tensor([2, 0])).tolist()
    [1, 1]
    """
    own = scores.gather(1, right[:, None])
    return (scores >= own).sum(1) - 1


def recall_at(scores: Float[Tensor, "n n"], k: int = 1) -> tuple[float, float]:
    """Share of rows whose own column (the diagonal) is among the best ``k``, and of columns likewise.

    With pictures in rows and their texts in columns: text retrieval, then image retrieval.
    """
    own = torch.arange(len(scores), device=scores.device)
    found = [(ranks(side, own) < k).float().mean().item() for side in (scores, scores.mT)]
    return found[0], found[1]


def pools(
    data: Dataset, count: int, *, size: int = POOL, seed: int = 0
) -> Iterator[tuple[Float[Tensor, "n c h w"], list[str]]]:
    """About ``count`` examples of captioned data in random order, in pools of ``size`` different captions.

    At least one pool; a ``DataError`` if the data does not fill it.
    """
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
    kept: dict[str, Tensor] = {}
    left = max(1, count // size)
    for rows in order.split(size):
        batch = data.batch(rows)
        for image, caption in zip(batch["image"], batch["caption"], strict=True):
            kept.setdefault(caption, image)
            if len(kept) == size:
                yield torch.stack(list(kept.values())), list(kept)
                kept, left = {}, left - 1
                if not left:
                    return
    if left == max(1, count // size):
        raise DataError(
            f"'{data.facts.name}' has {len(kept)} different captions, but {size} are compared at a time; "
            "give more captioned pictures."
        )


def r_precision(
    scores: Float[Tensor, "n n"], captions: Sequence[str], *, others: int = OTHERS, seed: int = 0
) -> Float[Tensor, " n"]:
    """1 for each picture whose caption beats those of ``others`` other pictures, drawn by the seed, else 0.

    Captions that say the same are no others. Where there are fewer, all of them are taken.
    """
    generator = torch.Generator().manual_seed(seed)
    found = []
    for i, caption in enumerate(captions):
        strangers = [j for j, other in enumerate(captions) if other != caption]
        drawn = torch.randperm(len(strangers), generator=generator)[:others].tolist()
        found.append(bool((scores[i, [strangers[j] for j in drawn]] < scores[i, i]).all()))
    return torch.tensor(found).float()
