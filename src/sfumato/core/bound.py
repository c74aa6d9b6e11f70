"""The variational bound of a diffusion: how many bits a picture costs when noise is undone step by step.

Ho, Jain, Abbeel 2020 (eq. 5 to 8, 13); the learned variance is Nichol & Dhariwal's (2021, eq. 15). All of it
holds for Gaussian noise and for any falling times: fewer of them are a coarser model, whose bound is its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.denoiser import Belief
from sfumato.core.process import Process
from sfumato.core.rng import Rng
from sfumato.core.solvers import Variance, learned_of
from sfumato.core.steps import Denoise

LEVELS = 255
"""Steps between the darkest and the lightest of 256 grey levels."""
NATS = math.log(2)
"""In a bit."""


def cost(
    process: Process,
    x0: Float[Tensor, "b ..."],
    x: Float[Tensor, "b ..."],
    t: Float[Tensor, " b"],
    s: Float[Tensor, " b"],
    belief: Belief,
    variance: Variance,
) -> Float[Tensor, " b"]:
    """Bits a number that one step costs, from x at ``t`` to the earlier time ``s``.

    The divergence of the model's step from the posterior given x0 (eq. 5); where ``s`` is 0, the surprise at
    the grey levels themselves (eq. 13).
    """
    (at, st), (as_, ss) = process.coefficients(t, x.double()), process.coefficients(s, x.double())
    large = (st.square() - (at / as_ * ss).square()).clamp(min=1e-20)
    last = ss == 0
    small = torch.where(last, large, large * (ss / st).square())
    match variance:
        case "small":
            log_var = small.log().expand_as(x)
        case "large":
            log_var = large.log().expand_as(x)
        case "learned":
            share = (learned_of(belief) + 1) / 2
            log_var = share * large.log() + (1 - share) * small.log()
    kept = (ss.square() - torch.where(last, 0.0, small)).clamp(min=0).sqrt() / st
    off = (as_ - kept * at) * (x0 - belief.x0)
    apart = (log_var - small.log() - 1 + (small.log() - log_var).exp() + off.square() * (-log_var).exp()) / 2
    nats = torch.where(last, _surprise(x0, belief.x0, log_var), apart)
    return nats.flatten(1).mean(1).to(x.dtype) / NATS


def _surprise(x0: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """-ln of the chance of a grey level; the darkest and the lightest take the tails."""
    scale = (-log_var / 2).exp()
    above = torch.special.ndtr((x0 + 1 / LEVELS - mean) * scale)
    below = torch.special.ndtr((x0 - 1 / LEVELS - mean) * scale)
    chance = torch.where(x0 < -0.999, above, torch.where(x0 > 0.999, 1 - below, above - below))
    return -chance.clamp(min=1e-12).log()


def prior_cost(process: Process, x0: Float[Tensor, "b ..."], t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """Bits a number by which x at the first time is not yet the noise that sampling starts from."""
    alpha, sigma = process.coefficients(t, x0)
    nats = (sigma.square() + (alpha * x0).square() - 1 - sigma.square().log()) / 2
    return nats.flatten(1).mean(1) / NATS


@torch.no_grad()
def bits(
    denoise: Denoise,
    process: Process,
    x0: Float[Tensor, "b ..."],
    times: Float[Tensor, " s"],
    rng: Rng,
    variance: Variance = "small",
) -> Iterator[Float[Tensor, " b"]]:
    """Bits a number that pictures in [-1, 1] cost, a term at a time: the prior's, then each step's.

    Their sum is an upper bound; each is one draw of what it is on average. The process keeps the variance of
    standard data (alpha^2 + sigma^2 = 1) and ``times`` fall to 0.
    """
    falls = times.double().cpu()[:, None].expand(-1, len(x0))
    yield prior_cost(process, x0, falls[0])
    for t, s in pairwise(falls.unbind()):
        x = process.noise(x0, t, rng)
        yield cost(process, x0, x, t, s, denoise(x, t), variance)
