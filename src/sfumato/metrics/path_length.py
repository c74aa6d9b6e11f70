"""Perceptual path length: how much a picture changes for a small step through latent space.

Karras, Laine, Aila: A Style-Based Generator Architecture for Generative Adversarial Networks, CVPR 2019,
arXiv 1812.04948, section 4.1. They measure change by LPIPS in VGG-16; here it is the same form of distance,
without learned weights, in the maps of an oracle, and the name of every figure says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.latent import Way, between
from sfumato.core.rng import Rng
from sfumato.errors import UsageError
from sfumato.metrics.reader import Reader

EPSILON = 1e-4
_KEPT = (0.01, 0.99)
_BATCH = 64

Sampling = Literal["full", "end"]


@runtime_checkable
class Distance(Protocol):
    """How different two pictures look, pair by pair."""

    @property
    def name(self) -> str: ...

    def __call__(self, x: Float[Tensor, "n c h w"], y: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]: ...


@dataclass(frozen=True)
class LpipsForm:
    """The form of LPIPS (Zhang et al. 2018, eq. 1) with all weights 1, in the maps of a reader."""

    reader: Reader

    @property
    def name(self) -> str:
        return f"LPIPS form, oracle: {self.reader.name}"

    def __call__(self, x: Float[Tensor, "n c h w"], y: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
        """Squared distances of channel vectors of length 1, averaged over places, summed over stages."""
        pairs = zip(self.reader.stages(x), self.reader.stages(y), strict=True)
        return torch.stack([(_unit(a) - _unit(b)).square().sum(1).mean((1, 2)) for a, b in pairs]).sum(0)


def _unit(maps: Tensor) -> Tensor:
    maps = maps.double()
    return maps / maps.norm(dim=1, keepdim=True).clamp(min=1e-10)


@dataclass(frozen=True)
class PathLengths:
    """Mean over the pairs that are neither among the shortest hundredth nor the longest."""

    value: float
    spread: float
    """Standard error."""
    n: int
    """Pairs that count."""
    name: str


@torch.no_grad()
def path_length(
    generate: Callable[[Tensor], Tensor],
    start: Float[Tensor, "n ..."],
    end: Float[Tensor, "m ..."],
    distance: Distance,
    *,
    way: Way,
    sampling: Sampling = "full",
    epsilon: float = EPSILON,
    seed: int = 0,
) -> PathLengths:
    """E[d(G(p(t)), G(p(t + epsilon))) / epsilon^2] for paths p from ``start`` to ``end`` (eq. 2 and 3).

    Normal latents want ``way`` "slerp", styles "lerp". "full" draws t anywhere on the path, "end" takes 0.
    ``generate`` must give the same picture for the same latent, in float32 at least.
    """
    if len(start) != len(end) or len(start) < 2:
        raise UsageError(f"{len(start)} starts and {len(end)} ends make no paths; give two or more of each.")
    share = Rng.sampling(seed, len(start)).uniform() if sampling == "full" else torch.zeros(len(start))
    found = []
    for rows in torch.arange(len(start)).split(_BATCH):
        here, there = (
            between(start[rows].double(), end[rows].double(), t[rows].double(), way).to(start.dtype)
            for t in (share.double(), share.double() + epsilon)
        )
        found.append(distance(generate(here), generate(there)).cpu() / epsilon**2)
    lengths = torch.cat(found).double()
    low, high = torch.quantile(lengths, torch.tensor(_KEPT, dtype=torch.float64))
    kept = lengths[(lengths >= low) & (lengths <= high)]
    name = f"Perceptual path length ({distance.name}, {way}, {sampling})"
    return PathLengths(kept.mean().item(), (kept.std() / len(kept) ** 0.5).item(), len(kept), name)
