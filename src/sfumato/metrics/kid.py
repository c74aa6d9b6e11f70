"""Kernel distance between two clouds of features: unbiased, so n matters less than for Frechet."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.errors import UsageError

BLOCK = 1000
"""Rows of the kernel held in memory at once."""


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
    """Unbiased squared maximum mean discrepancy (Gretton et al. 2012, eq. 3) with the cubic kernel, over
    random subsets (Binkowski et al. 2018, section 4).

    ``size`` None means 1000, or half of the smaller set where that is less, so that subsets differ.
    """
    fewest = min(len(real), len(generated))
    size = min(1000, fewest // 2) if size is None else size
    if not 2 <= size <= fewest:
        raise UsageError(
            f"Subsets of {size} pictures cannot be drawn from {fewest}; choose a size from 2 to {fewest}."
        )
    generator = torch.Generator().manual_seed(seed)
    chosen_real = _choices(subsets, len(real), size, generator)
    chosen_generated = _choices(subsets, len(generated), size, generator)
    within_real = _sums(real, chosen_real, real, chosen_real, apart=True) / (size * (size - 1))
    within = _sums(generated, chosen_generated, generated, chosen_generated, apart=True) / (size * (size - 1))
    between = _sums(real, chosen_real, generated, chosen_generated, apart=False) / size**2
    drawn = within_real + within - 2 * between
    return KernelDistance(drawn.mean().item(), drawn.std().item() if subsets > 1 else 0.0, subsets, size)


def _choices(subsets: int, n: int, size: int, generator: torch.Generator) -> Tensor:
    """For each subset, 1 where a picture belongs to it."""
    chosen = torch.zeros(subsets, n, dtype=torch.float64)
    for row in chosen:
        row[torch.randperm(n, generator=generator)[:size]] = 1
    return chosen


def _sums(x: Tensor, of_x: Tensor, y: Tensor, of_y: Tensor, *, apart: bool) -> Tensor:
    """For each subset the sum of kernels over its pairs; ``apart`` leaves out a picture with itself.

    With 0 and 1 as weights all subsets share one kernel, computed once.
    """
    total = torch.zeros(len(of_x), dtype=torch.float64)
    for start in range(0, len(x), BLOCK):
        rows = slice(start, start + BLOCK)
        kernel = cubic(x[rows], y).double()
        if apart:
            kernel[torch.arange(len(kernel)), start + torch.arange(len(kernel))] = 0
        total += ((of_x[:, rows] @ kernel) * of_y).sum(1)
    return total


def cubic(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """The kernel (x . y / d + 1)^3, which compares the first three moments."""
    return (x @ y.T / x.shape[1] + 1) ** 3
