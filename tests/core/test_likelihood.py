"""Likelihoods against PyTorch's distributions and sums over all grey levels; bounds against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli as Coin
from torch.distributions import Laplace as LaplaceCurve
from torch.distributions import Normal, kl_divergence

from sfumato.core.likelihood import (
    Bernoulli,
    DiscretisedLogistic,
    Gaussian,
    Laplace,
    LogitLaplace,
    bounds,
    kl_to_normal,
    log_normal,
)
from sfumato.errors import UsageError

SHAPE = (3, 2, 5, 7)
ALL = (Bernoulli(), Gaussian(0.3), Laplace(0.2), DiscretisedLogistic(17), LogitLaplace())


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def numbers(outputs: int) -> Tensor:
    return draw(1, SHAPE[0], outputs * SHAPE[1], *SHAPE[2:])


X = draw(0, *SHAPE).tanh()


def test_likelihoods_are_those_of_pytorch():
    out = numbers(1)
    black_or_white = X.sign()
    expected = {
        Bernoulli(): Coin(logits=out).log_prob((black_or_white + 1) / 2),
        Gaussian(0.3): Normal(out, 0.3).log_prob(black_or_white),
        Laplace(0.2): LaplaceCurve(out, 0.2).log_prob(black_or_white),
    }
    for likelihood, terms in expected.items():
        given = likelihood.log_prob(black_or_white, out)
        assert torch.allclose(given, terms.sum((1, 2, 3)), rtol=1e-5), likelihood


def test_the_lectures_loss_is_a_gaussian_of_variance_one_half():
    out = numbers(1)
    constant = X[0].numel() * 0.5 * math.log(math.pi)
    error = (X - out).square().sum((1, 2, 3))
    assert torch.allclose(-Gaussian().log_prob(X, out), error + constant, rtol=1e-5)


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_chances_of_all_grey_levels_add_up_to_one(levels):
    out = torch.cat([2 * draw(3, 1, 1, 4, 6), 2 * draw(4, 1, 1, 4, 6) - 2], dim=1)
    level = torch.linspace(-1, 1, levels).view(-1, 1, 1, 1)
    for i in range(4):
        for j in range(6):
            spot = out[:, :, i : i + 1, j : j + 1].expand(levels, -1, -1, -1)
            chances = DiscretisedLogistic(levels).log_prob(level, spot).exp()
            assert chances.sum().item() == pytest.approx(1, abs=2e-4)


def test_impossible_grey_levels_keep_a_finite_likelihood_and_a_gradient():
    out = torch.tensor([0.9, -20.0]).view(1, 2, 1, 1).requires_grad_()
    value = DiscretisedLogistic().log_prob(torch.full((1, 1, 1, 1), -0.5), out)
    value.sum().backward()
    assert value.isfinite().all()
    assert out.grad is not None
    assert out.grad[0, 0].abs() > 1


def test_logit_laplace_is_a_density_between_the_ends():
    out = torch.tensor([0.7, -0.4]).view(1, 2, 1, 1)
    edge = torch.linspace(-1, 1, 20001)
    x = ((edge[1:] + edge[:-1]) / 2).view(-1, 1, 1, 1)
    density = LogitLaplace().log_prob(x, out.expand(len(x), -1, -1, -1)).exp()
    inner = torch.tensor([0.1, 0.9]).logit()
    share = LaplaceCurve(0.7, math.exp(-0.4)).cdf(inner).diff().item()
    assert abs(density.sum().item() * 1e-4 - share) < 1e-4


@pytest.mark.parametrize("likelihood", ALL, ids=lambda value: type(value).__name__)
def test_the_picture_shown_is_within_range_and_near_the_likeliest(likelihood):
    out = numbers(likelihood.outputs).requires_grad_()
    shown = likelihood.mean(out)
    assert shown.shape == X.shape
    assert -1 <= shown.min() < shown.max() <= 1
    given = likelihood.log_prob(X, out)
    assert given.shape == (3,)
    again = torch.cat([likelihood.log_prob(X[i : i + 1], out[i : i + 1]) for i in range(3)])
    assert torch.allclose(given, again, rtol=1e-5), "a picture's nats do not depend on its batch"
    optimiser = torch.optim.Adam([out], 0.1)
    for _ in range(100):
        optimiser.zero_grad()
        (-likelihood.log_prob(X, out).sum()).backward()
        optimiser.step()
    assert (likelihood.mean(out) - X).abs().mean() < 0.05


def test_divergence_from_the_prior_is_the_closed_form_and_what_samples_say():
    mean, logvar = draw(5, 4, 3), draw(6, 4, 3)
    curve = Normal(mean, (logvar / 2).exp())
    expected = kl_divergence(curve, Normal(0.0, 1.0))
    assert torch.allclose(kl_to_normal(mean, logvar), expected, atol=1e-5)
    assert (kl_to_normal(torch.zeros(1, 3), torch.zeros(1, 3)) == 0).all()

    z = mean + (logvar / 2).exp() * draw(7, 20000, 4, 3)
    nothing = torch.zeros_like(z)
    sampled = log_normal(z, mean.expand_as(z), logvar.expand_as(z)) - log_normal(z, nothing, nothing)
    assert torch.allclose(sampled.mean(0), expected.sum(1), rtol=0.05, atol=0.05)


def test_bounds_close_in_on_the_evidence_of_a_linear_model():
    """x = z + 0.5 n has evidence N(0, 1.25); a posterior that is off leaves a gap that samples close."""
    x = torch.tensor([0.3, -1.2, 2.0]).repeat(100)
    truth = Normal(0.0, 1.25**0.5).log_prob(x)
    mean, logvar = 0.6 * x[:, None], torch.full((300, 1), math.log(0.4))

    def weights(samples: int):
        for noise in draw(8, samples, 300, 1):
            z = mean + (logvar / 2).exp() * noise
            said = Normal(z[:, 0], 0.5).log_prob(x)
            yield said + log_normal(z, 0 * z, 0 * z) - log_normal(z, mean, logvar)

    few, many = bounds(weights(10)), bounds(weights(300))
    assert (few.elbo < few.iwae).all()
    assert few.iwae.mean() < many.iwae.mean()
    posterior = Normal(0.8 * x, 0.2**0.5)
    gap = kl_divergence(Normal(mean[:, 0], (logvar[:, 0] / 2).exp()), posterior)
    assert torch.allclose(*((values.view(100, 3).mean(0)) for values in (truth - many.elbo, gap)), atol=0.03)
    assert torch.allclose(*((values.view(100, 3).mean(0)) for values in (many.iwae, truth)), atol=0.02)
    assert many.samples == 300

    alone = bounds(weights(1))
    assert torch.equal(alone.elbo, alone.iwae)


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(UsageError, match="std must be above 0, got 0"):
        Gaussian(0.0)
    with pytest.raises(UsageError, match="scale must be above 0, got -1"):
        Laplace(-1.0)
    with pytest.raises(UsageError, match="at least 2 grey levels, got 1; give 256"):
        DiscretisedLogistic(1)
    with pytest.raises(UsageError, match=r"margin must lie between 0 and 0\.5, got 0\.5"):
        LogitLaplace(0.5)
    with pytest.raises(UsageError, match="at least 1 sample a picture, got 0; give more"):
        bounds([])
