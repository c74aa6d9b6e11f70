"""Schedules against published constants and against each other."""

from __future__ import annotations

import math

import pytest
import torch

from sfumato.core.process import Cosine, Gamma, Karras, LinearBetas, Process, ScaledLinear, Straight
from sfumato.core.rng import Rng

ONE = torch.ones(1, dtype=torch.float64)
DISCRETE = [LinearBetas(), ScaledLinear(), Cosine(), Gamma(1000)]
ALL = [*DISCRETE, Karras(), Straight()]


@pytest.mark.parametrize(
    ("schedule", "kept", "least", "most"),
    [  # alpha-bar at t = 1, smallest and largest sigma / alpha, as published codes have them
        (LinearBetas(), 4.036e-5, 0.0100, 157.4),
        (ScaledLinear(), 4.660e-3, 0.0292, 14.615),
        (Cosine(), 2.43e-9, 0.0064, 2.03e4),
        (ScaledLinear(first=0.0015, last=0.0195), 1.42e-4, 0.0388, 83.8),
    ],
)
def test_discrete_schedules_have_the_published_constants(schedule, kept, least, most):
    first = ONE / 1000
    assert (schedule.alpha(ONE) ** 2).item() == pytest.approx(kept, rel=5e-3)
    assert (schedule.sigma(first) / schedule.alpha(first)).item() == pytest.approx(least, rel=5e-3)
    assert (schedule.sigma(ONE) / schedule.alpha(ONE)).item() == pytest.approx(most, rel=5e-3)


@pytest.mark.parametrize("schedule", DISCRETE)
def test_discrete_schedules_keep_the_variance(schedule):
    t = torch.linspace(0, 1, 777, dtype=torch.float64)
    assert torch.allclose(schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2, torch.ones_like(t), atol=1e-12)


def test_times_between_steps_tell_how_much_data_is_left():
    schedule, rng = Gamma(steps=10, first=0.01, last=0.5), Rng.training(0, 0, range(3000))
    kept = (1 - schedule.betas()).cumprod(0)
    edges = torch.cat([ONE, kept]).sqrt()
    root = schedule.alpha(schedule.times(rng))
    assert (schedule.sigma(schedule.times(rng)) > 0).all()
    assert torch.allclose(
        schedule.clock(schedule.times(Rng([3]))), 1000 * schedule.alpha(schedule.times(Rng([3])))
    )
    place = torch.searchsorted(-edges, -root)  # the step after which each lies
    counts = torch.bincount(place, minlength=11)[1:]
    assert counts.sum() == 3000
    assert (counts - 300).abs().max() < 4 * 300**0.5, "steps are equally likely"
    within = (edges[place - 1] - root) / (edges[place - 1] - edges[place])
    assert abs(within.mean().item() - 0.5) < 0.03, "and uniform between two"
    assert abs(within.std().item() - 12**-0.5) < 0.02


def test_zero_terminal_snr_leaves_no_data_and_keeps_the_first_step():
    plain, repaired = ScaledLinear(), ScaledLinear(zero_snr=True)
    assert repaired.alpha(ONE).item() == 0
    assert repaired.alpha(ONE / 1000).item() == pytest.approx(plain.alpha(ONE / 1000).item(), rel=1e-9)


@pytest.mark.parametrize("schedule", ALL)
def test_when_undoes_the_ratio(schedule):
    t = torch.tensor([0.013, 0.25, 0.5, 0.777, 0.95], dtype=torch.float64)
    assert torch.allclose(schedule.when(schedule.sigma(t) / schedule.alpha(t)), t, atol=1e-9)


@pytest.mark.parametrize("schedule", ALL)
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace", "karras"])
@pytest.mark.parametrize("steps", [1, 7, 50])
def test_grids_fall_to_zero(schedule, spacing, steps):
    grid = schedule.grid(steps, spacing)
    assert len(grid) == steps + 1
    assert grid[-1] == 0
    assert bool((grid.diff() < 0).all())
    assert 0 < grid[0] <= 1


def test_the_karras_grid_is_the_papers():
    schedule, steps = Karras(), 18
    ramp = torch.arange(steps, dtype=torch.float64) / (steps - 1)
    paper = (80 ** (1 / 7) + ramp * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    assert torch.allclose(schedule.sigma(schedule.grid(steps, "karras"))[:-1], paper, rtol=1e-12)


@pytest.mark.parametrize("schedule", ALL)
def test_training_times_never_lack_noise(schedule):
    t = schedule.times(Rng.training(3, 5, range(4000)))
    assert bool((schedule.sigma(t) > 0).all())
    assert bool((t <= 1).all())


def test_edms_training_noise_is_log_normal():
    schedule = Karras()
    logs = schedule.sigma(schedule.times(Rng.training(0, 0, range(20_000)))).log()
    assert logs.mean().item() == pytest.approx(-1.2, abs=0.03)
    assert logs.std().item() == pytest.approx(1.2, abs=0.03)


def test_noise_of_an_example_does_not_depend_on_its_neighbours():
    process, x = Process(Straight()), torch.zeros(5, 2, 3, 7)
    t = torch.full((5,), 0.3, dtype=torch.float64)
    whole = process.noise(x, t, Rng.sampling(40, 5))
    alone = process.noise(x[3:4], t[3:4], Rng.sampling(43, 1))
    assert torch.equal(whole[3:4], alone)


def test_steps_agree_with_the_posterior_of_the_paper():
    """Ho et al. 2020, eq. 7, written with their symbols."""
    process = Process(LinearBetas())
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    bar = (1 - beta).cumprod(0)
    k = 437
    x, x0 = torch.randn(2, 3, 5, 7, dtype=torch.float64).unbind()
    mean = (bar[k - 1].sqrt() * beta[k] * x0 + (1 - beta[k]).sqrt() * (1 - bar[k - 1]) * x) / (1 - bar[k])
    t, s = process.levels(torch.tensor([k + 1, k], dtype=torch.float64) / 1000)
    small, large = process.spread(t, s)
    assert torch.allclose(process.step(x, x0, t, s, small), mean, atol=1e-12)
    assert large**2 == pytest.approx(beta[k].item(), rel=1e-9)
    assert small**2 == pytest.approx((beta[k] * (1 - bar[k - 1]) / (1 - bar[k])).item(), rel=1e-9)


def test_the_prior_is_as_wide_as_x_at_time_one():
    like = torch.empty(2, 1, 40, 50)
    assert Process(LinearBetas()).prior(like, Rng.sampling(0, 2)).std().item() == pytest.approx(1, abs=0.03)
    wide = Process(Karras()).prior(like, Rng.sampling(0, 2)).std().item()
    assert wide == pytest.approx(math.hypot(80, 1), rel=0.03)
