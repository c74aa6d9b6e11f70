"""Precision and recall: what share of generated pictures looks real, what share of real ones is reached.

A set's manifold is the union of balls around its members, each reaching to the member's k-th nearest
neighbour in the same set (Kynkaanniemi et al. 2019, algorithm 1). Precision has nothing to do with how well
a picture fits its words.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.errors import UsageError
from sfumato.metrics.neighbours import squared_distances

SLACK = 2e-6
"""Rounding of a squared distance in float32, relative to the squared norms it is computed from."""


@dataclass(frozen=True)
class PrecisionRecall:
    """Shares between 0 and 1, with their binomial standard errors."""

    precision: float
    recall: float
    n: tuple[int, int]
    """Number of real and of generated pictures."""
    k: int

    @property
    def spread(self) -> tuple[float, float]:
        """Standard errors of precision (over generated pictures) and of recall (over real ones)."""
        return standard_error(self.precision, self.n[1]), standard_error(self.recall, self.n[0])


def standard_error(share: float, n: int) -> float:
    """Binomial standard error of a share of n."""
    return (share * (1 - share) / n) ** 0.5


def precision_recall(
    real: Float[Tensor, "n d"], generated: Float[Tensor, "m d"], *, k: int = 3
) -> PrecisionRecall:
    """Improved precision and recall (Kynkaanniemi et al. 2019, eq. 2 and 3), squared distances throughout."""
    around_real, around_generated = reach(real, k=k), reach(generated, k=k)
    looks_real, reached = [], torch.zeros(len(real), dtype=torch.bool)
    for start, distances in squared_distances(generated, real):
        looks_real.append((distances <= around_real).any(1))
        radii = around_generated[start : start + len(distances), None]
        reached |= (distances <= radii).any(0).cpu()
    precision, recall = torch.cat(looks_real).float().mean().item(), reached.float().mean().item()
    return PrecisionRecall(precision, recall, (len(real), len(generated)), k)


def reach(members: Float[Tensor, "m d"], *, k: int = 3) -> Float[Tensor, " m"]:
    """Squared radii of the balls around members, widened by rounding so that copies lie within."""
    return squared_radii(members, k=k) + SLACK * (members - members.mean(0)).square().sum(1)


def squared_radii(members: Float[Tensor, "m d"], *, k: int = 3) -> Float[Tensor, " m"]:
    """Squared distance from each member to its k-th nearest other member."""
    if not 1 <= k < len(members):
        raise UsageError(f"{len(members)} pictures have no {k}-th neighbours; give more than {k} pictures.")
    found = []
    for start, distances in squared_distances(members, members):
        own = torch.arange(len(distances))
        distances[own, start + own] = torch.inf
        found.append(distances.topk(k, largest=False).values[:, -1])
    return torch.cat(found)
