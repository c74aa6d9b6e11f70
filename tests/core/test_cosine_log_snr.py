"""The cosine in continuous time against its formulas: levels, posterior, and back from a level to its
time."""

from __future__ import annotations

import math

import pytest
import torch

from sfumato.core.process import CosineLogSNR, Process
from sfumato.core.rng import Rng

TIMES = torch.tensor([0.02, 0.3, 0.5, 0.77, 0.99], dtype=torch.float64)


def log_snr(t: torch.Tensor) -> torch.Tensor:
    """-ln(cos(pi/2 (t + .008) / 1.008)^-2 - 1)."""
    return -(((t + 0.008) / 1.008 * math.pi / 2).cos() ** -2 - 1).log()


def test_levels_are_those_of_the_log_snr():
    schedule = CosineLogSNR()
    told = log_snr(TIMES)
    assert torch.allclose(schedule.alpha(TIMES), torch.sigmoid(told).sqrt(), atol=1e-12)
    assert torch.allclose(schedule.sigma(TIMES), torch.sigmoid(-told).sqrt(), atol=1e-12)
    ends = torch.tensor([0.0, 1.0])
    assert schedule.alpha(ends).tolist() == pytest.approx([1.0, 0.0], abs=1e-12)
    assert schedule.sigma(ends).tolist() == pytest.approx([0.0, 1.0], abs=1e-12)


def test_a_shift_moves_the_log_snr():
    shifted = CosineLogSNR(shift=-1.5)
    told = 2 * (shifted.alpha(TIMES) / shifted.sigma(TIMES)).log()
    assert torch.allclose(told, log_snr(TIMES) - 1.5, atol=1e-9)


@pytest.mark.parametrize("shift", [0.0, -2.0])
def test_a_ratio_leads_back_to_its_time(shift):
    schedule = CosineLogSNR(shift=shift)
    ratio = schedule.sigma(TIMES) / schedule.alpha(TIMES)
    assert torch.allclose(schedule.when(ratio), TIMES, atol=1e-10)


def test_steps_have_the_posteriors_mean_and_variance():
    """With c = -expm1(l_t - l_s): mean a_s (x (1 - c) / a_t + c x0), variance s_s^2 c."""
    process = Process(CosineLogSNR())
    t, s = TIMES[3:4], TIMES[1:2]
    now, then = process.levels(torch.cat([t, s]))
    c = -torch.expm1(log_snr(t) - log_snr(s))
    small, _ = process.spread(now, then)
    assert small**2 == pytest.approx(float(then.sigma**2 * c), rel=1e-9)
    x, x0 = torch.randn(2, 3, 4, 5, dtype=torch.float64), torch.randn(2, 3, 4, 5, dtype=torch.float64)
    mean = then.alpha * (x * (1 - c) / now.alpha + c * x0)
    assert torch.allclose(process.step(x, x0, now, then, small), mean, atol=1e-9)


def test_grids_fall_to_nothing_but_data_and_training_avoids_both_ends():
    schedule = CosineLogSNR(shift=-1.0)
    for spacing in ("linspace", "karras"):
        grid = schedule.grid(7, spacing)
        assert len(grid) == 8
        assert grid[-1] == 0
        assert (grid.diff() < 0).all()
    drawn = schedule.times(Rng.sampling(0, 500))
    assert 0 < drawn.min() < drawn.max() <= 1
    assert schedule.sigma(drawn).min() > 0
