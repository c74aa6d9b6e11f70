"""How likely a picture is: what a decoder's numbers say of its pixels, and bounds on what a model gives it.

Pictures are in [-1, 1]; a likelihood takes what a network puts out and answers in nats a picture, summed over
pixels and channels. Bounds follow Kingma & Welling 2013 (eq. 3 and 10) and Burda, Grosse & Salakhutdinov 2015
(IWAE, eq. 8).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from sfumato.errors import UsageError

LOG_2PI = math.log(2 * math.pi)
LEAST_LOG_SCALE = -7.0
"""Of learned scales: a pixel that is always the same would want one of 0 (PixelCNN++'s own floor)."""


class Likelihood(Protocol):
    """What a decoder's numbers mean."""

    @property
    def outputs(self) -> int:
        """Numbers the decoder gives for each number of the picture."""
        ...

    def log_prob(self, x: Float[Tensor, "b c h w"], out: Float[Tensor, "b k h w"]) -> Float[Tensor, " b"]: ...

    def mean(self, out: Float[Tensor, "b k h w"]) -> Float[Tensor, "b c h w"]:
        """The picture to show, within [-1, 1]."""
        ...


@dataclass(frozen=True)
class Bernoulli:
    """Every pixel is a chance of being white; grey levels count as such chances.

    That is no density of grey pictures, but the usual figure for them: even the best model of soft pixels
    pays their entropy. ``out`` are logits.
    """

    @property
    def outputs(self) -> int:
        return 1

    def log_prob(self, x: Float[Tensor, "b c h w"], out: Float[Tensor, "b k h w"]) -> Float[Tensor, " b"]:
        loss = binary_cross_entropy_with_logits(out, (x + 1) / 2, reduction="none")
        return -loss.flatten(1).sum(1)

    def mean(self, out: Float[Tensor, "b k h w"]) -> Float[Tensor, "b c h w"]:
        return 2 * out.sigmoid() - 1


@dataclass(frozen=True)
class Gaussian:
    """Normal errors of one known size: squared error over 2 std^2, plus a constant."""

    std: float = 0.5**0.5
    """With variance 1/2 the loss is |x - y|^2 + KL."""

    def __post_init__(self) -> None:
        _positive("std", self.std)

    @property
    def outputs(self) -> int:
        return 1

    def log_prob(self, x: Float[Tensor, "b c h w"], out: Float[Tensor, "b k h w"]) -> Float[Tensor, " b"]:
        errors = ((x - out) / self.std).square().flatten(1)
        return -0.5 * (errors + LOG_2PI).sum(1) - errors.shape[1] * math.log(self.std)

    def mean(self, out: Float[Tensor, "b k h w"]) -> Float[Tensor, "b c h w"]:
        return out.clamp(-1, 1)


@dataclass(frozen=True)
class Laplace:
    """Errors of one known size with heavier tails: absolute error over scale, plus a constant."""

    scale: float = 0.5

    def __post_init__(self) -> None:
        _positive("scale", self.scale)

    @property
    def outputs(self) -> int:
        return 1

    def log_prob(self, x: Float[Tensor, "b c h w"], out: Float[Tensor, "b k h w"]) -> Float[Tensor, " b"]:
        errors = ((x - out).abs() / self.scale).flatten(1)
        return -errors.sum(1) - errors.shape[1] * math.log(2 * self.scale)

    def mean(self, out: Float[Tensor, "b k h w"]) -> Float[Tensor, "b c h w"]:
        return out.clamp(-1, 1)


@dataclass(frozen=True)
class DiscretisedLogistic:
    """The chance of each of the grey levels there are, under a logistic curve (Salimans et al. 2017, eq. 2).

    ``out`` holds the curve's middle, then its log scale. The lowest and the highest level take all that lies
    beyond them, so chances add up to one: nats are comparable between models, and to a lossless code.
    """

    levels: int = 256

    def __post_init__(self) -> None:
        if self.levels < 2:
            raise UsageError(f"A picture has at least 2 grey levels, got {self.levels}; give 256 for bytes.")

    @property
    def outputs(self) -> int:
        return 2

    def log_prob(self, x: Float[Tensor, "b c h w"], out: Float[Tensor, "b k h w"]) -> Float[Tensor, " b"]:
        middle, log_scale = out.chunk(2, dim=1)
        log_scale = log_scale.clamp(min=LEAST_LOG_SCALE)
        half = 1 / (self.levels - 1)
        above, below = ((x - middle + d) * (-log_scale).exp() for d in (half, -half))
        width = 2 * half * (-log_scale).exp()
        # log(s(a) - s(b)) = log s(a) + log s(-b) + log(1 - exp(b - a)): no digits are lost in the tails.
        inside = logsigmoid(above) + logsigmoid(-below) + torch.log(-torch.expm1(-width))
        dark, bright = x < -1 + half, x > 1 - half
        chance = torch.where(dark, logsigmoid(above), torch.where(bright, logsigmoid(-below), inside))
        return chance.flatten(1).sum(1)

    def mean(self, out: Float[Tensor, "b k h w"]) -> Float[Tensor, "b c h w"]:
        return out.chunk(2, dim=1)[0].clamp(-1, 1)


@dataclass(frozen=True)
class LogitLaplace:
    """Laplace errors before a sigmoid, which end where pixels end (Ramesh et al. 2021, appendix A.3).

    ``out`` holds the middle of the logit, then the log scale.
    """

    margin: float = 0.1
    """How far pixels are kept from 0 and 1, where a logit is infinite."""

    def __post_init__(self) -> None:
        if not 0 < self.margin < 0.5:
            raise UsageError(f"margin must lie between 0 and 0.5, got {self.margin}; the paper has 0.1.")

    @property
    def outputs(self) -> int:
        return 2

    def log_prob(self, x: Float[Tensor, "b c h w"], out: Float[Tensor, "b k h w"]) -> Float[Tensor, " b"]:
        middle, log_scale = out.chunk(2, dim=1)
        log_scale = log_scale.clamp(min=LEAST_LOG_SCALE)
        inner = (1 - 2 * self.margin) * (x + 1) / 2 + self.margin
        errors = (inner.logit() - middle).abs() * (-log_scale).exp()
        # The last term turns a density of inner pixels into one of pixels in [-1, 1].
        terms = errors + log_scale + (2 * inner * (1 - inner)).log() - math.log(0.5 - self.margin)
        return -terms.flatten(1).sum(1)

    def mean(self, out: Float[Tensor, "b k h w"]) -> Float[Tensor, "b c h w"]:
        inner = out.chunk(2, dim=1)[0].sigmoid()
        return (2 * (inner - self.margin) / (1 - 2 * self.margin) - 1).clamp(-1, 1)


def _positive(name: str, value: float) -> None:
    if value <= 0:
        raise UsageError(f"{name} must be above 0, got {value}; 0.7071 makes the loss |x - y|^2 + KL.")


# --- latents -----------------------------------------------------------------------------------------


def kl_to_normal(mean: Float[Tensor, "b d"], logvar: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
    """Divergence of N(mean, exp(logvar)) from N(0, 1), in nats, of every number (appendix B)."""
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar)


def log_normal(
    z: Float[Tensor, "*n d"], mean: Float[Tensor, "*n d"], logvar: Float[Tensor, "*n d"]
) -> Float[Tensor, "*n"]:
    """Log density of N(mean, exp(logvar)) at z, in nats."""
    return -0.5 * ((z - mean).square() * (-logvar).exp() + logvar + LOG_2PI).sum(-1)


@dataclass(frozen=True)
class Bounds:
    """What a model gives each picture at least, in nats; more samples bring ``iwae`` nearer to the truth."""

    elbo: Float[Tensor, " b"]
    iwae: Float[Tensor, " b"]
    samples: int


def bounds(log_weights: Iterable[Float[Tensor, " b"]]) -> Bounds:
    """Both bounds from log p(x, z) - log q(z | x) of one sample of z a picture at a time.

    The mean of the logarithms (ELBO), and the logarithm of the mean (IWAE), which is never smaller. Sums run
    in float64, so that thousands of samples need no more memory than one.
    """
    total: Tensor | None = None
    joint: Tensor | None = None
    count = 0
    for weight in log_weights:
        weight = weight.double()
        total = weight if total is None else total + weight
        joint = weight if joint is None else torch.logaddexp(joint, weight)
        count += 1
    if total is None or joint is None:
        raise UsageError("A bound needs at least 1 sample a picture, got 0; give more.")
    return Bounds((total / count).float(), (joint - math.log(count)).float(), count)
