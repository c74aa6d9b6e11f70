"""Solvers walk from noise to data. Each is a generator of steps, so that progress bars, previews,
cancelling and editing live with the caller and never inside a solver.

All share one signature: ``times`` falls (its last entry is usually 0); ``denoise`` says what we believe the
data to be; ``project`` enforces, after every step, what we know about x (for example that it agrees with
a picture outside a mask). Coefficients are tabulated once a run, as plain numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.adaptive import rk45
from sfumato.core.denoiser import Belief
from sfumato.core.process import Level, Process
from sfumato.core.rng import Rng
from sfumato.core.steps import Denoise, Leg, Project, Solver, Step, arrive, legs, needed
from sfumato.errors import UsageError, nearest

Variance = Literal["small", "large", "learned"]


@torch.no_grad()
def ddim(
    denoise: Denoise,
    process: Process,
    x: Float[Tensor, "b ..."],
    times: Float[Tensor, " s"],
    *,
    rng: Rng | None = None,
    project: Project | None = None,
    eta: float = 0.0,
) -> Iterator[Step]:
    """Song et al. 2021, eq. 12. ``eta`` = 0 follows the deterministic path, 1 adds as much noise as DDPM."""
    for leg in legs(process, x, times):
        x0 = denoise(x, leg.t).x0
        fresh = eta * process.spread(leg.now, leg.then)[0]
        x = process.step(x, x0, leg.now, leg.then, fresh)
        if fresh:
            x = x + fresh * process.kernel.fresh(x, needed(rng))
        yield (step := arrive(x, x0, leg, project))
        x = step.x


@torch.no_grad()
def ancestral(
    denoise: Denoise,
    process: Process,
    x: Float[Tensor, "b ..."],
    times: Float[Tensor, " s"],
    *,
    rng: Rng | None = None,
    project: Project | None = None,
    variance: Variance = "small",
) -> Iterator[Step]:
    """Ho et al. 2020, algorithm 2 (whose denominator is sqrt(1 - alpha_bar)); the last step adds no noise.

    ``variance`` is the posterior's given x0 ("small"), that of one step of the process ("large"), or the
    network's choice between both on a logarithmic scale ("learned", Nichol & Dhariwal 2021, eq. 15).
    """
    for leg in legs(process, x, times):
        belief = denoise(x, leg.t)
        small, large = process.spread(leg.now, leg.then)
        x = process.step(x, belief.x0, leg.now, leg.then, small)
        if leg.then.sigma > 0:
            fresh = _deviation(belief, small, large, variance)
            x = x + fresh * process.kernel.fresh(x, needed(rng))
        yield (step := arrive(x, belief.x0, leg, project))
        x = step.x


def _deviation(belief: Belief, small: float, large: float, variance: Variance) -> float | Tensor:
    if variance != "learned":
        return small if variance == "small" else large
    share = (learned_of(belief) + 1) / 2
    return (share * math.log(large) + (1 - share) * math.log(max(small, 1e-20))).exp()


def learned_of(belief: Belief) -> Tensor:
    """The variance a network has learned; ``UsageError`` if it has not."""
    if belief.variance is None:
        raise UsageError("This network has not learned a variance; use the variance 'small' or 'large'.")
    return belief.variance


@torch.no_grad()
def euler(
    denoise: Denoise,
    process: Process,
    x: Float[Tensor, "b ..."],
    times: Float[Tensor, " s"],
    *,
    rng: Rng | None = None,
    project: Project | None = None,
) -> Iterator[Step]:
    """Euler's method on the probability flow, dy / dsigma = n, where y = x / alpha and sigma is relative to
    alpha (Karras et al. 2022, algorithm 1 without its correction). It is DDIM without fresh noise (Song et
    al. 2021, section 4.3)."""
    yield from ddim(denoise, process, x, times, project=project)


@torch.no_grad()
def heun(
    denoise: Denoise,
    process: Process,
    x: Float[Tensor, "b ..."],
    times: Float[Tensor, " s"],
    *,
    rng: Rng | None = None,
    project: Project | None = None,
    churn: Churn | None = None,
) -> Iterator[Step]:
    """Heun's method on the same flow: Euler's step, then the mean of the slopes at both ends (Karras et
    al. 2022, algorithm 1). Two evaluations a step; one where an end has no data or no noise at all.

    With ``churn`` every step first goes back to a little more noise (algorithm 2)."""
    for leg in legs(process, x, times):
        if churn is not None:
            x, leg = _churned(x, leg, process, churn.growth(leg.now, len(times) - 1), churn.extra, rng)
        n, x0 = _noise_in(denoise, x, leg.t, leg.now)
        ahead = process.step(x, x0, leg.now, leg.then)
        if leg.then.sigma > 0 and leg.now.alpha > 0:
            change = leg.then.sigma - leg.then.alpha * leg.now.sigma / leg.now.alpha
            ahead = ahead + change * (_noise_in(denoise, ahead, leg.s, leg.then)[0] - n) / 2
        yield (step := arrive(ahead, x0, leg, project))
        x = step.x


@dataclass(frozen=True)
class Churn:
    """How much fresh noise Heun's method adds, and where (Karras et al. 2022, algorithm 2)."""

    amount: float = 40.0
    """S_churn, shared by all steps."""
    low: float = 0.05
    high: float = 50.0
    """Between which noise levels, relative to the data."""
    extra: float = 1.003
    """S_noise: standard deviation of the fresh noise, a little above 1 against over-smoothing."""

    def growth(self, level: Level, steps: int) -> float:
        """By which share the noise grows."""
        if level.alpha == 0 or not self.low <= level.sigma / level.alpha <= self.high:
            return 0.0
        return min(self.amount / steps, math.sqrt(2) - 1)


def _churned(
    x: Tensor, leg: Leg, process: Process, growth: float, extra: float, rng: Rng | None
) -> tuple[Tensor, Leg]:
    """Back to a higher noise level."""
    if not growth:
        return x, leg
    ratio = leg.now.sigma / leg.now.alpha
    t = process.schedule.when(torch.full_like(leg.t, ratio * (1 + growth)))
    [now] = process.levels(t[:1])
    added = math.sqrt(max((now.sigma / now.alpha) ** 2 - ratio**2, 0.0))
    x = x / leg.now.alpha + added * extra * process.kernel.fresh(x, needed(rng))
    return now.alpha * x, leg._replace(t=t, now=now)


@torch.no_grad()
def dpmpp_2m(
    denoise: Denoise,
    process: Process,
    x: Float[Tensor, "b ..."],
    times: Float[Tensor, " s"],
    *,
    rng: Rng | None = None,
    project: Project | None = None,
    eta: float = 0.0,
) -> Iterator[Step]:
    """DPM-Solver++(2M): second order from one evaluation a step, by extrapolating beliefs over
    ln(alpha / sigma) (Lu et al. 2022b, algorithm 2). First order on the first step and on a last to 0.

    With ``eta`` = 1 it solves the stochastic equation instead (the paper's SDE-DPM-Solver++, eq. 18)."""
    before, stride = None, 0.0
    for leg in legs(process, x, times):
        x0 = target = denoise(x, leg.t).x0
        length = _log_snr(leg.then) - _log_snr(leg.now)
        if before is not None and math.isfinite(length):
            target = torch.lerp(x0, before, -length / (2 * stride))
        forgotten = eta * length if eta else 0.0
        kept = leg.then.sigma / leg.now.sigma * math.exp(-forgotten)
        x = torch.add(kept * x, target, alpha=-leg.then.alpha * math.expm1(-length - forgotten))
        if eta and leg.then.sigma > 0:
            fresh = leg.then.sigma * math.sqrt(-math.expm1(-2 * forgotten))
            x = x + fresh * process.kernel.fresh(x, needed(rng))
        before, stride = x0, length
        yield (step := arrive(x, x0, leg, project))
        x = step.x


def _log_snr(level: Level) -> float:
    if level.sigma == 0:
        return math.inf
    return math.log(level.alpha / level.sigma) if level.alpha > 0 else -math.inf


@torch.no_grad()
def plms(
    denoise: Denoise,
    process: Process,
    x: Float[Tensor, "b ..."],
    times: Float[Tensor, " s"],
    *,
    rng: Rng | None = None,
    project: Project | None = None,
    of: Literal["eps", "v"] = "eps",
) -> Iterator[Step]:
    """Pseudo linear multi-step (Liu et al. 2022, PNDM, algorithm 2): the noise is extrapolated from up to
    four evaluations (Adams-Bashforth), warmed up by improved Euler, which costs one evaluation more.

    With ``of="v"``, velocities are extrapolated instead, as public samplers do for networks that predict
    them. A walk of a single step is Euler's."""
    past: list[Tensor] = []
    for leg in legs(process, x, times):
        x0 = denoise(x, leg.t).x0
        ahead = process.step(x, x0, leg.now, leg.then)
        if leg.now.alpha > 0 and len(times) > 2:
            said = _said(x, x0, leg.now, of)
            if past:
                mixed = _adams_bashforth([said, *past])
            elif leg.then.sigma > 0:
                mixed = (said + _said(ahead, denoise(ahead, leg.s).x0, leg.then, of)) / 2
            else:
                mixed = said
            ahead = process.step(x, _meant(x, mixed, leg.now, of), leg.now, leg.then)
            past = [said, *past][:3]
        x = ahead
        yield (step := arrive(x, x0, leg, project))
        x = step.x


def _said(x: Tensor, x0: Tensor, level: Level, of: Literal["eps", "v"]) -> Tensor:
    """What a network that predicts noise or velocity has said if the clean data is ``x0``."""
    n = (x - level.alpha * x0) / level.sigma
    return n if of == "eps" else level.alpha * n - level.sigma * x0


def _meant(x: Tensor, said: Tensor, level: Level, of: Literal["eps", "v"]) -> Tensor:
    """The clean data if a network has said this."""
    if of == "eps":
        return (x - level.sigma * said) / level.alpha
    return (level.alpha * x - level.sigma * said) / (level.alpha**2 + level.sigma**2)


def _noise_in(denoise: Denoise, x: Tensor, t: Tensor, level: Level) -> tuple[Tensor, Tensor]:
    x0 = denoise(x, t).x0
    return (x - level.alpha * x0) / level.sigma, x0


def _adams_bashforth(values: list[Tensor]) -> Tensor:
    weights = {2: (3 / 2, -1 / 2), 3: (23 / 12, -16 / 12, 5 / 12), 4: (55 / 24, -59 / 24, 37 / 24, -9 / 24)}
    return torch.stack([w * v for w, v in zip(weights[len(values)], values, strict=True)]).sum(0)


def encode(
    denoise: Denoise, process: Process, x0: Float[Tensor, "b ..."], times: Float[Tensor, " s"]
) -> Iterator[Step]:
    """DDIM the other way, from data to the noise that makes it (Song et al. 2021, section 4.3).

    ``times`` fall, as for sampling; with the same ones, sampling without fresh noise leads back, up to an
    error that halves when there are twice as many.
    """
    rising = times[times > 0].flip(0)
    yield from ddim(denoise, process, process.levels(rising[:1])[0].alpha * x0, rising)


def resampled(solver: Solver, times_each: int) -> Solver:
    """Take every step several times, each time going back by fresh noise to where it set out, so that what is
    painted inside a mask comes to agree with what ``project`` keeps outside (Lugmayr et al. 2022, RePaint,
    algorithm 1). A solver of several steps forgets its history."""

    @torch.no_grad()
    def solve(
        denoise: Denoise,
        process: Process,
        x: Float[Tensor, "b ..."],
        times: Float[Tensor, " s"],
        *,
        rng: Rng | None = None,
        project: Project | None = None,
    ) -> Iterator[Step]:
        for leg in legs(process, x, times):
            here = torch.stack([leg.t[0], leg.s[0]])
            for again in reversed(range(times_each if leg.then.sigma > 0 else 1)):
                *_, step = solver(denoise, process, x, here, rng=rng, project=project)
                x = step.x
                if again:
                    fresh = process.spread(leg.now, leg.then)[1]
                    share = leg.now.alpha / leg.then.alpha
                    x = share * x + fresh * process.kernel.fresh(x, needed(rng))
            yield step

    return solve


SOLVERS: dict[str, Solver] = {
    "ancestral": ancestral,
    "ddim": ddim,
    "euler": euler,
    "heun": heun,
    "dpmpp_2m": dpmpp_2m,
    "dpmpp_sde": partial(dpmpp_2m, eta=1.0),
    "plms": plms,
    "rk45": rk45,
}


def named(name: str, *, eta: float | None = None) -> Solver:
    """The solver called ``name``; ``eta`` is for DDIM alone."""
    if name not in SOLVERS:
        raise UsageError(f"Unknown solver '{name}'{nearest(name, SOLVERS)}")
    if eta is None:
        return SOLVERS[name]
    if name != "ddim":
        raise UsageError(
            f"eta is a setting of ddim; '{name}' has none. Leave it out, or use the solver ddim."
        )
    return partial(ddim, eta=eta)
