"""A denoiser answers one question: given noisy x at time t, what was the clean x?"""

from __future__ import annotations

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
        skip, out, into = self._scales(t, x)
        answer = self._ask(into * x, t, cond)
        if not self.learned_variance:
            return Belief(skip * x + out * answer)
        answer, variance = answer.chunk(2, dim=1)
        return Belief(skip * x + out * answer, variance)

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
        answer = self._ask(self._scales(t, x).into * x, t, cond)
        if self.learned_variance:
            answer = answer.chunk(2, dim=1)[0]
        return (answer - (of_x0 * x0 + of_n * n)).square().mean()

    def _scales(self, t: Tensor, like: Tensor) -> Scales:
        shape = (-1,) + (1,) * (like.ndim - 1)
        scales = self.scales(self.process.schedule.alpha(t), self.process.schedule.sigma(t))
        return Scales(*(c.view(shape).to(like) for c in scales))

    def _ask(self, x: Tensor, t: Tensor, cond: Condition) -> Tensor:
        """Call the network in the dtype of its weights; the rest of the house stays in x's."""
        dtype = next(self.network.parameters()).dtype
        clock = self.process.schedule.clock(t).to(x.device, torch.float32)
        inside = x.to(dtype)
        answer: Tensor = self.network(inside, clock, cond.to(inside))
        return answer.to(x.dtype)
