"""Kernel distance between two clouds of features: unbiased, so n matters less than for Frechet."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.errors import UsageError


@dataclass(frozen=True)
class KernelDistance:
    """Mean and standard deviation over random subsets; a little below 0 is possible and means 0."""

    value: float
    spread: float
    subsets: int
    size: int
    """Pictures in a subset."""


def kernel_distance(
    real: Float[Tensor, "n d"],
    generated: Float[Tensor, "m d"],
    *,
    subsets: int = 100,
    size: int | None = None,
    seed: int = 0,
) -> KernelDistance:
    """Squared maximum mean discrepancy over random subsets (Binkowski et al. 2018, section 4).

    ``size`` None means 1000, or half of the smaller set where that is less, so that subsets differ.
    """
    fewest = min(len(real), len(generated))
    size = min(1000, fewest // 2) if size is None else size
    if not 2 <= size <= fewest:
        raise UsageError(
            f"Subsets of {size} pictures cannot be drawn from {fewest}; choose a size from 2 to {fewest}."
        )
    generator = torch.Generator().manual_seed(seed)
    values = []
    for _ in range(subsets):
        x = real[torch.randperm(len(real), generator=generator)[:size]]
        y = generated[torch.randperm(len(generated), generator=generator)[:size]]
        values.append(discrepancy(x, y))
    drawn = torch.stack(values)
    spread = drawn.std().item() if subsets > 1 else 0.0
    return KernelDistance(drawn.mean().item(), spread, subsets, size)


def discrepancy(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, ""]:
    """Unbiased squared maximum mean discrepancy with the cubic kernel (Gretton et al. 2012, eq. 3)."""
    x, y = x.double(), y.double()
    return _mean_of_pairs(x) + _mean_of_pairs(y) - 2 * cubic(x, y).mean()


def cubic(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """The kernel (x . y / d + 1)^3, which compares the first three moments."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def _mean_of_pairs(x: Tensor) -> Tensor:
    """Mean kernel of two different members."""
    kernel = cubic(x, x)
    return (kernel.sum() - kernel.trace()) / (len(x) * (len(x) - 1))
