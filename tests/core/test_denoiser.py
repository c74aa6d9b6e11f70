"""Parametrisations are the same denoiser in other words."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sfumato.core.denoiser import Denoiser
from sfumato.core.process import Karras, LinearBetas, Process, ScaledLinear, Straight
from sfumato.core.rng import Rng
from sfumato.nn.condition import Condition

SCHEDULES = [LinearBetas(), ScaledLinear(), Karras(), Straight()]
PREDICTS = ["x0", "eps", "v", "flow", "edm"]


class Constant(nn.Module):
    """A network that gives the answer it is set to."""

    def __init__(self) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        self.answer = torch.zeros(1)

    def forward(self, x, clock, cond):
        return self.answer.expand_as(x) + 0 * self.anchor


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("predicts", PREDICTS)
def test_the_right_answer_gives_the_clean_data(schedule, predicts):
    process = Process(schedule)
    x0 = torch.randn(4, 2, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    n = torch.randn(4, 2, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    t = torch.tensor([0.05, 0.3, 0.7, 0.99], dtype=torch.float64)
    alpha, sigma = process.coefficients(t, x0)
    denoiser = Denoiser(Constant(), process, predicts, data_std=0.7)
    x = alpha * x0 + sigma * n
    skip, out, _ = denoiser.scales(alpha, sigma)
    denoiser.network.answer = (x0 - skip * x) / out
    assert torch.allclose(denoiser(x, t, Condition()).x0, x0, atol=1e-8)
    classic = {"x0": x0, "eps": n, "flow": n - x0}
    if predicts in classic:
        assert torch.allclose(denoiser.network.answer, classic[predicts], atol=1e-8)
    if predicts == "v" and schedule in SCHEDULES[:2]:
        assert torch.allclose(denoiser.network.answer, alpha * n - sigma * x0, atol=1e-8)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("predicts", PREDICTS)
def test_the_loss_vanishes_for_the_right_answer_alone(schedule, predicts):
    process = Process(schedule)
    x0 = torch.randn(3, 1, 4, 6, dtype=torch.float64)
    t = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    n = process.kernel.draw(x0, t, Rng.sampling(7, 3))
    alpha, sigma = process.coefficients(t, x0)
    denoiser = Denoiser(Constant(), process, predicts)
    skip, out, _ = denoiser.scales(alpha, sigma)
    denoiser.network.answer = right = (x0 - skip * (alpha * x0 + sigma * n)) / out
    assert denoiser.loss(x0, t, Condition(), Rng.sampling(7, 3)).item() < 1e-16
    denoiser.network.answer = right + 0.5
    assert denoiser.loss(x0, t, Condition(), Rng.sampling(7, 3)).item() == pytest.approx(0.25)


@pytest.mark.parametrize("sigma", [0.01, 0.5, 3.0, 60.0])
def test_edm_asks_the_network_for_unit_variance(sigma):
    """Karras et al. 2022, appendix B.6: input and target have variance 1 at every noise level."""
    denoiser = Denoiser(Constant(), Process(Karras()), "edm", data_std=0.5)
    generator = torch.Generator().manual_seed(0)
    x0 = 0.5 * torch.randn(200_000, dtype=torch.float64, generator=generator)
    x = x0 + sigma * torch.randn(200_000, dtype=torch.float64, generator=generator)
    skip, out, into = denoiser.scales(torch.ones(1).double(), torch.full((1,), sigma).double())
    assert (into * x).var().item() == pytest.approx(1, abs=0.02)
    assert ((x0 - skip * x) / out).var().item() == pytest.approx(1, abs=0.02)


def test_learned_variance_takes_half_of_the_answer():
    class Two(Constant):
        def forward(self, x, clock, cond):
            return torch.cat([x, torch.full_like(x, 0.25)], 1)

    denoiser = Denoiser(Two(), Process(LinearBetas()), "eps", learned_variance=True)
    belief = denoiser(torch.zeros(2, 3, 4, 5), torch.full((2,), 0.5, dtype=torch.float64), Condition())
    assert belief.x0.shape == (2, 3, 4, 5)
    assert belief.variance is not None
    assert bool((belief.variance == 0.25).all())
