"""How data turns into noise.

Every process here has the form ``x_t = alpha(t) x0 + sigma(t) n`` with time t in [0, 1], where 0 is data
and 1 is noise. A *schedule* supplies alpha and sigma, a *kernel* (``core.kernels``) draws n.
"""

from __future__ import annotations

import abc
import functools
import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.kernels import Gaussian, Kernels
from sfumato.core.rng import Rng
from sfumato.errors import UsageError

Spacing = Literal["leading", "trailing", "linspace", "karras"]
RHO = 7.0
"""Karras et al. 2022 (eq. 5): how much closer together the steps are near the data."""


@runtime_checkable
class Schedule(Protocol):
    """How much data and how much noise there is at each time."""

    def alpha(self, t: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Share of data; float64."""
        ...

    def sigma(self, t: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Share of noise; float64."""
        ...

    def clock(self, t: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """What the network is told about t, in the units of the paper; float64."""
        ...

    def when(self, ratio: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """The time at which sigma / alpha is ``ratio``."""
        ...

    def times(self, rng: Rng) -> Float[Tensor, " n"]:
        """Draw one training time for each stream; never one at which sigma vanishes."""
        ...

    def grid(self, steps: int, spacing: Spacing) -> Float[Tensor, " s"]:
        """``steps + 1`` sampling times, falling, the last one 0; float64."""
        ...


@dataclass(frozen=True)
class _Betas(abc.ABC):
    """A discrete schedule: noise is added ``steps`` times, the k-th time with variance beta_k.

    Between its times, sigma / alpha is interpolated linearly, as public samplers do. Its clock is the
    index k = t * steps - 1 of the last addition: 0 is the least noise, ``steps`` - 1 the most.
    """

    steps: int = 1000
    zero_snr: bool = False
    """Shift and stretch the schedule so that no data is left at t = 1 (Lin et al. 2024, algorithm 1)."""

    @abc.abstractmethod
    def betas(self) -> Float[Tensor, " steps"]:
        """Variances of the additions; float64."""

    def alpha(self, t: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return 1 / (1 + self._ratio(t).square()).sqrt()

    def sigma(self, t: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return 1 / (1 + 1 / self._ratio(t).square()).sqrt()

    def clock(self, t: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return t.double() * self.steps - 1

    def when(self, ratio: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        table = _ratios(self)
        above = torch.searchsorted(table, ratio.double().contiguous()).clamp(1, self.steps)
        low, high = table[above - 1], table[above]
        return (above - 1 + (ratio - low) / (high - low)).clamp(0, self.steps) / self.steps

    def times(self, rng: Rng) -> Float[Tensor, " n"]:
        return rng.integers(1, self.steps + 1).double() / self.steps

    def grid(self, steps: int, spacing: Spacing) -> Float[Tensor, " s"]:
        total, i = self.steps, torch.arange(steps, dtype=torch.float64)
        if steps > total and spacing != "karras":
            raise UsageError(f"{steps} steps are too many for a process of {total}; take fewer.")
        match spacing:
            case "leading":
                index = (i * (total // steps)).flip(0)
            case "trailing":
                index = (total - i * total / steps).round() - 1
            case "linspace":
                index = torch.linspace(total - 1, 0, steps, dtype=torch.float64).round()
            case "karras":
                low, high = _ratios(self)[1].item(), self._ratio(torch.ones(1))[0].clamp(max=1e4).item()
                return torch.cat([self.when(_karras(low, high, steps)), i.new_zeros(1)])
        return torch.cat([(index + 1) / total, i.new_zeros(1)])

    def _ratio(self, t: Tensor) -> Tensor:
        table, place = _ratios(self), t.double() * self.steps
        nearest = place.round()
        place = torch.where((place - nearest).abs() < 1e-3, nearest, place)  # single-precision times
        low = place.floor().long().clamp(0, self.steps)
        share = place - low
        between = torch.lerp(table[low], table[(low + 1).clamp(max=self.steps)], share)
        return torch.where(share == 0, table[low], between)


@functools.cache
def _ratios(schedule: _Betas) -> Tensor:
    """Table sigma / alpha at t = 0, 1 / steps, ..., 1."""
    kept = (1 - schedule.betas()).cumprod(0)
    if schedule.zero_snr:
        root = kept.sqrt()
        kept = ((root - root[-1]) * root[0] / (root[0] - root[-1])).square()
    return torch.cat([kept.new_zeros(1), ((1 - kept) / kept).sqrt()])


def _karras(low: float, high: float, steps: int) -> Tensor:
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    ends = high ** (1 / RHO), low ** (1 / RHO)
    return (ends[0] + ramp * (ends[1] - ends[0])) ** RHO


@dataclass(frozen=True)
class LinearBetas(_Betas):
    """Betas grow linearly (Ho et al. 2020, section 4)."""

    first: float = 1e-4
    last: float = 2e-2

    def betas(self) -> Float[Tensor, " steps"]:
        return torch.linspace(self.first, self.last, self.steps, dtype=torch.float64)


@dataclass(frozen=True)
class ScaledLinear(_Betas):
    """Square roots of betas grow linearly (Rombach et al. 2022; called "linear" in their code)."""

    first: float = 0.00085
    last: float = 0.012

    def betas(self) -> Float[Tensor, " steps"]:
        ends = math.sqrt(self.first), math.sqrt(self.last)
        return torch.linspace(*ends, self.steps, dtype=torch.float64).square()


@dataclass(frozen=True)
class Cosine(_Betas):
    """The share of data falls as a squared cosine (Nichol & Dhariwal 2021, eq. 17)."""

    offset: float = 0.008
    largest: float = 0.999

    def betas(self) -> Float[Tensor, " steps"]:
        t = torch.linspace(0, 1, self.steps + 1, dtype=torch.float64)
        kept = ((t + self.offset) / (1 + self.offset) * math.pi / 2).cos().square()
        return (1 - kept[1:] / kept[:-1]).clamp(max=self.largest)


@dataclass(frozen=True)
class Gamma(_Betas):
    """Betas grow linearly, but in training times lie anywhere between the steps, and the network is told how
    much data is left: with sqrt(gamma) uniform between those of two steps (Saharia et al. 2021, section 2.4,
    after Chen et al. 2021, WaveGrad) any steps will do in sampling. The clock is 1000 sqrt(gamma)."""

    steps: int = 2000
    first: float = 1e-6
    last: float = 1e-2

    def betas(self) -> Float[Tensor, " steps"]:
        return torch.linspace(self.first, self.last, self.steps, dtype=torch.float64)

    def clock(self, t: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return 1000 * self.alpha(t)

    def times(self, rng: Rng) -> Float[Tensor, " n"]:
        after = rng.integers(1, self.steps + 1)
        alpha = 1 / (1 + _ratios(self).square()).sqrt()
        between = torch.lerp(alpha[after - 1], alpha[after], 1 - rng.uniform().double())
        return self.when((1 / between.square() - 1).clamp(min=0).sqrt())


@dataclass(frozen=True)
class Karras:
    """Data stays, noise grows: x_t = x0 + sigma n (Karras et al. 2022, EDM).

    sigma = sigma_max t^rho, so that equal steps of t are the paper's grid (eq. 5); ln sigma is drawn from
    a normal distribution in training (table 1). The clock is ln(sigma) / 4.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = RHO
    mean: float = -1.2
    """Of ln sigma in training."""
    std: float = 1.2
    """Of ln sigma in training."""

    def alpha(self, t: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return torch.ones_like(t, dtype=torch.float64)

    def sigma(self, t: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return self.sigma_max * t.double() ** self.rho

    def clock(self, t: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return self.sigma(t).log() / 4

    def when(self, ratio: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return (ratio.double() / self.sigma_max) ** (1 / self.rho)

    def times(self, rng: Rng) -> Float[Tensor, " n"]:
        drawn = (self.mean + self.std * rng.normal().double()).exp()
        return self.when(drawn.clamp(self.sigma_min, self.sigma_max))

    def grid(self, steps: int, spacing: Spacing) -> Float[Tensor, " s"]:
        """All spacings are the paper's own: this schedule is spread by its definition."""
        last = (self.sigma_min / self.sigma_max) ** (1 / self.rho)
        ramp = torch.linspace(1, last, steps, dtype=torch.float64)
        return torch.cat([ramp, ramp.new_zeros(1)])


@dataclass(frozen=True)
class Straight:
    """A straight line from data to noise: x_t = (1 - t) x0 + t n (Liu et al. 2022, rectified flow).

    The clock is 1000 t.
    """

    shift: float = 1.0
    """Above 1, sampling spends more steps near the noise (Esser et al. 2024, eq. 23)."""

    def alpha(self, t: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return 1 - t.double()

    def sigma(self, t: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return t.double()

    def clock(self, t: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return 1000 * t.double()

    def when(self, ratio: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return ratio.double() / (1 + ratio.double())

    def times(self, rng: Rng) -> Float[Tensor, " n"]:
        return 1 - rng.uniform().double() * (1 - 1e-5)

    def grid(self, steps: int, spacing: Spacing) -> Float[Tensor, " s"]:
        if spacing == "karras":
            t = self.when(_karras(2e-3, 1e3, steps))
            return torch.cat([t, t.new_zeros(1)])
        t = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
        return self.shift * t / (1 + (self.shift - 1) * t)


@dataclass(frozen=True)
class CosineLogSNR:
    """The cosine in continuous time: ln(alpha^2 / sigma^2) = -2 ln tan(pi/2 (t + offset) / (1 + offset)) +
    shift, with alpha^2 + sigma^2 = 1 (Ho & Salimans 2022, section 2; Imagen).

    At t = 0 there is nothing but data. The clock is 1000 t.
    """

    offset: float = 0.008
    shift: float = 0.0
    """Below 0, more of the time is spent where there is much noise (Hoogeboom et al. 2023, section 2.1)."""

    def alpha(self, t: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return 1 / (1 + self._ratio(t).square()).sqrt()

    def sigma(self, t: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return 1 / (1 + 1 / self._ratio(t).square()).sqrt()

    def clock(self, t: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return 1000 * t.double()

    def when(self, ratio: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        angle = (ratio.double() * math.exp(self.shift / 2)).atan()
        return (angle * 2 / math.pi * (1 + self.offset) - self.offset).clamp(min=0)

    def times(self, rng: Rng) -> Float[Tensor, " n"]:
        return 1 - rng.uniform().double() * (1 - 1e-5)

    def grid(self, steps: int, spacing: Spacing) -> Float[Tensor, " s"]:
        if spacing == "karras":
            low, high = self._ratio(torch.tensor([1e-3, 0.999], dtype=torch.float64)).tolist()
            t = self.when(_karras(low, high, steps))
            return torch.cat([t, t.new_zeros(1)])
        return torch.linspace(1, 0, steps + 1, dtype=torch.float64)

    def _ratio(self, t: Tensor) -> Tensor:
        angle = math.pi / 2 * (t.double() + self.offset) / (1 + self.offset)
        return torch.where(t > 0, angle.tan() * math.exp(-self.shift / 2), 0.0)


class Level(NamedTuple):
    """The two numbers of one time, shared by a whole batch."""

    alpha: float
    sigma: float


Schedules = LinearBetas | ScaledLinear | Cosine | CosineLogSNR | Gamma | Karras | Straight


@dataclass(frozen=True)
class Process:
    """A schedule times a kernel."""

    schedule: Schedules = LinearBetas()
    kernel: Kernels = Gaussian()

    def coefficients(self, t: Float[Tensor, " b"], like: Tensor) -> tuple[Tensor, Tensor]:
        """(alpha, sigma) at ``t``, shaped to broadcast against ``like``."""
        shape = (-1,) + (1,) * (like.ndim - 1)
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        return alpha.view(shape).to(like), sigma.view(shape).to(like)

    def levels(self, times: Float[Tensor, " s"]) -> list[Level]:
        """(alpha, sigma) of each time as plain numbers: what a solver tabulates once a run."""
        both = zip(self.schedule.alpha(times).tolist(), self.schedule.sigma(times).tolist(), strict=True)
        return [Level(alpha, sigma) for alpha, sigma in both]

    def ratio(self, t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """sigma / alpha, by which kernels tell how far noise has come; float64."""
        return self.schedule.sigma(t) / self.schedule.alpha(t)

    def draw(self, like: Float[Tensor, "b ..."], t: Float[Tensor, " b"], rng: Rng) -> Float[Tensor, "b ..."]:
        """Draw n."""
        return self.kernel.draw(like, self.ratio(t), rng)

    def noise(self, x0: Float[Tensor, "b ..."], t: Float[Tensor, " b"], rng: Rng) -> Float[Tensor, "b ..."]:
        """Sample x_t given clean data."""
        alpha, sigma = self.coefficients(t, x0)
        return alpha * x0 + sigma * self.draw(x0, t, rng)

    def prior(self, like: Float[Tensor, "b ..."], rng: Rng) -> Float[Tensor, "b ..."]:
        """Sample x_1 as if data were standard normal: its share at t = 1 is hidden in the noise."""
        t = torch.ones(len(like), dtype=torch.float64)
        alpha, sigma = self.coefficients(t, like)
        return (alpha.square() + sigma.square()).sqrt() * self.draw(like, t, rng)

    def step(
        self, x: Float[Tensor, "b ..."], x0: Float[Tensor, "b ..."], t: Level, s: Level, fresh: float = 0.0
    ) -> Float[Tensor, "b ..."]:
        """The mean of x at the earlier level ``s`` if the clean data is ``x0`` and noise of standard
        deviation ``fresh`` will be added (Song et al. 2021, eq. 12)."""
        kept = math.sqrt(max(s.sigma**2 - fresh**2, 0.0)) / t.sigma
        return torch.add(kept * x, x0, alpha=s.alpha - kept * t.alpha)

    def spread(self, t: Level, s: Level) -> tuple[float, float]:
        """Standard deviations between which that of p(x_s | x_t) lies (Ho et al. 2020, section 3.2): the
        posterior's given x0 (small), and that of one step of the process (large)."""
        if s.alpha == 0:  # nothing but noise ahead: none is fresh
            return 0.0, 0.0
        ratio = t.alpha / s.alpha
        large = math.sqrt(max(t.sigma**2 - (ratio * s.sigma) ** 2, 0.0))
        return large * s.sigma / t.sigma, large
