"""Thresholds: whose percentile it is, that nothing inside is moved, and that solvers follow what is kept."""

from __future__ import annotations

import pytest
import torch

from sfumato.core import guidance, solvers
from sfumato.core.denoiser import Belief
from sfumato.core.process import CosineLogSNR, Process
from sfumato.core.thresholding import Dynamic, Free, Static, drawn_in, parsed, thresholded
from sfumato.errors import UsageError

T = torch.full((3,), 0.5, dtype=torch.float64)


def pictures() -> torch.Tensor:
    """One inside [-1, 1], one a little beyond, one far beyond."""
    x = torch.randn(3, 2, 5, 7, generator=torch.Generator().manual_seed(0)).clamp(-2, 2) / 2.01
    return x * torch.tensor([1.0, 1.5, 6.0]).view(3, 1, 1, 1)


def test_every_picture_is_divided_by_its_own_percentile():
    x = pictures()
    out = drawn_in(x, Dynamic(0.9))
    assert torch.equal(out[0], x[0]), "s is never below 1: what is inside stays as it is"
    for i in (1, 2):
        s = max(1.0, float(torch.quantile(x[i].abs().flatten(), 0.9)))
        assert torch.allclose(out[i], x[i].clamp(-s, s) / s)
        assert out[i].abs().max() <= 1
    assert torch.allclose(drawn_in(x[2:], Dynamic(0.9)), out[2:]), "and by nobody else's"
    assert s > 2


def test_a_limit_on_the_divisor_cuts_off_the_rest():
    x = pictures()
    out = drawn_in(x, Dynamic(0.9, most=1.5))
    assert torch.allclose(out[2], x[2].clamp(-1.5, 1.5) / 1.5)


def test_the_share_is_a_quantile():
    x = torch.linspace(-4, 4, 201).view(1, 1, 3, 67)
    assert torch.allclose(drawn_in(x, Dynamic(1.0)), x / 4)
    assert float(drawn_in(x, Dynamic(0.5)).abs().median()) == pytest.approx(1.0)


def test_ways_wrap_any_denoiser():
    x = pictures()

    def denoise(x, t):
        return Belief(3 * x, rate=t)

    assert torch.equal(thresholded(denoise, Free())(x, T).x0, 3 * x)
    assert torch.equal(thresholded(denoise, Static())(x, T).x0, (3 * x).clamp(-1, 1))
    kept = thresholded(denoise, Dynamic())(x, T)
    assert torch.equal(kept.x0, drawn_in(3 * x, Dynamic()))
    assert kept.rate is T


def test_the_noise_is_worked_out_anew_from_what_is_kept():
    """A step of DDIM goes where the kept belief and the noise that is left then lead."""
    process = Process(CosineLogSNR())
    times = torch.tensor([0.7, 0.4], dtype=torch.float64)
    x = pictures().double()
    [step] = solvers.ddim(thresholded(lambda x, t: Belief(3 * x), Dynamic()), process, x, times)
    now, then = process.levels(times)
    x0 = drawn_in(3 * x, Dynamic())
    n = (x - now.alpha * x0) / now.sigma
    assert torch.allclose(step.x, then.alpha * x0 + then.sigma * n, atol=1e-12)


def test_ways_have_names():
    assert parsed("static") == Static()
    assert parsed("static:1.2") == Static(1.2)
    assert parsed("dynamic:.95:1.5") == Dynamic(0.95, 1.5)
    assert parsed("free") == Free()
    for wrong in ("clip", "dynamic:much", "static:1:2"):
        with pytest.raises(UsageError, match=f"static, dynamic:SHARE, .* got '{wrong}'"):
            parsed(wrong)
    with pytest.raises(UsageError, match="share above 0 and up to 1"):
        Dynamic(0.0)


def test_what_is_known_is_pasted_into_every_belief():
    x, image = pictures(), torch.full((3, 2, 5, 7), 0.25)
    keep = torch.zeros(3, 1, 5, 7)
    keep[:, :, :2] = 1
    out = guidance.pasted(lambda x, t: Belief(2 * x), image, keep)(x, T).x0
    assert torch.equal(out[:, :, :2], image[:, :, :2])
    assert torch.equal(out[:, :, 2:], 2 * x[:, :, 2:])
