"""Guidance turns denoisers into denoisers, so that guidance composes by nesting calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

import torch
from torch import Tensor

from sfumato.core.denoiser import Belief, Denoiser, at_once
from sfumato.core.process import Process
from sfumato.core.rng import Rng
from sfumato.core.steps import Denoise, Project
from sfumato.nn.condition import Condition


def conditioned(denoiser: Denoiser, cond: Condition) -> Denoise:
    """Tell the denoiser ``cond`` at every step."""
    return lambda x, t: denoiser(x, t, cond)


def classifier_free(
    denoiser: Denoiser,
    cond: Condition,
    null: Condition,
    scale: float,
    interval: tuple[float, float] = (0.0, 1.0),
    rescale: float = 0.0,
) -> Denoise:
    """Move from what is believed without the condition towards and beyond what is believed with it.

    Ho & Salimans 2022, in the convention null + scale * (cond - null): 1 is no guidance, 0 ignores the
    condition. Guidance acts for t in ``interval`` (Kynkäänniemi et al. 2024); ``rescale`` takes back that
    share of the gain in standard deviation (Lin et al. 2024, eq. 15-16).
    """
    return composed(denoiser, [cond], [1.0], null, scale, interval, rescale)


def composed(
    denoiser: Denoiser,
    conds: Sequence[Condition],
    shares: Sequence[float | Tensor],
    null: Condition,
    scale: float,
    interval: tuple[float, float] = (0.0, 1.0),
    rescale: float = 0.0,
) -> Denoise:
    """Guidance without a classifier towards several conditions at once: null + scale * sum of
    share * (cond - null) (Liu et al. 2022, Compositional Visual Generation, eq. 11).

    ``shares``, numbers or (b, 1, 1, 1), sum up to 1; negative ones lead away.
    """
    alone = reduce(Condition.stack, conds)
    beside = null.stack(alone)

    def denoise(x: Tensor, t: Tensor) -> Belief:
        guided = scale != 1 and interval[0] <= float(t[0]) <= interval[1]
        times = len(conds) + guided
        many = t[:1].expand(times * len(t)) if at_once(t) else t.repeat(times)
        belief: Belief = denoiser(x.repeat(times, *[1] * (x.ndim - 1)), many, beside if guided else alone)
        beliefs = belief.x0.chunk(times)
        told = _sum(beliefs[guided:], shares)
        x0 = beliefs[0] + scale * (told - beliefs[0]) if guided else told
        if guided and rescale:
            axes = tuple(range(1, x0.ndim))
            gain = x0.std(axes, keepdim=True) / told.std(axes, keepdim=True)
            x0 = x0 * (rescale / gain + 1 - rescale)
        return Belief(x0, None if belief.variance is None else belief.variance.chunk(times)[guided])

    return denoise


def _sum(beliefs: Sequence[Tensor], shares: Sequence[float | Tensor]) -> Tensor:
    total = shares[0] * beliefs[0]
    for share, belief in zip(shares[1:], beliefs[1:], strict=True):
        total = total + share * belief
    return total


def experts(early: Denoise, late: Denoise, switch: float) -> Denoise:
    """One denoiser for the times from ``switch`` to 1, where there is much noise, another for the rest
    (Balaji et al. 2022, eDiff-I; SDXL's base and refiner)."""
    return lambda x, t: (early if float(t[0]) >= switch else late)(x, t)


def towards(
    denoise: Denoise, process: Process, objective: Callable[[Tensor, Tensor], Tensor], scale: float
) -> Denoise:
    """Lean towards x of which ``objective``, (x, t) -> (b,), says much: the log-probability of a class, say.

    The belief moves by scale * sigma^2 / alpha * gradient, which at scale 1 is Bayes' rule if the objective
    is ln p(y | x_t) (Dhariwal & Nichol 2021, section 4, for any process with Gaussian noise).
    """

    def denoise_towards(x: Tensor, t: Tensor) -> Belief:
        belief = denoise(x, t)
        with torch.enable_grad():
            at = x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(objective(at, t).sum(), at)
        alpha, sigma = process.coefficients(t, x)
        return belief._replace(x0=belief.x0 + scale * sigma.square() / alpha * gradient)

    return denoise_towards


def keep_outside(
    process: Process, images: Tensor, mask: Tensor, rng: Rng, *, to_the_end: bool = True
) -> Project:
    """Paint inside a mask alone: after every step, what is outside is the given picture under as much fresh
    noise as there is then (Lugmayr et al. 2022, RePaint, eq. 8; Nichol et al. 2022, GLIDE).

    ``mask`` (b, 1, h, w) is 1 where we may paint. The last step leads to no noise, so that what is outside
    comes out as it was, bit for bit; unless ``to_the_end`` is false, which leaves it to the denoiser.
    """

    def project(x: Tensor, t: Tensor) -> Tensor:
        if float(t[0]) == 0 and not to_the_end:
            return x
        known = images.to(x) if float(t[0]) == 0 else process.noise(images.to(x), t, rng)
        return torch.where(mask.to(x) > 0, x, known)

    return project


def clipped(denoise: Denoise, limit: float = 1.0) -> Denoise:
    """Keep beliefs in [-limit, limit], where pictures live."""

    def inside(x: Tensor, t: Tensor) -> Belief:
        belief = denoise(x, t)
        return belief._replace(x0=belief.x0.clamp(-limit, limit))

    return inside


def pasted(denoise: Denoise, image: Tensor, keep: Tensor) -> Denoise:
    """Put what is known of the picture into every belief: ``keep`` is 1 where it is ``image`` (Nichol et
    al. 2021, GLIDE, section 3.2)."""

    def known(x: Tensor, t: Tensor) -> Belief:
        belief = denoise(x, t)
        return belief._replace(x0=torch.where(keep > 0, image, belief.x0))

    return known
