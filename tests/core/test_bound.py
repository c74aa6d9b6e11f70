"""The bound against closed forms: a Gaussian's own code length, and published formulas."""

from __future__ import annotations

import math

import pytest
import torch

from sfumato.core.bound import bits, cost, prior_cost
from sfumato.core.denoiser import Belief
from sfumato.core.process import Cosine, LinearBetas, Process
from sfumato.core.rng import Rng

MEAN, STD = 0.1, 0.3


def gaussian(process):
    """The exact denoiser of numbers distributed as N(MEAN, STD^2)."""

    def denoise(x, t):
        a, s = process.coefficients(t, x)
        return Belief(MEAN + a * STD**2 / (a**2 * STD**2 + s**2) * (x - a * MEAN))

    return denoise


@pytest.mark.parametrize("schedule", [LinearBetas(400, first=2.5e-4, last=5e-2), Cosine(400)])
def test_an_exact_denoiser_pays_little_more_than_the_entropy(schedule):
    process, dice = Process(schedule), torch.Generator().manual_seed(0)
    grey = ((MEAN + STD * torch.randn(2, 3, 40, 50, generator=dice)).clamp(-1, 1) * 127.5).round() / 127.5
    times = schedule.grid(400, "leading")
    paid = sum(bits(gaussian(process), process, grey, times, Rng.sampling(0, 2), "large")).mean().item()
    least = math.log2(STD * math.sqrt(2 * math.pi * math.e)) - math.log2(2 / 255)
    assert least - 0.02 < paid < least + 0.12
    few = sum(
        bits(gaussian(process), process, grey, schedule.grid(10, "leading"), Rng.sampling(0, 2), "large")
    )
    assert few.mean() > paid + 0.1, "a coarser model must cost more"


def test_a_step_is_the_divergence_of_two_gaussians():
    process = Process(LinearBetas())
    x0, x, guess, v = torch.randn(4, 2, 2, 3, 5).clamp(-1, 1)
    t = torch.tensor([0.5, 0.031], dtype=torch.float64)
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    kept = (1 - beta).cumprod(0)
    k = (t * 1000).round().long() - 1
    bar, before, b = (z[:, None, None, None] for z in (kept[k], kept[k - 1], beta[k]))
    posterior = b * (1 - before) / (1 - bar)

    def mean(data):
        return before.sqrt() * b / (1 - bar) * data + (1 - b).sqrt() * (1 - before) / (1 - bar) * x

    share = (v + 1) / 2
    for variance, model in (
        ("small", posterior.expand_as(x)),
        ("learned", (share * b.log() + (1 - share) * posterior.log()).exp()),
    ):
        expected = torch.distributions.kl_divergence(
            torch.distributions.Normal(mean(x0), posterior.sqrt().expand_as(x)),
            torch.distributions.Normal(mean(guess), model.sqrt()),
        )
        told = cost(process, x0, x, t, t - 1e-3, Belief(guess, v), variance)
        assert torch.allclose(told.double(), expected.flatten(1).mean(1) / math.log(2), rtol=1e-3), variance


def test_the_last_step_counts_grey_levels():
    """A sharp and right belief costs nothing; the tails belong to black and white."""
    process, t = Process(LinearBetas()), torch.tensor([1e-3], dtype=torch.float64)
    x0 = torch.tensor([[[[-1.0, 1.0, 31 / 127.5]]]])
    paid = cost(process, x0, x0, t, torch.zeros_like(t), Belief(x0), "large").item()
    half = -math.log2(math.erf(1 / 255 / 0.01 / math.sqrt(2)))
    tail = -math.log2(0.5 + 0.5 * math.erf(1 / 255 / 0.01 / math.sqrt(2)))
    assert paid == pytest.approx((2 * tail + half) / 3, rel=1e-3)


def test_the_prior_costs_nothing_where_no_data_is_left():
    t = torch.ones(3, dtype=torch.float64)
    x0 = torch.rand(3, 1, 4, 5) * 2 - 1
    assert prior_cost(Process(LinearBetas(zero_snr=True)), x0, t).max() < 1e-6
    assert 0 < prior_cost(Process(LinearBetas()), x0, t).max() < 1e-4
