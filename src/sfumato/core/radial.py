"""The mathematics of Yukawa noise: Bessel functions, and how long its vectors are.

In units where the mass is 1, Yukawa noise at time ``a`` is a normal vector whose variance u is drawn from the
inverse Gaussian law of mean a and shape a^2. Everything here is float64.
"""

from __future__ import annotations

import functools
import math

import torch
from jaxtyping import Float
from torch import Tensor

SPAN = (1e-7, 1e9)
"""Times between which the alignment is tabulated; beyond them noise is Cauchy's or Gaussian."""
KNOT = 0.1
"""Distance of the table's entries in the logarithm of time."""
NODES = torch.arange(-8.0, 24.0, 0.8, dtype=torch.float64)
"""Where the law of u, given a radius, is summed up: standard deviations of ln u from its mode, of which the
right tail is the longer one."""


def bessel_k_ratio(order: float, z: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """K_(order+1)(z) / K_order(z) for orders -1/2, 0, 1/2, 1 ...: the recurrence, upwards, as is stable.

    >>> round(float(bessel_k_ratio(0.5, torch.tensor(2.0).double())), 3)  # 1 + 1 / z
    1.5
    """
    ratio, at = _first_ratio(order, z)
    while at < order:
        at += 1
        ratio = 1 / ratio + 2 * at / z
    return ratio


def log_scaled_bessel_k(order: float, z: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """ln(e^z K_order(z)) for orders that are positive multiples of 1/2."""
    ratio, at = _first_ratio(order, z)
    whole = order == int(order)
    log = torch.special.scaled_modified_bessel_k0(z).log() if whole else (math.pi / (2 * z)).log() / 2
    log = log + ratio.log()
    while at + 1 < order:
        at += 1
        ratio = 1 / ratio + 2 * at / z
        log = log + ratio.log()
    return log


def _first_ratio(order: float, z: Tensor) -> tuple[Tensor, float]:
    """K_1 / K_0 for whole orders and K_1/2 / K_-1/2 for the others, with the lower order."""
    if order != int(order):
        return torch.ones_like(z), -0.5
    k0, k1 = torch.special.scaled_modified_bessel_k0(z), torch.special.scaled_modified_bessel_k1(z)
    return k1 / k0, 0.0


def growth(square: Float[Tensor, "*#s"], a: Float[Tensor, "*#s"], dim: int) -> Float[Tensor, "*#s"]:
    """d ln R / d ln a of a vector that keeps its rank among all, where R^2 is ``square``.

    At a fixed rank ln u grows by V = 2 - sqrt(2 pi u) erfcx((u + a) / sqrt(2 u)), as follows from the law's
    distribution function; R grows by half the mean of V over what u may be, given R. 1 where noise is
    Cauchy's, 1/2 where it is Gaussian.
    """
    square, a = torch.broadcast_tensors(square, a)
    half, rho2 = (dim + 1) / 2, a**2 + square
    mode = rho2 / (half + (half**2 + rho2).sqrt())
    width = ((mode + rho2 / mode) / 2).rsqrt()
    u = mode[..., None] * (width[..., None] * NODES).exp()
    log = -half * u.log() - (u + rho2[..., None] / u) / 2
    v = 2 - (2 * math.pi * u).sqrt() * torch.special.erfcx((u + a[..., None]) / (2 * u).sqrt())
    return (log.softmax(-1) * v).sum(-1) / 2


class Alignment:
    """Between time a and the sigma at which Gaussian noise has vectors of the same median length."""

    def __init__(self, dim: int):
        """Follow the median from late times, where noise is Gaussian, to early ones."""
        self.dim, self._middle = dim, median_length(dim)
        logs = torch.arange(math.log(SPAN[1]), math.log(SPAN[0]), -KNOT, dtype=torch.float64)
        found = [logs[0] / 2]
        for log in logs[:-1]:
            found.append(self._step(log, found[-1]))
        self._log_a, self._log_s = logs.flip(0), torch.stack(found).flip(0)
        self._slope = 1 / self._pull(self._log_a, self._log_s)

    def _pull(self, log_a: Tensor, log_s: Tensor) -> Tensor:
        """d ln sigma / d ln a at the median."""
        return growth((log_s.exp() * self._middle) ** 2, log_a.exp(), self.dim)

    def _step(self, log_a: Tensor, log_s: Tensor) -> Tensor:
        """One step of Runge and Kutta back in time."""
        h = -KNOT
        k1 = self._pull(log_a, log_s)
        k2 = self._pull(log_a + h / 2, log_s + h / 2 * k1)
        k3 = self._pull(log_a + h / 2, log_s + h / 2 * k2)
        k4 = self._pull(log_a + h, log_s + h * k3)
        return log_s + h * (k1 + 2 * k2 + 2 * k3 + k4) / 6

    def time(self, sigma: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        return _hermite(sigma.log(), self._log_s, self._log_a, self._slope).exp()

    def sigma(self, a: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        """What ``time`` undoes: Newton's method on the table read backwards."""
        log_a = a.log()
        log_s = _hermite(log_a, self._log_a, self._log_s, 1 / self._slope)
        slope = self._slope[
            torch.searchsorted(self._log_s, log_s.contiguous()).clamp(max=len(self._slope) - 1)
        ]
        for _ in range(3):
            log_s = log_s + (log_a - self.time(log_s.exp()).log()) / slope
        return log_s.exp()

    def pace(self, a: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        """d ln a / d ln sigma: from 1, where noise is Cauchy's, to 2, where it is Gaussian."""
        return 1 / self._pull(a.log(), self.sigma(a).log())


@functools.cache
def alignment(dim: int) -> Alignment:
    """The table for examples of ``dim`` numbers."""
    return Alignment(dim)


def median_length(dim: int) -> float:
    """The median length of a standard normal vector, by halving an interval."""
    low, high = 0.0, math.sqrt(dim) + 1
    half = torch.tensor(dim / 2, dtype=torch.float64)
    for _ in range(60):
        middle = (low + high) / 2
        below = torch.special.gammainc(half, half.new_tensor(middle**2 / 2)) < 0.5
        low, high = (middle, high) if below else (low, middle)
    return (low + high) / 2


def _hermite(x: Tensor, knots: Tensor, values: Tensor, slopes: Tensor) -> Tensor:
    """Cubic interpolation with given slopes; straight on beyond the ends."""
    inside = x.clamp(knots[0], knots[-1])
    at = torch.searchsorted(knots, inside.contiguous()).clamp(1, len(knots) - 1) - 1
    h = knots[at + 1] - knots[at]
    s = (inside - knots[at]) / h
    value = (
        (1 + 2 * s) * (1 - s) ** 2 * values[at]
        + s * (1 - s) ** 2 * h * slopes[at]
        + s**2 * (3 - 2 * s) * values[at + 1]
        + s**2 * (s - 1) * h * slopes[at + 1]
    )
    outside = torch.where(x < knots[0], slopes[0], slopes[-1])
    return value + (x - inside) * outside
