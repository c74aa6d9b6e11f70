"""Inception score: are single pictures clearly something, and are they together many things?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.errors import UsageError


@dataclass(frozen=True)
class InceptionScore:
    """Mean and standard deviation over splits; between 1 and the number of classes."""

    value: float
    spread: float
    splits: int


def inception_score(logits: Float[Tensor, "n k"], *, splits: int = 10, seed: int = 0) -> InceptionScore:
    """exp of the mean KL(p(y|x) || p(y)) (Salimans et al. 2016, section 4), over shuffled splits.

    ``logits`` may be the logarithm of probabilities; -inf stands for a probability of 0.
    """
    if not 1 <= splits <= len(logits):
        raise UsageError(f"{len(logits)} pictures cannot be cut into {splits} splits; ask for fewer splits.")
    order = torch.randperm(len(logits), generator=torch.Generator().manual_seed(seed))
    log = logits.double()[order].log_softmax(1)
    scores = torch.stack([_score(part) for part in log.tensor_split(splits)])
    return InceptionScore(scores.mean().item(), scores.std().item() if splits > 1 else 0.0, splits)


def _score(log: Tensor) -> Tensor:
    p = log.exp()
    gap = torch.where(p > 0, p * (log - p.mean(0).log()), 0.0)
    return gap.sum(1).mean().exp()
