"""Guidance against its identities."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sfumato.core import guidance
from sfumato.core.denoiser import Belief, Denoiser
from sfumato.core.process import Karras, LinearBetas, Process, Straight
from sfumato.data.toys import GaussianMixture
from sfumato.nn.condition import Condition


class Told(nn.Module):
    """Answers with what it is told, so that every belief can be worked out by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1, dtype=torch.float64))
        self.calls = 0

    def forward(self, x, clock, cond):
        self.calls += 1
        return self.gain * (x * 0.1 + cond.vector[:, :, None, None])


@pytest.fixture
def denoiser():
    return Denoiser(Told(), Process(LinearBetas()), "eps")


X = torch.randn(3, 2, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
T = torch.full((3,), 0.4, dtype=torch.float64)
COND = Condition(vector=torch.tensor([[1.0, 2.0], [0.0, -1.0], [3.0, 0.5]], dtype=torch.float64))
NULL = Condition(vector=torch.zeros(3, 2, dtype=torch.float64))


def test_scale_one_is_the_condition_and_zero_is_none(denoiser):
    told, untold = denoiser(X, T, COND).x0, denoiser(X, T, NULL).x0
    assert torch.equal(guidance.classifier_free(denoiser, COND, NULL, 1.0)(X, T).x0, told)
    assert torch.allclose(guidance.classifier_free(denoiser, COND, NULL, 0.0)(X, T).x0, untold, atol=1e-12)


def test_guidance_is_linear_and_asks_once(denoiser):
    told, untold = denoiser(X, T, COND).x0, denoiser(X, T, NULL).x0
    denoiser.network.calls = 0
    guided = guidance.classifier_free(denoiser, COND, NULL, 3.5)(X, T).x0
    assert denoiser.network.calls == 1
    assert torch.allclose(guided, untold + 3.5 * (told - untold), atol=1e-12)


def test_guidance_acts_inside_its_interval_alone(denoiser):
    guided = guidance.classifier_free(denoiser, COND, NULL, 5.0, interval=(0.5, 0.9))
    assert torch.equal(guided(X, T).x0, denoiser(X, T, COND).x0)
    inside = torch.full((3,), 0.6, dtype=torch.float64)
    assert not torch.allclose(guided(X, inside).x0, denoiser(X, inside, COND).x0)


def test_full_rescaling_restores_the_contrast(denoiser):
    told = denoiser(X, T, COND).x0
    guided = guidance.classifier_free(denoiser, COND, NULL, 6.0, rescale=1.0)(X, T).x0
    assert torch.allclose(guided.std((1, 2, 3)), told.std((1, 2, 3)), atol=1e-12)


def test_clipping(denoiser):
    clipped = guidance.clipped(guidance.conditioned(denoiser, COND))(X * 9, T).x0
    assert clipped.abs().max().item() == 1.0


def test_half_told_conditions_are_refused():
    with pytest.raises(ValueError, match="Only one of two conditions tells 'vector'"):
        COND.stack(Condition())


def test_dropping_takes_whole_rows():
    dropped = COND.drop(torch.tensor([True, False, True]), NULL)
    assert dropped.vector is not None
    assert dropped.vector[1].tolist() == [0, 0]
    assert torch.equal(dropped.vector[::2], COND.vector[::2])


@pytest.mark.parametrize("schedule", [LinearBetas(), Straight(), Karras()])
def test_leaning_towards_a_class_is_bayes_rule(schedule):
    """An unconditional denoiser with the exact gradient of ln p(class | x_t) is the class's own denoiser."""
    process = Process(schedule)
    parts = [GaussianMixture.isotropic([m], 0.3) for m in ([-1.0, 0.2], [0.8, -0.5])]
    whole = GaussianMixture.isotropic([[-1.0, 0.2], [0.8, -0.5]], 0.3, [0.3, 0.7])

    def believe(data):
        return lambda x, t: Belief(data.denoise(x, process.schedule.alpha(t), process.schedule.sigma(t)))

    def log_share(x, t):
        a, s = process.schedule.alpha(t), process.schedule.sigma(t)
        return parts[0].log_density(x, a, s) - whole.log_density(x, a, s)

    x = torch.randn(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    t = torch.full((50,), 0.6, dtype=torch.float64)
    guided = guidance.towards(believe(whole), process, log_share, 1.0)(x, t).x0
    assert torch.allclose(guided, believe(parts[0])(x, t).x0, atol=1e-11)
    assert not torch.allclose(believe(whole)(x, t).x0, guided, atol=0.1)


def test_classifier_free_guidance_is_guidance_by_the_implicit_classifier():
    """Scale w is the unconditional belief plus w times the gradient of ln p(class | x_t)."""
    process = Process(LinearBetas())
    part = GaussianMixture.isotropic([[0.8, -0.5]], 0.3)
    whole = GaussianMixture.isotropic([[-1.0, 0.2], [0.8, -0.5]], 0.3, [0.3, 0.7])
    x = torch.randn(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    t = torch.full((50,), 0.4, dtype=torch.float64)
    a, s = process.schedule.alpha(t), process.schedule.sigma(t)
    untold, told = whole.denoise(x, a, s), part.denoise(x, a, s)
    by_gradient = guidance.towards(
        lambda x, t: Belief(whole.denoise(x, a, s)),
        process,
        lambda x, t: part.log_density(x, a, s) - whole.log_density(x, a, s),
        4.0,
    )
    assert torch.allclose(by_gradient(x, t).x0, untold + 4.0 * (told - untold), atol=1e-11)
