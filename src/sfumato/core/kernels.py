"""What noise looks like: three kernels, of which two have a knob that turns them into the first.

A kernel draws n of ``x = alpha x0 + sigma n`` and knows its density. Here ``sigma`` is relative to alpha, one
number an example, and ``size`` is how many numbers an example has. All kernels are aligned, so that grids,
networks and weights made for Gaussian noise serve them as they are.

Besides diffusion these are the processes of Xu et al. 2023 (PFGM++, arXiv 2302.04265) and of Liu et al. 2023
(GenPhys, arXiv 2304.02637), whose Yukawa process we work out in closed form.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core import radial
from sfumato.core.rng import Rng
from sfumato.errors import UsageError


class Kernel(abc.ABC):
    """A law of noise, and how a cloud of such noise shrinks towards the point it came from."""

    @abc.abstractmethod
    def draw(
        self, like: Float[Tensor, "b ..."], sigma: Float[Tensor, " b"], rng: Rng
    ) -> Float[Tensor, "b ..."]:
        """Draw n for each example."""

    @abc.abstractmethod
    def log_density(
        self, square: Float[Tensor, "b k"], sigma: Float[Tensor, "b 1"], size: int
    ) -> Float[Tensor, "b k"]:
        """Logarithm of the density of sigma n at this squared distance from where it came."""

    def gain(
        self, square: Float[Tensor, "b k"], sigma: Float[Tensor, "b 1"], size: int
    ) -> Float[Tensor, "b k"]:
        """How fast x moves from its origin, d ln |x - x0| / d ln sigma; 1 if only the scale of n changes."""
        return torch.ones_like(square)

    def growth(
        self, square: Float[Tensor, "b k"], sigma: Float[Tensor, "b 1"], size: int
    ) -> Float[Tensor, "b k"]:
        """By how much the logarithm of a particle's weight grows as sigma falls by one; 0 without births."""
        return torch.zeros_like(square)

    def moved(
        self, x0: Float[Tensor, "b ..."], n: Float[Tensor, "b ..."], sigma: Float[Tensor, " b"]
    ) -> tuple[Float[Tensor, "b ..."], Float[Tensor, "b ..."]]:
        """The data and the noise whose straight line is x's way: x itself stays the same."""
        return x0, n

    def fresh(self, like: Float[Tensor, "b ..."], rng: Rng) -> Float[Tensor, "b ..."]:
        """Noise to add in the middle of sampling, such that the sum is again noise of this kind."""
        raise UsageError(
            f"This solver adds noise on the way, and sums of {type(self).__name__} noise are no such noise; "
            "use the solver heun, euler or dpmpp_2m."
        )


@dataclass(frozen=True)
class Gaussian(Kernel):
    """Diffusion: noise from a standard normal distribution."""

    def draw(
        self, like: Float[Tensor, "b ..."], sigma: Float[Tensor, " b"], rng: Rng
    ) -> Float[Tensor, "b ..."]:
        return rng.normal(*like.shape[1:]).to(like)

    def log_density(
        self, square: Float[Tensor, "b k"], sigma: Float[Tensor, "b 1"], size: int
    ) -> Float[Tensor, "b k"]:
        return -square / (2 * sigma**2) - size / 2 * (2 * math.pi * sigma**2).log()

    def fresh(self, like: Float[Tensor, "b ..."], rng: Rng) -> Float[Tensor, "b ..."]:
        return rng.normal(*like.shape[1:]).to(like)


@dataclass(frozen=True)
class StudentT(Kernel):
    """PFGM++: data are charges in a space with ``dim`` more dimensions, and x follows their field.

    Xu et al. 2023, eq. 4, at the distance r = sigma sqrt(dim) of section 4, where the law is Student's t
    (their beta law of radii in other words, but without its limits): n = sqrt(D / chi^2_D) times a normal.
    1 is PFGM (Xu et al. 2022); towards infinity it is diffusion.
    """

    dim: float = 64.0
    """D, the number of dimensions added."""

    def __post_init__(self) -> None:
        if not 0 < self.dim < math.inf:
            raise UsageError(
                f"StudentT needs a positive, finite number of added dimensions, got {self.dim}; "
                "for infinitely many take Gaussian."
            )

    def draw(
        self, like: Float[Tensor, "b ..."], sigma: Float[Tensor, " b"], rng: Rng
    ) -> Float[Tensor, "b ..."]:
        n = rng.normal(*like.shape[1:]).double()
        stretch = (self.dim / rng.chi_square(self.dim).double()).sqrt()
        return _scaled(stretch, n).to(like)

    def log_density(
        self, square: Float[Tensor, "b k"], sigma: Float[Tensor, "b 1"], size: int
    ) -> Float[Tensor, "b k"]:
        d = self.dim
        constant = math.lgamma((size + d) / 2) - math.lgamma(d / 2) - size / 2 * math.log(math.pi * d)
        return constant - size * sigma.log() - (size + d) / 2 * (square / (d * sigma**2)).log1p()


@dataclass(frozen=True)
class Yukawa(Kernel):
    """GenPhys's screened Poisson process: the field of charges whose carriers have a ``mass``.

    phi_tt + lap(phi) = m^2 phi makes the normal-inverse-Gaussian law: near the data Cauchy's, as PFGM's, far
    from it Gaussian, as diffusion's; 1 / mass is where it changes. Its own time T is hidden behind sigma: the
    median length of sigma n is that of Gaussian noise.
    """

    mass: float = 10.0
    """One over the reach of the force, in units of the data."""
    gauge: Literal["conserving", "field"] = "conserving"
    """Who carries the density: particles that neither split nor vanish, or the paper's field, on which they
    have to (``births.branching``)."""

    def __post_init__(self) -> None:
        if not 0 < self.mass < math.inf:
            raise UsageError(
                f"Yukawa needs a positive, finite mass, got {self.mass}; without mass it is StudentT(1)."
            )

    def time(self, sigma: Float[Tensor, "*s"], size: int) -> Float[Tensor, "*s"]:
        """T, the process's own time; float64."""
        return radial.alignment(size).time(self.mass * sigma.double()) / self.mass

    def sigma(self, time: Float[Tensor, "*s"], size: int) -> Float[Tensor, "*s"]:
        """What ``time`` undoes; float64."""
        return radial.alignment(size).sigma(self.mass * time.double()) / self.mass

    def _clock(self, sigma: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """m T, and d ln T / d ln sigma; looked up once for each different sigma."""
        levels, where = torch.unique(self.mass * sigma.double(), return_inverse=True)
        same = radial.alignment(size)
        a = same.time(levels)
        return a[where], same.pace(a)[where]

    def draw(
        self, like: Float[Tensor, "b ..."], sigma: Float[Tensor, " b"], rng: Rng
    ) -> Float[Tensor, "b ..."]:
        """Normal noise whose variance is drawn from an inverse Gaussian law of mean T / m, shape T^2."""
        n = rng.normal(*like.shape[1:]).double()
        a = self.mass * self.time(sigma, like[0].numel())
        stretch = a * rng.inverse_gaussian(1 / a).sqrt() / (self.mass * sigma.double())
        return _scaled(stretch, n).to(like)

    def log_density(
        self, square: Float[Tensor, "b k"], sigma: Float[Tensor, "b 1"], size: int
    ) -> Float[Tensor, "b k"]:
        """2 (m / 2 pi)^nu T e^(m T) rho^-nu K_nu(m rho): rho^2 = |x - x0|^2 + T^2, nu = (size + 1) / 2."""
        levels, where = torch.unique(sigma.double(), return_inverse=True)
        a = self.mass * self.time(levels, size)[where]
        apart = self.mass**2 * square.double()
        rho, nu = (a**2 + apart).sqrt(), (size + 1) / 2
        constant = math.log(2) - nu * math.log(2 * math.pi) + size * math.log(self.mass)
        log_k = radial.log_scaled_bessel_k(nu, rho)
        return (constant + a.log() - apart / (a + rho) - nu * rho.log() + log_k).to(square)

    def gain(
        self, square: Float[Tensor, "b k"], sigma: Float[Tensor, "b 1"], size: int
    ) -> Float[Tensor, "b k"]:
        """x keeps its rank among all distances from x0, or follows the field's dx / dT = (x - x0) / T."""
        a, pace = self._clock(sigma, size)
        if self.gauge == "field":
            return pace.expand_as(square).to(square)
        return (radial.growth(self.mass**2 * square.double(), a, size) * pace).to(square)

    def growth(
        self, square: Float[Tensor, "b k"], sigma: Float[Tensor, "b 1"], size: int
    ) -> Float[Tensor, "b k"]:
        """The field carries less charge than there is: particles die at the rate m^2 phi / p (GenPhys, table
        1), m rho K_(nu-1) / (T K_nu), on their way from the data, against m on average."""
        if self.gauge == "conserving":
            return torch.zeros_like(square)
        a, pace = self._clock(sigma, size)
        rho = (a**2 + self.mass**2 * square.double()).sqrt()
        deaths = rho / a / radial.bessel_k_ratio((size - 1) / 2, rho)
        return ((deaths - 1) * pace * a / sigma).to(square)

    def moved(
        self, x0: Float[Tensor, "b ..."], n: Float[Tensor, "b ..."], sigma: Float[Tensor, " b"]
    ) -> tuple[Float[Tensor, "b ..."], Float[Tensor, "b ..."]]:
        wide = sigma.double().cpu()[:, None]
        square = n.flatten(1).double().square().sum(1, keepdim=True).cpu() * wide**2
        kept = self.gain(square, wide, n[0].numel())
        shape = (-1,) + (1,) * (n.ndim - 1)
        return x0 + ((1 - kept) * wide).view(shape).to(n) * n, kept.view(shape).to(n) * n


def _scaled(stretch: Tensor, n: Tensor) -> Tensor:
    return stretch.view(-1, *[1] * (n.ndim - 1)) * n


Kernels = Gaussian | StudentT | Yukawa
