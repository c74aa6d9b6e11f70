"""Solvers against closed forms: Gaussians and exact mixtures."""

from __future__ import annotations

import functools
import math

import pytest
import torch

from sfumato.core import adaptive, solvers
from sfumato.core.adaptive import rk45
from sfumato.core.denoiser import Belief
from sfumato.core.process import Cosine, Karras, LinearBetas, Process, ScaledLinear, Straight
from sfumato.core.rng import Rng
from sfumato.core.steps import Denoise
from sfumato.data.toys import GaussianMixture
from sfumato.errors import UsageError

MIXTURE = GaussianMixture.isotropic(
    [[-1.0, -0.5], [0.8, 0.9], [0.2, -1.1], [1.2, -0.3]], 0.25, [0.1, 0.4, 0.3, 0.2]
)


class OneStream(Rng):
    """Many chains from one stream, for speed: statistics need no stream a chain."""

    def __init__(self, count: int):
        super().__init__([0])
        self.count, self.generator = count, torch.Generator().manual_seed(0)

    def normal(self, *shape: int):
        return torch.randn(self.count, *shape, generator=self.generator)


def exact(data: GaussianMixture, process: Process) -> Denoise:
    def denoise(x, t):
        return Belief(data.denoise(x, process.schedule.alpha(t), process.schedule.sigma(t)))

    return denoise


def finish(steps):
    *_, last = steps
    return last.x


def gaussian(process: Process) -> Denoise:
    """The exact denoiser of data distributed as N(.5, .3^2)."""

    def denoise(x, t):
        a, s = process.levels(t[:1])[0]
        return Belief(0.5 + a * 0.09 / (a**2 * 0.09 + s**2) * (x - a * 0.5))

    return denoise


@pytest.mark.parametrize("variance", ["small", "large"])
def test_ancestral_sampling_of_a_gaussian(variance):
    process, rng = Process(LinearBetas()), OneStream(60_000)
    times = process.schedule.grid(1000, "leading")
    x = finish(
        solvers.ancestral(gaussian(process), process, rng.normal(1), times, rng=rng, variance=variance)
    )
    assert abs(x.mean().item() - 0.5) < 0.005
    assert abs(x.std().item() - 0.3) < 0.006


def test_the_misprinted_denominator_fails():
    """Control: sqrt(1 - alpha) in place of sqrt(1 - alpha_bar), as one lecture prints algorithm 2."""
    process, rng = Process(LinearBetas()), OneStream(20_000)
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    denoise, x = gaussian(process), rng.normal(1)
    for k in range(999, -1, -1):
        t = torch.full((1,), (k + 1) / 1000, dtype=torch.float64)
        a, s = process.levels(t)[0]
        eps = (x - a * denoise(x, t).x0) / s
        x = (x - math.sqrt(beta[k]) * eps) / math.sqrt(1 - beta[k])
        x = x + (math.sqrt(beta[k]) * rng.normal(1) if k else 0)
    assert x.std().item() < 0.2


@functools.cache
def _solve(name: str, steps: int):
    process = Process(Karras(sigma_min=0.02, sigma_max=20.0))
    start = 20 * torch.randn(64, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    times = process.schedule.grid(steps, "karras")[:-1]  # the last stretch, to 0, is the same for all
    return finish(solvers.SOLVERS[name](exact(MIXTURE, process), process, start, times))


@pytest.mark.parametrize(
    ("solver", "order", "tolerance"),
    [("ddim", 1, 0.15), ("euler", 1, 0.15), ("heun", 2, 0.25), ("dpmpp_2m", 2, 0.25)],
)
def test_order_of_convergence(solver, order, tolerance):
    """The median error on an exact mixture shrinks as steps to the power of the order."""
    truth = _solve("heun", 1025)
    errors = [(_solve(solver, n) - truth).norm(dim=1).median().item() for n in (65, 257)]
    assert math.log(errors[0] / errors[1], 4) == pytest.approx(order, abs=tolerance)


def test_variance_preserving_and_exploding_paths_are_one():
    """The same solver in x, and in x / alpha with sigma / alpha, walks the same way."""
    preserving = Process(ScaledLinear())
    times = preserving.schedule.grid(40, "trailing")
    start = torch.randn(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    exploding = Process(Karras(sigma_max=20.0))
    levels = preserving.levels(times)
    ratios = torch.tensor([level.sigma / level.alpha for level in levels], dtype=torch.float64)
    for name in ("ddim", "heun", "dpmpp_2m", "plms"):
        one = finish(solvers.SOLVERS[name](exact(MIXTURE, preserving), preserving, start, times))
        other = finish(
            solvers.SOLVERS[name](
                exact(MIXTURE, exploding), exploding, start / levels[0].alpha, exploding.schedule.when(ratios)
            )
        )
        assert torch.allclose(one, other, atol=1e-10), name


@pytest.mark.parametrize("schedule", [LinearBetas(), Cosine(), Straight(), Karras()])
def test_euler_is_ddim(schedule):
    process = Process(schedule)
    times = torch.linspace(0.97, 0, 21, dtype=torch.float64)
    start = torch.randn(20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    a, b = (
        finish(solver(exact(MIXTURE, process), process, start, times))
        for solver in (solvers.ddim, solvers.euler)
    )
    assert torch.allclose(a, b, atol=1e-10)


@pytest.mark.parametrize("name", list(solvers.SOLVERS))
@pytest.mark.parametrize("schedule", [LinearBetas(), Karras(sigma_max=20.0), Straight()])
def test_every_solver_finds_the_masses_of_a_mixture(name, schedule):
    process, rng = Process(schedule), OneStream(4000)
    x = process.prior(torch.empty(4000, 2), rng)
    times = schedule.grid(80, "karras")
    x = finish(solvers.SOLVERS[name](exact(MIXTURE, process), process, x, times, rng=rng))
    nearest = torch.cdist(x.double(), MIXTURE.means).argmin(1)
    share = torch.bincount(nearest, minlength=4) / len(x)
    assert torch.allclose(share.double(), MIXTURE.weights, atol=0.04)


def test_full_noise_ddim_is_ancestral():
    process = Process(LinearBetas(steps=50))
    times, start = process.schedule.grid(50, "leading"), torch.randn(6, 2)
    a, b = (
        finish(solver(exact(MIXTURE, process), process, start, times, rng=Rng.sampling(9, 6)))
        for solver in (solvers.named("ddim", eta=1.0), solvers.ancestral)
    )
    assert torch.allclose(a, b, atol=1e-5)


def test_learned_variance_lies_between_the_bounds():
    process = Process(LinearBetas(steps=20))
    times, start = process.schedule.grid(20, "leading"), torch.randn(6, 2)

    def told(where):
        plain = exact(MIXTURE, process)
        return lambda x, t: Belief(plain(x, t).x0, torch.full_like(x, where))

    for where, bound in ((-1.0, "small"), (1.0, "large")):
        learned = solvers.ancestral(
            told(where), process, start, times, rng=Rng.sampling(1, 6), variance="learned"
        )
        fixed = solvers.ancestral(told(where), process, start, times, rng=Rng.sampling(1, 6), variance=bound)
        assert torch.allclose(finish(learned), finish(fixed), atol=1e-4)


@pytest.mark.parametrize("solver", [solvers.ddim, solvers.rk45])
def test_projection_is_enforced_after_every_step(solver):
    process = Process(Straight())
    times = process.schedule.grid(5, "linspace")

    def project(x, t):
        return torch.cat([x[:, :1], torch.zeros_like(x[:, 1:])], 1)

    for step in solver(exact(MIXTURE, process), process, torch.randn(3, 2), times, project=project):
        assert bool((step.x[:, 1] == 0).all())


def test_a_consumer_keeps_its_gradients():
    process = Process(Straight())
    times = process.schedule.grid(3, "linspace")
    for _ in solvers.euler(exact(MIXTURE, process), process, torch.randn(3, 2), times):
        assert torch.is_grad_enabled()


def test_wrong_names_and_settings_are_explained():
    with pytest.raises(UsageError, match="did you mean 'dpmpp_2m'"):
        solvers.named("dpmpp2m")
    with pytest.raises(UsageError, match="eta is a setting of ddim"):
        solvers.named("heun", eta=0.5)
    process = Process(LinearBetas(steps=10))
    with pytest.raises(UsageError, match="adds noise"):
        finish(
            solvers.ancestral(
                exact(MIXTURE, process), process, torch.randn(1, 2), process.schedule.grid(5, "leading")
            )
        )
    with pytest.raises(UsageError, match="has not learned a variance"):
        finish(
            solvers.ancestral(
                exact(MIXTURE, process),
                process,
                torch.randn(1, 2),
                process.schedule.grid(5, "leading"),
                rng=Rng.sampling(0, 1),
                variance="learned",
            )
        )


@pytest.mark.parametrize("schedule", [LinearBetas(), Karras(sigma_max=20.0)])
def test_the_adaptive_solver_is_as_exact_as_it_is_told_to_be(schedule):
    process = Process(schedule)
    start = process.prior(torch.empty(64, 2), OneStream(64)).double()
    times = schedule.grid(20, "karras")[:-1]
    truth = finish(solvers.heun(exact(MIXTURE, process), process, start, schedule.grid(1000, "karras")[:-1]))
    asked = 0

    def counted(x, t):
        nonlocal asked
        asked += 1
        return exact(MIXTURE, process)(x, t)

    errors, costs = [], []
    for tolerance in (1e-3, 1e-4, 1e-6):
        asked = 0
        x = finish(rk45(counted, process, start, times, tolerance=tolerance))
        errors.append((x - truth).norm(dim=1).median().item())
        costs.append(asked)
    assert errors[0] < 1e-2
    assert errors[1] < 1e-3
    assert errors[2] < 2e-5
    assert costs == sorted(costs)
    assert costs[-1] < 1500


def test_an_adaptive_step_does_not_depend_on_the_neighbours():
    process = Process(LinearBetas())
    start, times = process.prior(torch.empty(5, 2), OneStream(5)), process.schedule.grid(10, "karras")
    together = finish(rk45(exact(MIXTURE, process), process, start, times))
    for i in range(5):
        alone = finish(rk45(exact(MIXTURE, process), process, start[i : i + 1], times))
        assert torch.allclose(alone[0], together[i], atol=1e-5)


def test_a_belief_that_never_settles_is_refused(monkeypatch):
    monkeypatch.setattr(adaptive, "MOST_TRIES", 50)
    process, times = Process(LinearBetas()), torch.tensor([0.9, 0.5, 0.0])

    def wild(x, t):
        return Belief(9 * torch.randn_like(x))

    with pytest.raises(UsageError, match="allow a larger tolerance"):
        finish(rk45(wild, process, torch.randn(2, 2), times, tolerance=1e-7))


def test_encoding_leads_back_with_an_error_of_first_order():
    process = Process(LinearBetas())
    x = MIXTURE.sample(200, torch.Generator().manual_seed(0))
    errors = []
    for steps in (50, 100, 200):
        times = process.schedule.grid(steps, "trailing")
        latent = finish(solvers.encode(exact(MIXTURE, process), process, x, times))
        back = finish(solvers.ddim(exact(MIXTURE, process), process, latent, times))
        errors.append((back - x).norm(dim=1).mean().item())
    assert errors[1] / errors[0] == pytest.approx(0.5, abs=0.15)
    assert errors[2] / errors[1] == pytest.approx(0.5, abs=0.15)
    assert abs(latent.std().item() - 1) < 0.05, "data was encoded as something that is not noise"


def test_churn_keeps_the_distribution():
    """Going back to more noise and down again changes no marginal; without the fresh noise it would."""
    process, rng = Process(Karras(sigma_min=0.01, sigma_max=20.0)), OneStream(4000)
    times = process.schedule.grid(30, "karras")
    start = process.prior(torch.empty(4000, 2), rng)
    churn = solvers.Churn(amount=30.0, low=0.01, high=20.0, extra=1.0)
    x = finish(solvers.heun(exact(MIXTURE, process), process, start, times, rng=rng, churn=churn))
    still = finish(solvers.heun(exact(MIXTURE, process), process, start, times))
    assert (x - still).abs().mean() > 0.3
    share = torch.bincount(torch.cdist(x.double(), MIXTURE.means).argmin(1), minlength=4) / 4000
    assert torch.allclose(share.double(), MIXTURE.weights, atol=0.03)
    assert torch.allclose(torch.cov(x.T.double()), MIXTURE.covariance, atol=0.05)


def test_the_stochastic_multistep_solver_keeps_a_gaussian():
    process, rng = Process(LinearBetas()), OneStream(30_000)
    times = process.schedule.grid(120, "karras")
    x = finish(solvers.named("dpmpp_sde")(gaussian(process), process, rng.normal(1), times, rng=rng))
    assert abs(x.mean().item() - 0.5) < 0.01
    assert abs(x.std().item() - 0.3) < 0.01
