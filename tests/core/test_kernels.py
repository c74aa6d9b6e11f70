"""Kernels against scipy's densities, quantiles and Bessel functions, and against the equations they solve."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import special, stats

from sfumato import config
from sfumato.core import radial
from sfumato.core.kernels import Gaussian, Kernel, StudentT, Yukawa
from sfumato.core.process import Karras, Process, Straight
from sfumato.core.rng import Rng
from sfumato.errors import UsageError

KERNELS = [Gaussian(), StudentT(1.0), StudentT(64.0), Yukawa(10.0), Yukawa(0.2, "field")]


class Streams(Rng):
    """Many draws from one stream, for speed: statistics need no stream a draw."""

    def __init__(self, count: int, seed: int = 0):
        super().__init__([seed])
        self.count = count

    def normal(self, *shape: int):
        return torch.randn(self.count, *shape, generator=self._streams[0])

    def uniform(self):
        return torch.rand(self.count, generator=self._streams[0])

    def chi_square(self, freedom: float):
        half = torch.full((self.count,), freedom / 2)
        return 2 * torch._standard_gamma(half, generator=self._streams[0])


def noise(kernel: Kernel, sigma: float, size: int, count: int, seed: int = 0) -> torch.Tensor:
    """sigma n."""
    like, at = torch.empty(count, size, dtype=torch.float64), torch.full((count,), sigma, dtype=torch.float64)
    return sigma * kernel.draw(like, at, Streams(count, seed))


def density(kernel: Kernel, length: torch.Tensor, sigma: float, size: int) -> torch.Tensor:
    at = torch.full((1, 1), sigma, dtype=torch.float64)
    return kernel.log_density(length[None] ** 2, at, size)[0].exp()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("size", [1, 3])
def test_densities_integrate_to_one(kernel, size):
    """Over the radius, on a logarithmic grid."""
    logs = torch.linspace(-20, 30, 8001, dtype=torch.float64)
    r = logs.exp()
    sphere = 2 * math.pi ** (size / 2) / math.gamma(size / 2)
    total = torch.trapezoid(density(kernel, r, 1.3, size) * sphere * r**size, logs)
    assert total.item() == pytest.approx(1, abs=2e-6)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("size", [1, 2, 5])
def test_draws_follow_the_density(kernel, size):
    """Shares of draws within radii, against the integral of the density."""
    sigma, count = 0.7, 20_000
    r = noise(kernel, sigma, size, count).norm(dim=1)
    logs = torch.linspace(-14, 14, 4001, dtype=torch.float64)
    sphere = 2 * math.pi ** (size / 2) / math.gamma(size / 2)
    step = density(kernel, logs.exp(), sigma, size) * sphere * logs.exp() ** size
    below = torch.cumulative_trapezoid(step, logs)
    for share in (0.05, 0.25, 0.5, 0.75, 0.95):
        edge = logs[1:][torch.searchsorted(below, share)].exp()
        assert (r < edge).double().mean().item() == pytest.approx(share, abs=0.015)


@pytest.mark.parametrize("kernel", KERNELS)
def test_draws_of_an_example_do_not_depend_on_its_neighbours(kernel):
    process, like = Process(Karras(), kernel), torch.zeros(4, 2, 3, 5)
    t = torch.full((4,), 0.4, dtype=torch.float64)
    whole, alone = (process.draw(like[:n], t[:n], Rng.sampling(seed, n)) for seed, n in ((9, 4), (11, 1)))
    assert torch.equal(whole[2:3], alone)


@pytest.mark.parametrize("kernel", KERNELS)
def test_kernels_go_through_json(kernel):
    process = Process(Straight(), kernel)
    assert config.from_dict(Process, config.to_dict(process)) == process


# --- Student's t: PFGM and PFGM++ -----------------------------------------------------------------------


def test_student_t_is_scipys():
    x = torch.tensor([0.1, 0.7, 4.0], dtype=torch.float64)
    ours = density(StudentT(3.0), x, 0.6, 1)
    np.testing.assert_allclose(ours, stats.t(3, scale=0.6).pdf(x), rtol=1e-12)
    many = stats.multivariate_t(shape=0.36 * np.eye(4), df=5).pdf([0.5, 0.1, -0.2, 0.7])
    length = torch.tensor([math.sqrt(0.25 + 0.01 + 0.04 + 0.49)], dtype=torch.float64)
    assert density(StudentT(5.0), length, 0.6, 4).item() == pytest.approx(many, rel=1e-12)


def test_student_t_is_the_papers_law_of_radii():
    """R = r sqrt(B / (1 - B)) with B of the beta law (N / 2, D / 2) and r = sigma sqrt(D)."""
    size, dim, sigma = 6, 16.0, 0.8
    radius = noise(StudentT(dim), sigma, size, 20_000).norm(dim=1)
    share = radius**2 / (radius**2 + dim * sigma**2)
    assert stats.kstest(share.numpy(), stats.beta(size / 2, dim / 2).cdf).pvalue > 0.01


def test_without_end_many_dimensions_give_the_normal_law_and_few_do_not():
    def distance(dim: float) -> float:
        square = noise(StudentT(dim), 1.0, 64, 20_000).square().sum(1)
        return stats.kstest(square.numpy(), stats.chi2(64).cdf).statistic

    assert distance(2.0**15) < 0.02
    assert distance(128.0) > 0.04, "control"


# --- Yukawa ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [0.5, 1.0, 1.5, 2.0, 16.0, 32.5])
def test_bessel_functions_are_scipys(order):
    z = torch.logspace(-2, 3, 30, dtype=torch.float64)
    np.testing.assert_allclose(
        radial.log_scaled_bessel_k(order, z), np.log(special.kve(order, z.numpy())), rtol=1e-10, atol=1e-10
    )
    ratio = special.kve(order + 1, z.numpy()) / special.kve(order, z.numpy())
    np.testing.assert_allclose(radial.bessel_k_ratio(order, z), ratio, rtol=1e-10)
    assert radial.bessel_k_ratio(-0.5, z).eq(1).all()


@pytest.mark.parametrize("mean", [0.02, 1.0, 300.0])
def test_inverse_gaussian_numbers_follow_scipys_law(mean):
    drawn = Streams(20_000).inverse_gaussian(torch.full((20_000,), mean))
    assert stats.kstest(drawn.numpy(), stats.invgauss(mean).cdf).pvalue > 0.01
    alone, together = (
        Rng.sampling(s, n).inverse_gaussian(torch.full((n,), mean)) for s, n in ((2, 1), (0, 3))
    )
    assert torch.equal(alone[0], together[2])


def test_yukawa_noise_is_normal_inverse_gaussian():
    """scipy's univariate law at the process's own time T: shape m T and scale T, no skew."""
    kernel, sigma = Yukawa(2.0), 0.6
    time = kernel.time(torch.tensor(sigma, dtype=torch.float64), 1).item()
    law = stats.norminvgauss(a=2.0 * time, b=0, scale=time)
    x = torch.tensor([0.01, 0.3, 1.0, 4.0], dtype=torch.float64)
    np.testing.assert_allclose(density(kernel, x, sigma, 1), law.pdf(x.numpy()), rtol=1e-9)
    drawn = noise(kernel, sigma, 1, 20_000)[:, 0]
    shares = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95])
    for share, quantile in zip(shares, law.ppf(shares.numpy()), strict=True):
        assert (drawn < quantile).double().mean().item() == pytest.approx(share.item(), abs=0.015)


@pytest.mark.parametrize("size", [1, 2, 64])
@pytest.mark.parametrize("sigma", [0.01, 0.3, 20.0])
def test_yukawa_is_aligned_with_gaussian_noise_by_its_median(size, sigma):
    kernel = Yukawa(3.0)
    same = torch.tensor(sigma, dtype=torch.float64)
    assert kernel.sigma(kernel.time(same, size), size).item() == pytest.approx(sigma, rel=1e-6)
    middle = radial.median_length(size)
    assert middle == pytest.approx(stats.chi(size).median(), rel=1e-9)
    below = (noise(kernel, sigma, size, 20_000).norm(dim=1) < sigma * middle).double().mean()
    assert below.item() == pytest.approx(0.5, abs=0.015)


def test_the_limits_of_yukawa_are_cauchy_and_gauss():
    light, heavy = Yukawa(1e-3), Yukawa(1e3)
    time = light.time(torch.ones(()), 1).item()
    draws = noise(light, 1.0, 1, 20_000)[:, 0].numpy()
    assert stats.kstest(draws, stats.cauchy(scale=time).cdf).statistic < 0.02
    assert stats.kstest(draws, stats.norm(scale=1).cdf).statistic > 0.05, "control"
    sigma = heavy.sigma(torch.ones(()), 1).item()
    assert sigma == pytest.approx(math.sqrt(1 / 1e3), rel=1e-3), "variance T / m"
    assert (
        stats.kstest(noise(heavy, sigma, 1, 20_000)[:, 0].numpy(), stats.norm(scale=sigma).cdf).statistic
        < 0.02
    )


def test_yukawa_density_is_the_field_of_the_screened_poisson_equation():
    """p e^(-m T) = -phi_T, and phi_TT + lap(phi) = m^2 phi; both hold for any derivative of phi."""
    mass, size, h = 0.8, 3, 5e-4
    kernel = Yukawa(mass)

    def p(x: torch.Tensor, time: float) -> float:
        sigma = kernel.sigma(torch.tensor(time, dtype=torch.float64), size)
        return kernel.log_density((x @ x).view(1, 1), sigma.view(1, 1), size).exp().item() * math.exp(
            -mass * time
        )

    x, time = torch.tensor([0.7, -0.3, 0.5], dtype=torch.float64), 0.9
    axes = torch.eye(3, dtype=torch.float64) * h
    here = p(x, time)
    bend = (p(x, time + h) + p(x, time - h) - 2 * here) / h**2
    bend += sum((p(x + e, time) + p(x - e, time) - 2 * here) / h**2 for e in axes)
    assert abs(bend - mass**2 * here) / (mass**2 * here) < 1e-5


@pytest.mark.parametrize("size", [1, 2, 64])
def test_fixed_ranks_move_as_the_conserving_gauge_says(size):
    """Quantiles of the radius at two times, from the density, against the gain between them."""
    kernel = Yukawa(1.0)
    sphere = math.log(2) + size / 2 * math.log(math.pi) - math.lgamma(size / 2)

    def quantile(sigma: float, share: float) -> float:
        middle = math.log(sigma * radial.median_length(size))
        logs = torch.linspace(middle - 16, middle + 16, 10_001, dtype=torch.float64)
        at = torch.full((1, 1), sigma, dtype=torch.float64)
        log = kernel.log_density((2 * logs).exp()[None], at, size)[0]
        below = torch.cumulative_trapezoid((log + sphere + size * logs).exp(), logs)
        i = int(torch.searchsorted(below, share))
        part = (share - below[i - 1]) / (below[i] - below[i - 1])
        return (logs[i] + part * (logs[i + 1] - logs[i])).item()

    for sigma in (0.05, 0.8, 6.0):
        for share in (0.02, 0.5, 0.97):
            low, high = sigma * math.exp(-0.02), sigma * math.exp(0.02)
            measured = (quantile(high, share) - quantile(low, share)) / 0.04
            square = torch.tensor([[math.exp(2 * quantile(sigma, share))]], dtype=torch.float64)
            gain = kernel.gain(square, torch.full((1, 1), sigma, dtype=torch.float64), size).item()
            assert gain == pytest.approx(measured, abs=3e-3)
            if share == 0.5:
                assert gain == pytest.approx(1, abs=1e-4), "by the alignment"


def test_deaths_are_what_is_lost_of_the_charge():
    """(d/dT + div v) p = (m - lambda) p for the normalised density and v = x / T, by finite differences."""
    mass, size, h = 0.7, 2, 1e-4
    kernel = Yukawa(mass, "field")

    def log_p(r: float, time: float) -> float:
        sigma = kernel.sigma(torch.tensor(time, dtype=torch.float64), size)
        return kernel.log_density(torch.tensor([[r**2]], dtype=torch.float64), sigma.view(1, 1), size).item()

    r, time = 1.1, 0.9
    change = (log_p(r, time + h) - log_p(r, time - h)) / (2 * h)
    flow = r / time * (log_p(r + h, time) - log_p(r - h, time)) / (2 * h) + size / time
    square, sigma = torch.tensor([[r**2]], dtype=torch.float64), kernel.sigma(torch.tensor([[time]]), size)
    a, b = (kernel.sigma(torch.tensor([time + d]).double(), size).item() for d in (-h, h))
    rate = kernel.growth(square, sigma, size).item() * (b - a) / (2 * h)
    assert change + flow == pytest.approx(-rate, rel=3e-4)


def test_moved_noise_keeps_x_and_only_yukawas_moves():
    x0 = torch.randn(3, 2, 4, 5, generator=torch.Generator().manual_seed(0))
    n = torch.randn(3, 2, 4, 5, generator=torch.Generator().manual_seed(1))
    sigma = torch.tensor([0.02, 1.0, 30.0], dtype=torch.float64)
    wide = sigma.view(3, 1, 1, 1).float()
    for kernel in KERNELS:
        start, rest = kernel.moved(x0, n, sigma)
        assert torch.allclose(start + wide * rest, x0 + wide * n, rtol=1e-5, atol=1e-4)
        assert torch.equal(start, x0) != isinstance(kernel, Yukawa)


def test_impossible_kernels_and_noise_on_the_way_are_refused():
    with pytest.raises(UsageError, match="positive, finite number of added dimensions, got 0"):
        StudentT(0.0)
    with pytest.raises(UsageError, match="positive, finite mass, got inf"):
        Yukawa(math.inf)
    with pytest.raises(UsageError, match="sums of StudentT noise are no such noise"):
        StudentT(64.0).fresh(torch.zeros(2, 3), Rng.sampling(0, 2))
