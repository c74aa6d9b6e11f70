"""A denoiser answers one question: given noisy x at time t, what was the clean x?"""

from __future__ import annotations

from functools import cached_property
from typing import Generic, Literal, NamedTuple, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sfumato.core.process import Process
from sfumato.core.rng import Rng
from sfumato.nn.condition import Condition

Predicts = Literal["x0", "eps", "v", "flow", "edm"]
N = TypeVar("N", bound=nn.Module)


class Belief(NamedTuple):
    """What a denoiser believes."""

    x0: Float[Tensor, "b ..."]
    """The clean data."""
    variance: Float[Tensor, "b ..."] | None = None
    """Learned: where ln of the step's variance lies, from the smallest (-1) to the largest (1) that
    makes sense (Nichol & Dhariwal 2021, eq. 15)."""
    rate: Float[Tensor, " b"] | None = None
    """How fast ln of a particle's weight grows as sigma / alpha falls by one: births where they are due."""


class Scales(NamedTuple):
    """The answer is ``skip * x + out * network(into * x)``."""

    skip: Tensor
    out: Tensor
    into: Tensor


class Moment(NamedTuple):
    """The scales at one time as plain numbers, and what the network is told of it."""

    skip: float
    out: float
    into: float
    clock: Float[Tensor, " 1"]


def at_once(t: Float[Tensor, " b"]) -> bool:
    """Whether all of a batch are at one time, as solvers say it: by one number, expanded."""
    return t.shape[0] == 1 or t.stride(0) == 0


class Denoiser(nn.Module, Generic[N]):
    """Wraps a network that predicts noise, data or velocity, so that callers always get data.

    The parametrisations differ in three numbers only (``scales``). Training compares the network with
    the value that would make the answer exact.
    """

    def __init__(
        self,
        network: N,
        process: Process,
        predicts: Predicts,
        *,
        data_std: float = 1.0,
        learned_variance: bool = False,
    ):
        """``data_std`` is sigma_data of "edm"; with ``learned_variance`` the network gives two halves."""
        super().__init__()
        self.network: N = network
        self.process, self.predicts, self.data_std = process, predicts, data_std
        self.learned_variance = learned_variance
        self._moments: dict[tuple[float, torch.device], Moment] = {}

    def scales(self, alpha: Float[Tensor, "*s"], sigma: Float[Tensor, "*s"]) -> Scales:
        """(skip, out, into) at the given levels of data and noise."""
        one = torch.ones_like(alpha)
        match self.predicts:
            case "x0":
                return Scales(0 * one, one, one)
            case "eps":
                return Scales(1 / alpha, -sigma / alpha, one)
            case "v":  # Salimans & Ho 2022: v = alpha n - sigma x0
                power = alpha**2 + sigma**2
                return Scales(alpha / power, -sigma / power, one)
            case "flow":  # Liu et al. 2022: n - x0
                return Scales(1 / (alpha + sigma), -sigma / (alpha + sigma), one)
            case "edm":  # Karras et al. 2022, table 1, for any alpha
                power = sigma**2 + (alpha * self.data_std) ** 2
                root = power.sqrt()
                return Scales(alpha * self.data_std**2 / power, sigma * self.data_std / root, 1 / root)

    def forward(self, x: Float[Tensor, "b ..."], t: Float[Tensor, " b"], cond: Condition) -> Belief:
        if at_once(t):
            now = self._moment(t[0].item(), x.device)
            inside = x if now.into == 1 else now.into * x
            answer, variance = self._halves(self._ask(inside, now.clock.expand(x.shape[0]), cond))
            return Belief(torch.add(now.skip * x, answer, alpha=now.out), variance)
        skip, out, into = self._scales(t, x)
        answer, variance = self._halves(self._ask(into * x, self.process.schedule.clock(t), cond))
        return Belief(skip * x + out * answer, variance)

    def _halves(self, answer: Tensor) -> tuple[Tensor, Tensor | None]:
        if not self.learned_variance:
            return answer, None
        answer, variance = answer.chunk(2, dim=1)
        return answer, variance

    def _moment(self, t: float, device: torch.device) -> Moment:
        """Scales and clock at one time, worked out once."""
        if (known := self._moments.get((t, device))) is not None:
            return known
        time, schedule = torch.tensor([t], dtype=torch.float64), self.process.schedule
        skip, out, into = self.scales(schedule.alpha(time), schedule.sigma(time))
        clock = schedule.clock(time).to(device, torch.float32)
        self._moments[t, device] = Moment(skip.item(), out.item(), into.item(), clock)
        return self._moments[t, device]

    def loss(
        self, x0: Float[Tensor, "b ..."], t: Float[Tensor, " b"], cond: Condition, rng: Rng
    ) -> Float[Tensor, ""]:
        """Mean squared error in the network's own units.

        For "eps" this is L_simple (Ho et al. 2020, eq. 14); for "edm" the paper's weighting (eq. 8).
        """
        alpha, sigma = self.process.schedule.alpha(t), self.process.schedule.sigma(t)
        skip, out, _ = self.scales(alpha, sigma)
        shape = (-1,) + (1,) * (x0.ndim - 1)
        a, s, of_x0, of_n = (
            c.view(shape).to(x0) for c in (alpha, sigma, (1 - skip * alpha) / out, -skip * sigma / out)
        )
        n = self.process.draw(x0, t, rng)
        x = a * x0 + s * n
        x0, n = self.process.kernel.moved(x0, n, self.process.ratio(t))
        answer = self._ask(self._scales(t, x).into * x, self.process.schedule.clock(t), cond)
        if self.learned_variance:
            answer = answer.chunk(2, dim=1)[0]
        return (answer - (of_x0 * x0 + of_n * n)).square().mean()

    def _scales(self, t: Tensor, like: Tensor) -> Scales:
        shape = (-1,) + (1,) * (like.ndim - 1)
        scales = self.scales(self.process.schedule.alpha(t), self.process.schedule.sigma(t))
        return Scales(*(c.view(shape).to(like) for c in scales))

    @cached_property
    def _weight(self) -> Tensor:
        """One of the network's, to be asked for their dtype: looking for it takes as long as a step."""
        return next(self.network.parameters())

    def _ask(self, x: Tensor, clock: Tensor, cond: Condition) -> Tensor:
        """Call the network in the dtype of its weights; the rest of the house stays in x's."""
        inside = x.to(self._weight.dtype)
        answer: Tensor = self.network(inside, clock.to(x.device, torch.float32), cond.to(inside))
        return answer.to(x.dtype)
