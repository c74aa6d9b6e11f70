"""Nearest training pictures: does a model make new ones, or repeat what it has seen?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sfumato.errors import UsageError

BLOCK = 8_000_000
"""Distances held in memory at once: 32 MB."""
SPARE = 3
"""Candidates beyond the nearest whose distances are computed anew: matrix products round."""
LIMIT = 0.8
"""Generated pictures this much nearer to training pictures than fresh ones are give cause to worry (A5)."""


def squared_distances(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]
) -> Iterator[tuple[int, Float[Tensor, "b m"]]]:
    """Blocks (first row, squared distances of these rows of ``x`` to all of ``y``), by matrix products.

    Both sets are moved by the mean of ``y`` first, which keeps |x|^2 + |y|^2 - 2 x.y accurate in float32.
    """
    block = max(1, BLOCK // len(y))
    centre = y.mean(0)
    x, y = x - centre, y - centre
    norms, transposed = y.square().sum(1), y.T.contiguous()
    for start in range(0, len(x), block):
        rows = x[start : start + block]
        products = torch.addmm(norms, rows, transposed, alpha=-2)
        yield start, products.add_(rows.square().sum(1, keepdim=True)).clamp_(min=0)


@dataclass(frozen=True)
class Nearest:
    """For each query the nearest pictures of a reference set, nearest first."""

    index: Int[Tensor, "n k"]
    distance: Float[Tensor, "n k"]


def nearest(queries: Float[Tensor, "n d"], reference: Float[Tensor, "m d"], *, k: int = 1) -> Nearest:
    """The ``k`` nearest members of ``reference`` to each query, by Euclidean distance."""
    if not 1 <= k <= len(reference):
        raise UsageError(f"{len(reference)} reference pictures have no {k} nearest; ask for fewer.")
    few = min(k + SPARE, len(reference))
    near = torch.cat([d.topk(few, largest=False).indices for _, d in squared_distances(queries, reference)])
    gaps = torch.stack([(queries - reference[near[:, j]]).norm(dim=1) for j in range(few)], 1)
    distance, order = gaps.sort(dim=1, stable=True)
    return Nearest(near.gather(1, order)[:, :k], distance[:, :k])


@dataclass(frozen=True)
class Memorisation:
    """How near generated pictures come to training pictures, against how near fresh real ones come."""

    ratio: float
    """Mean distance generated to training over mean distance held-out to training; 0 means copies."""
    spread: float
    """Standard error of the ratio."""
    generated: Nearest
    held: Float[Tensor, " t"]

    @property
    def warning(self) -> str | None:
        """Why to suspect copies, if so."""
        if self.ratio >= LIMIT:
            return None
        return (
            f"Generated pictures lie at {self.ratio:.2f} of the distance at which fresh ones lie from the "
            f"training set (below {LIMIT}): the model may repeat what it has seen; look at the pairs."
        )


def memorisation(
    generated: Float[Tensor, "n d"], train: Float[Tensor, "m d"], held: Float[Tensor, "t d"]
) -> Memorisation:
    """Ratio of mean nearest-neighbour distances, generated to training over held-out to training."""
    near, fresh = nearest(generated, train), nearest(held, train).distance[:, 0]
    return _ratio(near, fresh)


def memorisation_without_held(generated: Float[Tensor, "n d"], train: Float[Tensor, "m d"]) -> Memorisation:
    """The same where nothing was held out: training pictures against the others of their kind stand in."""
    near, fresh = nearest(generated, train), nearest(train, train, k=2).distance[:, 1]
    return _ratio(near, fresh)


def _ratio(near: Nearest, fresh: Tensor) -> Memorisation:
    ours = near.distance[:, 0]
    mean = fresh.mean().item()
    if mean == 0:
        raise UsageError("Held-out pictures are copies of training pictures; give a test set of its own.")
    ratio = ours.mean().item() / mean
    relative = [_relative_error(ours), _relative_error(fresh)]
    return Memorisation(ratio, ratio * (relative[0] ** 2 + relative[1] ** 2) ** 0.5, near, fresh)


def _relative_error(x: Tensor) -> float:
    """Standard error of a mean, relative to it."""
    return (x.std() / len(x) ** 0.5 / x.mean().clamp(min=1e-12)).item() if len(x) > 1 else 0.0
