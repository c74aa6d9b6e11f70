"""The best denoiser of a point set, for any process: every point is a charge, and what it says counts by how
likely the noise has come from there."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.denoiser import Belief
from sfumato.core.process import Process
from sfumato.core.steps import Denoise
from sfumato.errors import UsageError


def charges(
    points: Float[Tensor, "k ..."], process: Process, weights: Float[Tensor, " k"] | None = None
) -> Denoise:
    """What a perfect network would answer that has learned these points by heart, with these shares.

    For Gaussian noise that is the posterior mean (Karras et al. 2022, eq. 57); other kernels weigh by their
    own density. Computed in float64 and answered in the type of x.
    """
    at = points.flatten(1).double()
    shares = torch.ones(len(at)).double() if weights is None else weights.double()
    if len(shares) != len(at) or not bool((shares > 0).all()):
        raise UsageError(f"{len(at)} points need as many positive weights, got {shares.tolist()[:8]}.")
    size, kernel = at.shape[1], process.kernel

    def denoise(x: Tensor, t: Tensor) -> Belief:
        alpha, sigma = (v(t.double())[:, None] for v in (process.schedule.alpha, process.ratio))
        offsets = (x.flatten(1).double() / alpha)[:, None] - at
        square = offsets.square().sum(2)
        told = (shares.log() + kernel.log_density(square, sigma, size)).softmax(1)
        kept = told * (1 - kernel.gain(square, sigma, size))
        x0 = told @ at + torch.einsum("bk,bkd->bd", kept, offsets)
        rate = (told * kernel.growth(square, sigma, size)).sum(1)
        return Belief(x0.reshape(x.shape).to(x.dtype), rate=rate)

    return denoise
