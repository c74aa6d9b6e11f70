"""Exact denoisers of point sets: limits between processes, masses that flows keep, births that mend them."""

from __future__ import annotations

import math

import pytest
import torch

from sfumato.core import solvers
from sfumato.core.births import branching, systematic
from sfumato.core.charges import Charges
from sfumato.core.denoiser import Belief
from sfumato.core.kernels import Gaussian, StudentT, Yukawa
from sfumato.core.process import Karras, LinearBetas, Process, Straight
from sfumato.core.rng import Rng
from sfumato.data.toys import GaussianMixture
from sfumato.errors import UsageError
from tests.core.test_kernels import Streams

FOUR = torch.tensor([[-1.0, 0.0], [1.0, 0.3], [0.2, -1.1], [0.4, 1.2]], dtype=torch.float64)
SHARES = torch.tensor([0.1, 0.4, 0.3, 0.2], dtype=torch.float64)


def at(sigma: float, process: Process, count: int) -> torch.Tensor:
    return process.schedule.when(torch.full((count,), sigma, dtype=torch.float64))


def masses(x: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    nearest = torch.cdist(x.double(), points).argmin(1)
    return torch.bincount(nearest, minlength=len(points)) / len(x)


def walked(process: Process, points: torch.Tensor, shares: torch.Tensor, x, times, rng=None, births=False):
    solver = branching(solvers.heun) if births else solvers.heun
    *_, last = solver(Charges(points, process, shares), process, x, times, rng=rng)
    return last.x


@pytest.mark.parametrize("schedule", [LinearBetas(), Karras(), Straight()])
def test_gaussian_charges_are_a_mixture_without_spread(schedule):
    process = Process(schedule)
    mixture = GaussianMixture.isotropic(FOUR.tolist(), 0.0, SHARES.tolist())
    x = 2 * torch.randn(30, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    t = torch.linspace(0.2, 0.9, 30, dtype=torch.float64)
    alpha, sigma = process.schedule.alpha(t), process.schedule.sigma(t)
    expected = mixture.denoise(x, alpha, sigma)
    assert torch.allclose(Charges(FOUR, process, SHARES)(x, t).x0, expected, atol=1e-9)


def test_noise_alone_says_nothing_but_the_mean():
    x, t = torch.randn(5, 2, generator=torch.Generator().manual_seed(0)), torch.ones(5, dtype=torch.float64)
    belief = Charges(FOUR, Process(Straight()), SHARES)(x, t).x0
    assert torch.allclose(belief, (SHARES @ FOUR).float().expand(5, 2), atol=1e-4)


def test_the_way_to_diffusion_shortens_with_the_dimensions_added():
    """|x0 of PFGM++ - x0 of diffusion| falls as 1 / D (slope -1), and vanishes in the end."""
    plain = Process(Karras())
    x = 1.5 * torch.randn(400, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    t = at(1.0, plain, 400)
    truth = Charges(FOUR, plain)(x, t).x0

    def error(dim: float) -> float:
        return (Charges(FOUR, Process(Karras(), StudentT(dim)))(x, t).x0 - truth).norm(dim=1).mean().item()

    few, many = error(128.0), error(8192.0)
    assert math.log(many / few) / math.log(8192 / 128) == pytest.approx(-1, abs=0.1)
    assert error(2.0**20) < 1e-5
    assert error(1.0) > 0.05, "control"


def test_the_flow_of_pfgm_is_pfgmpp_with_one_dimension():
    """Xu et al. 2022, eq. 6: dx / dz = E_x / E_z with the field of charges at z = 0, one dimension up."""
    process = Process(Karras(), StudentT(1.0))
    x = 1.5 * torch.randn(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    z = 0.7
    pulls = torch.cat([x[:, None] - FOUR, torch.full((50, 4, 1), z, dtype=torch.float64)], 2)
    field = (SHARES[:, None] * pulls / pulls.norm(dim=2, keepdim=True) ** 3).sum(1)
    ours = (x - Charges(FOUR, process, SHARES)(x, at(z, process, 50)).x0) / z
    assert torch.allclose(ours, field[:, :2] / field[:, 2:], atol=1e-8)


@pytest.mark.parametrize(
    "kernel", [StudentT(2.0), StudentT(8.0), StudentT(64.0), StudentT(2048.0), Gaussian(), Yukawa(10.0)]
)
def test_flows_keep_the_masses_of_the_points(kernel):
    process, count = Process(Karras(sigma_min=0.01, sigma_max=60.0), kernel), 3000
    x = process.draw(torch.empty(count, 2, dtype=torch.float64), torch.ones(count).double(), Streams(count))
    times = process.schedule.grid(16, "karras")
    assert (masses(walked(process, FOUR, SHARES, 60 * x, times), FOUR) - SHARES).abs().max() < 0.02


def yukawa(mass: float, time: float) -> Process:
    far = Yukawa(mass, "field").sigma(torch.tensor(time, dtype=torch.float64), 2).item()
    return Process(Karras(sigma_min=2e-3, sigma_max=far), Yukawa(mass, "field"))


def rings(
    process: Process, points: torch.Tensor, shares: torch.Tensor, count: int, seed: int
) -> torch.Tensor:
    """x at t = 1 from its exact law, each draw in eight directions: few far particles come to weigh much."""
    eighths = count // 8
    angle = torch.arange(8, dtype=torch.float64) * math.pi / 4
    turns = torch.stack([angle.cos(), angle.sin(), -angle.sin(), angle.cos()], 1).view(8, 2, 2)
    like = torch.empty(eighths, 2, dtype=torch.float64)
    n = process.draw(like, torch.ones(eighths, dtype=torch.float64), Streams(eighths, seed))
    places = (torch.arange(eighths, dtype=torch.float64) + 0.5) / eighths
    origin = torch.searchsorted(shares.cumsum(0), places)
    origin = origin[torch.randperm(eighths, generator=torch.Generator().manual_seed(seed))]
    spread = process.schedule.sigma_max * torch.einsum("rij,nj->nri", turns, n)
    return (points[origin][:, None] + spread).flatten(0, 1)


@pytest.mark.parametrize(("mass", "time"), [(0.2, 8.0), (0.1, 8.0), (0.5, 4.0)])
def test_births_mend_the_masses(mass, time):
    """Two charges: total variation of the shares, with the exact law at the start, over two seeds."""
    points = torch.tensor([[-1.0, 0.0], [1.5, 0.5]], dtype=torch.float64)
    shares = torch.tensor([0.3, 0.7], dtype=torch.float64)
    process = yukawa(mass, time)
    times, found = process.schedule.grid(18, "karras"), {True: 0.0, False: 0.0}
    for seed in range(2):
        x = rings(process, points, shares, 4000, seed)
        for births in found:
            end = walked(process, points, shares, x, times, Rng([seed]), births)
            found[births] += 0.5 * (masses(end, points) - shares).abs().sum().item() / 2
    assert found[True] <= 0.03
    assert found[True] <= 0.5 * found[False], found


def test_particles_take_places_by_their_weight():
    weights = torch.tensor([0.5, 0.25, 0.0, 0.25]).repeat_interleave(64) / 64
    heirs = systematic(weights, 0.3)
    assert torch.bincount(heirs // 64, minlength=4).tolist() == [128, 64, 0, 64]
    same = systematic(torch.full((300,), 1 / 300), 0.9)
    assert torch.equal(same, torch.arange(300))


def test_what_cannot_branch_is_told_why():
    process = yukawa(0.2, 8.0)
    times, few = process.schedule.grid(4, "karras"), torch.zeros(3, 2)
    with pytest.raises(UsageError, match="at least 256 particles, got 3"):
        next(branching(solvers.ddim)(Charges(FOUR, process), process, few, times, rng=Rng.sampling(0, 3)))
    many = torch.zeros(256, 2)
    with pytest.raises(UsageError, match="does not say where particles are born"):
        next(branching(solvers.ddim)(lambda x, t: Belief(x), process, many, times, rng=Rng.sampling(0, 256)))
    with pytest.raises(UsageError, match="as many positive weights"):
        Charges(FOUR, process, torch.tensor([1.0, 0.0, 2.0, 1.0]))
