"""The autoencoder: its loss, the normal distribution it fits to its vectors, walks, and that it beats PCA."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sfumato.core.request import Generate, Images, Reconstruct, Translate, Video, Walk
from sfumato.core.rng import Rng
from sfumato.core.system import Batch, OptimConfig, TrainConfig
from sfumato.core.trainer import Trainer
from sfumato.data.dataset import Subset
from sfumato.data.digits import Digits
from sfumato.errors import UsageError
from sfumato.nn.bottleneck import BottleneckConfig
from sfumato.systems.autoencoders.ae import FORGET, Autoencoder, AutoencoderConfig

NETWORK = BottleneckConfig(3, 6, 9, hidden=(16,), latent=4)
X = torch.rand(5, 3, 6, 9, generator=torch.Generator().manual_seed(0)) * 2 - 1


def tiny(**changes: object) -> Autoencoder:
    torch.manual_seed(1)
    return Autoencoder(replace(AutoencoderConfig(NETWORK), **changes))


@torch.no_grad()
def answer(system: Autoencoder, request: Generate | Reconstruct | Walk) -> Tensor:
    *_, result = system.run(request)
    assert isinstance(result, Images | Video)
    return result.pixels


def test_the_loss_is_the_squared_error_of_pixels_from_0_to_1():
    for noise in (0.0, 0.3):
        system, rows = tiny(noise=noise), range(5)
        [loss] = system.losses(Batch({"image": X}, Rng.training(0, 4, rows)), step=4)
        seen = X + noise * Rng.training(0, 4, rows).normal(3, 6, 9)
        with torch.no_grad():
            y = system.decode(system.encode(seen))
        assert torch.allclose(loss.value, ((y - X) / 2).square().mean(), rtol=1e-5)
        assert -1 <= y.min() < y.max() <= 1


def test_it_remembers_where_its_vectors_lie():
    system = tiny()
    z = 3 + torch.randn(400, 4, generator=torch.Generator().manual_seed(2)) @ torch.randn(4, 4)
    for part in z.repeat(30, 1).split(40):
        system._remember(part)
    assert (300 * 0.01) > 1 > FORGET**300
    assert torch.allclose(system.mean, z.mean(0), atol=0.3)
    assert torch.allclose(system.covariance, z.T.cov(), rtol=0.3, atol=0.6)

    drawn = system.prior(Rng.sampling(0, 4000))
    assert torch.allclose(drawn.mean(0), system.mean, atol=0.3)
    assert torch.allclose(drawn.T.cov(), system.covariance, rtol=0.2, atol=0.5)


def test_in_half_precision_it_remembers_as_exactly():
    exact, halved = tiny(), tiny()
    with torch.autocast("cpu", torch.bfloat16):
        list(halved.losses(Batch({"image": X}, Rng.training(0, 4, range(5))), step=4))
    list(exact.losses(Batch({"image": X}, Rng.training(0, 4, range(5))), step=4))
    assert halved.covariance.dtype == torch.float32
    assert torch.allclose(halved.covariance, exact.covariance, atol=1e-4)
    assert not torch.equal(exact.covariance, torch.eye(4))


def test_vectors_that_lie_in_a_plane_have_a_prior_in_it():
    system = tiny()
    system.covariance.copy_(torch.ones(4, 4))
    drawn = system.prior(Rng.sampling(0, 6))
    assert torch.allclose(drawn, drawn[:, :1].expand(-1, 4), atol=1e-5)


def test_reconstructions_owe_nothing_to_chance():
    system = tiny(noise=0.5).eval()
    pixels = answer(system, Reconstruct(images=X, seed=3))
    assert torch.equal(pixels, answer(system, Reconstruct(images=X, seed=4)))
    assert torch.allclose(pixels, system.decode(system.encode(X)), atol=1e-6)


def test_a_walk_passes_through_the_given_pictures():
    system = tiny().eval()
    way = answer(system, Walk(images=X[:3], frames=4, way="lerp"))
    assert way.shape == (1, 9, 3, 6, 9)
    assert torch.allclose(way[0, ::4], answer(system, Reconstruct(images=X[:3])), atol=1e-5)
    middle = system.decode(system.encode(X[:2]).mean(0, keepdim=True))
    assert torch.allclose(way[0, 2], middle[0], atol=1e-5)


def test_a_walk_without_pictures_leads_between_those_of_its_seeds():
    system = tiny().eval()
    new = answer(system, Generate(seed=7, count=3))
    way = answer(system, Walk(seed=7, count=3, frames=2, loop=True))
    assert way.shape == (1, 6, 3, 6, 9)
    assert torch.allclose(way[0, ::2], new, atol=1e-5)


def test_what_it_cannot_serve_is_refused():
    system = tiny()
    with pytest.raises(UsageError, match="cannot serve Translate; ask it to generate, reconstruct or walk"):
        system.run(Translate(images=X))
    for wish in ({"label": 1}, {"truncation": 0.5}):
        with pytest.raises(UsageError, match="neither labels nor truncation; leave them out"):
            answer(system, Walk(**wish))
    with pytest.raises(UsageError, match="trained without labels; leave the label out"):
        answer(system, Generate(label=1))


def test_it_learns_a_few_digits_by_heart():
    data = Subset(Digits(), range(8))
    system = Autoencoder(
        AutoencoderConfig(
            BottleneckConfig(1, 8, 8, hidden=(64,), latent=8), optim=OptimConfig(lr=2e-2, clip=0.0)
        )
    )
    trainer = Trainer(system, data, TrainConfig(steps=120, batch=8, ema=0.0, precision="fp32"))
    *_, last = trainer.run()
    assert last.values()["autoencoder/mse"] < 1e-3
