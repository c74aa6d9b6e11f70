"""How much of a label lies open in some features: a linear machine learns it from a few examples.

Radford et al. 2016, arXiv 1511.06434, section 5.1: frozen features, a linear support vector machine with
squared hinge loss, its strength chosen on examples set aside, averaged over draws of what it learns from.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sfumato.errors import DataError, MissingExtraError

STRENGTHS = (1e-3, 1e-2, 1e-1)
"""Among which the machine's freedom (C) is chosen."""


@dataclass(frozen=True)
class Probe:
    """What a linear machine made of the features."""

    accuracy: float
    """Share of test examples it labels rightly, averaged over draws."""
    spread: float
    """Standard deviation over draws."""
    draws: int
    strength: float


def probe(
    train: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    test: Float[Tensor, "m d"],
    truth: Int[Tensor, " m"],
    *,
    per_class: int = 100,
    draws: int = 10,
    seed: int = 0,
) -> Probe:
    """Fit on ``per_class`` examples of each class, ``draws`` times; the first draw chooses the strength.

    It is chosen by as many examples again. Features are moved to a mean of 0, and scaled together to a
    standard deviation of 1, over the examples fitted on.
    """
    try:
        from sklearn.svm import LinearSVC
    except ImportError as error:
        raise MissingExtraError(
            'Probing needs scikit-learn; install it with: pip install "sfumato[data]".'
        ) from error
    fewest = int(torch.bincount(labels).min())
    if fewest < 2 * per_class:
        raise DataError(
            f"The rarest class has {fewest} examples, but {per_class} to learn from and as many to choose by "
            "are needed; give more, or ask for fewer a class."
        )

    def accuracy(rows: Tensor, strength: float, features: Tensor, wanted: Tensor) -> float:
        known = train[rows].double()
        middle, scale = known.mean(0), known.std().clamp(min=1e-12)
        machine: Any = LinearSVC(C=strength, loss="squared_hinge", dual=False, tol=1e-3)
        machine.fit(((known - middle) / scale).numpy(), labels[rows].numpy())
        return float((machine.predict(((features - middle) / scale).numpy()) == wanted.numpy()).mean())

    fitted = [_drawn(labels, per_class, 2 * per_class, seed + k) for k in range(draws)]
    rows, aside = fitted[0]
    strength = max(STRENGTHS, key=lambda c: accuracy(rows, c, train[aside], labels[aside]))
    found = [accuracy(rows, strength, test, truth) for rows, _ in fitted]
    spread = statistics.stdev(found) if draws > 1 else 0.0
    return Probe(statistics.fmean(found), spread, draws, strength)


def _drawn(labels: Tensor, first: int, last: int, seed: int) -> tuple[Tensor, Tensor]:
    """Rows of the first few examples of every class after a shuffle, and of the next few."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    groups = [order[labels[order] == k] for k in range(int(labels.max()) + 1)]
    return torch.cat([g[:first] for g in groups]), torch.cat([g[first:last] for g in groups])
