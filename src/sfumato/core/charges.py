"""The best denoiser of a point set, for any process: every point is a charge, and what it says counts by how
likely the noise has come from there."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.denoiser import Belief
from sfumato.core.process import Process
from sfumato.errors import UsageError

FAINTEST = 1e-6
"""Least share of data that counts, where a schedule leaves none."""


class Charges:
    """What a perfect network would answer that has learned these points by heart, with these shares.

    For Gaussian noise that is the posterior mean (Karras et al. 2022, eq. 57); other kernels weigh by their
    own density. Computed in float64 and answered in the type of x.
    """

    def __init__(
        self, points: Float[Tensor, "k ..."], process: Process, weights: Float[Tensor, " k"] | None = None
    ):
        self.points, self.process = points.flatten(1).double(), process
        count = len(self.points)
        self.weights = torch.full((count,), 1 / count).double() if weights is None else weights.double()
        if len(self.weights) != count or not bool((self.weights > 0).all()):
            raise UsageError(
                f"{count} points need as many positive weights, got {self.weights.tolist()[:8]}."
            )

    def posterior(self, x: Float[Tensor, "b ..."], t: Float[Tensor, " b"]) -> Float[Tensor, "b k"]:
        """How likely the noise in x has come from each point; float64."""
        return self._told(*self._seen(x, t)[1:])

    def __call__(self, x: Float[Tensor, "b ..."], t: Float[Tensor, " b"]) -> Belief:
        """Where x comes from if it moves straight, and births: mostly the posterior mean, and none."""
        offsets, square, sigma = self._seen(x, t)
        told, kernel, size = self._told(square, sigma), self.process.kernel, self.points.shape[1]
        kept = told * (1 - kernel.gain(square, sigma, size))
        x0 = told @ self.points + torch.einsum("bk,bkd->bd", kept, offsets)
        rate = (told * kernel.growth(square, sigma, size)).sum(1)
        return Belief(x0.reshape(x.shape).to(x.dtype), rate=rate)

    def _seen(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """From each point to x / alpha, the squares of the lengths, and sigma / alpha."""
        schedule, t = self.process.schedule, t.double()
        alpha = schedule.alpha(t).clamp(min=FAINTEST)[:, None]
        offsets = (x.flatten(1).double() / alpha)[:, None] - self.points
        return offsets, offsets.square().sum(2), schedule.sigma(t)[:, None] / alpha

    def _told(self, square: Tensor, sigma: Tensor) -> Tensor:
        logs = self.process.kernel.log_density(square, sigma, self.points.shape[1])
        return (self.weights.log() + logs).softmax(1)
