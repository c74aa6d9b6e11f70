"""Projection: search the styles of which a generator makes a given picture.

Karras et al. 2020, arXiv 1912.04958, appendix D; one style for every layer is the space W+ of Abdal, Qin,
Wonka 2019, arXiv 1904.03189. Where the original compares features of VGG16, a pyramid of pixels is compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d

from sfumato.core.rng import Rng

Synthesise = Callable[[Tensor], Tensor]
SCALES = 3
"""Pictures are compared as they are, and halved once, twice ..."""


@dataclass(frozen=True)
class ProjectionConfig:
    """How the search goes on; all shares are of its steps."""

    steps: int = 300
    lr: float = 0.1
    rise: float = 0.05
    """Share in which the learning rate grows from 0 ..."""
    fall: float = 0.25
    """... and in which it falls back, along a cosine."""
    noise: float = 0.05
    """Of the styles at first, in deviations of all styles, so that the search does not settle early."""
    noisy: float = 0.75
    """Share after which that noise has gone."""

    def rate(self, t: float) -> float:
        """Learning rate at share ``t`` of the steps."""
        fall = min(1.0, (1 - t) / self.fall)
        return self.lr * (0.5 - 0.5 * math.cos(math.pi * fall)) * min(1.0, t / self.rise)

    def shake(self, t: float) -> float:
        """Deviation of the noise at share ``t``."""
        return float(self.noise * max(0.0, 1 - t / self.noisy) ** 2)


@dataclass(frozen=True)
class Found:
    """Where the search stands."""

    done: float
    styles: Float[Tensor, "b l d"]
    distance: Float[Tensor, " b"]


def project(
    synthesise: Synthesise,
    target: Float[Tensor, "b c h w"],
    start: Float[Tensor, "b l d"],
    spread: Float[Tensor, ""],
    rng: Rng,
    config: ProjectionConfig | None = None,
) -> Iterator[Found]:
    """Search from ``start``: one style for all layers (l = 1), or one each.

    ``spread`` is the deviation of all styles. No picture's search depends on the others.
    """
    c = config or ProjectionConfig()
    styles = start.detach().clone().requires_grad_()
    optimiser = torch.optim.Adam([styles], betas=(0.9, 0.999))
    for step in range(c.steps):
        t = (step + 1) / c.steps
        shaken = styles.detach() + c.shake(t) * spread * rng.normal(*styles.shape[1:]).to(styles)
        with torch.enable_grad():
            shaken.requires_grad_()
            distance = distances(synthesise(shaken), target)
            (styles.grad,) = torch.autograd.grad(distance.sum(), shaken)
        for group in optimiser.param_groups:
            group["lr"] = c.rate(t)
        optimiser.step()
        yield Found(t, styles.detach(), distance.detach())


def distances(pixels: Float[Tensor, "b c h w"], target: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """Mean squared differences of each pair, as they are and halved, summed over scales."""
    error = pixels.float() - target.float()
    total = error.square().mean((1, 2, 3))
    for _ in range(SCALES - 1):
        if min(error.shape[2:]) < 2:
            break
        error = avg_pool2d(error, 2)
        total = total + error.square().mean((1, 2, 3))
    return total
