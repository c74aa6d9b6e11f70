"""25 spots on a grid in the plane: the smallest data set on which a generator can be caught forgetting."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.data.toys import SPOT, SPOTS, Points

ENOUGH = 0.01
"""Share of all points from which on a spot counts as covered: a quarter of its own 4 %, twice what it gets
from points spread evenly over the square."""


def gaussians(split: str = "train", size: int = 1) -> Points:
    """50,000 points of the 5 x 5 spots of Gulrajani et al. 2017, section 4.1; the label says which spot."""
    return Points(split, size, kind="gaussians", length=50_000 if split == "train" else 10_000)


def coverage(points: Float[Tensor, "n 2"]) -> tuple[int, float]:
    """How many of the 25 spots have their share of the points, and the share of points on any spot.

    A point is on a spot within 4 of its standard deviations; a spot is covered by 1 % of all points.
    """
    away = torch.cdist(points.double(), SPOTS.double())
    distance, nearest = away.min(1)
    on = distance <= 4 * SPOT
    counts = torch.bincount(nearest[on], minlength=len(SPOTS))
    return int((counts >= ENOUGH * len(points)).sum()), float(on.double().mean())
