"""The VAE: its loss by hand, gradients through chance, bounds on a known evidence, and what one can ask."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from sfumato.core.likelihood import Bernoulli, DiscretisedLogistic, Gaussian
from sfumato.core.request import Generate, Images, Reconstruct, Video, Walk
from sfumato.core.rng import Rng
from sfumato.core.system import Batch
from sfumato.nn.bottleneck import BottleneckConfig
from sfumato.systems.autoencoders.vae import VAE, VAEConfig

NETWORK = BottleneckConfig(2, 6, 9, hidden=(16,), latent=3)
X = torch.rand(4, 2, 6, 9, generator=torch.Generator().manual_seed(0)) * 2 - 1


def tiny(**changes: object) -> VAE:
    torch.manual_seed(1)
    return VAE(replace(VAEConfig(NETWORK), **changes))


def batch(x: torch.Tensor = X) -> Batch:
    return Batch({"image": x}, Rng.training(0, 4, range(len(x))))


@pytest.mark.parametrize("likelihood", [Bernoulli(), Gaussian(0.4), DiscretisedLogistic(9)])
def test_the_loss_is_minus_the_bound(likelihood):
    system = tiny(likelihood=likelihood, beta=0.7)
    [loss] = system.losses(batch(), step=4)
    mean, logvar = system.posterior(X)
    z = mean + (logvar / 2).exp() * Rng.training(0, 4, range(4)).normal(3)
    said = likelihood.log_prob(X, system.decoder(z)).mean()
    divergence = kl_divergence(Normal(mean, (logvar / 2).exp()), Normal(0.0, 1.0)).sum(1).mean()
    assert torch.allclose(loss.parts["reconstruction"], -said.detach(), rtol=1e-5)
    assert torch.allclose(loss.parts["kl"], 0.7 * divergence.detach(), rtol=1e-4)
    assert torch.allclose(loss.value, 0.7 * divergence - said, rtol=1e-5)


def test_twice_the_batch_has_the_same_gradient():
    gradients = []
    for x in (X, torch.cat([X, X])):
        system = tiny()
        rng = Rng([5, 6, 7, 8] * (len(x) // 4))
        [loss] = system.losses(Batch({"image": x}, rng), step=0)
        loss.value.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in system.parameters() if p.grad is not None]))
    assert torch.allclose(*gradients, rtol=1e-4, atol=1e-5)


def test_free_nats_cost_nothing():
    free = tiny(free_nats=100.0)
    [loss] = free.losses(batch(), step=0)
    assert loss.parts["kl"].item() == pytest.approx(300.0)
    loss.value.backward()
    [plain] = tiny(beta=0.0).losses(batch(), step=0)
    assert torch.equal(loss.parts["reconstruction"], plain.parts["reconstruction"])


def test_the_gradient_through_a_sample_is_the_score_functions():
    """d/d(mean, logvar) of E (z - 2)^2 by moving the sample, by weighing it, and by hand."""
    mean, logvar = torch.tensor([[0.5]], requires_grad=True), torch.tensor([[-0.3]], requires_grad=True)
    noise = torch.randn(200_000, 1, generator=torch.Generator().manual_seed(0))
    z = mean + (logvar / 2).exp() * noise
    moved = torch.autograd.grad((z - 2).square().mean(), (mean, logvar))
    fixed, curve = z.detach(), Normal(mean, (logvar / 2).exp())
    cost = (fixed - 2).square() - (fixed - 2).square().mean()
    weighed = torch.autograd.grad((cost * curve.log_prob(fixed)).mean(), (mean, logvar))
    by_hand = (2 * (0.5 - 2), math.exp(-0.3))
    for one, other, truth in zip(moved, weighed, by_hand, strict=True):
        assert one.item() == pytest.approx(truth, abs=0.03)
        assert other.item() == pytest.approx(truth, abs=0.06)


def test_bounds_find_the_evidence_of_a_linear_model():
    """With z of one number, a linear decoder and normal errors, p(x) is a normal distribution."""
    system = tiny(network=BottleneckConfig(1, 1, 5, hidden=(), latent=1), likelihood=Gaussian(0.5)).eval()
    weight = torch.tensor([0.8, -0.5, 0.3, 0.0, 0.2])
    with torch.no_grad():
        linear = system.decoder.layers[0]
        linear.weight.copy_(weight[:, None])
        linear.bias.fill_(0.1)
        precision = 1 + weight.square().sum() / 0.25
        system.encoder.out.weight.zero_()
        system.encoder.out.weight[0] = weight / 0.25 / precision
        shift = -(weight / 0.25 / precision).sum() * 0.1
        system.encoder.out.bias.copy_(torch.stack([shift, torch.log(1 / precision) + 0.4]))
    x = torch.rand(3, 1, 1, 5, generator=torch.Generator().manual_seed(1)) - 0.5
    covariance = weight[:, None] * weight + 0.25 * torch.eye(5)
    truth = torch.distributions.MultivariateNormal(torch.full((5,), 0.1), covariance).log_prob(x[:, 0, 0])
    found = system.bounds(x, 500)
    gap = 0.5 * (math.exp(0.4) - 1 - 0.4)  # the posterior's variance is too large by a factor e^0.4
    assert torch.allclose(found.iwae, truth, atol=0.05)
    assert torch.allclose(truth - found.elbo, torch.full((3,), gap), atol=0.06)
    assert torch.allclose(system.bounds(x[1:2], 500, seed=1).iwae, found.iwae[1:2], atol=1e-4)


@torch.no_grad()
def test_pictures_come_from_the_prior_and_from_the_middle_of_the_posterior():
    system = tiny().eval()
    *_, made = system.run(Generate(seed=3, count=2))
    assert isinstance(made, Images)
    assert torch.allclose(made.pixels, system.decode(Rng.sampling(3, 2).normal(3)), atol=1e-6)
    *_, back = system.run(Reconstruct(images=X, seed=9))
    assert isinstance(back, Images)
    assert torch.allclose(back.pixels, system.decode(system.posterior(X)[0]), atol=1e-6)
    *_, way = system.run(Walk(images=X[:2], frames=3))
    assert isinstance(way, Video)
    assert torch.allclose(way.pixels[0, [0, 3]], back.pixels[:2], atol=1e-5)
