"""The first stage: its loss by hand, its codes at birth, and what it can be asked."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from sfumato.core.request import Images, Reconstruct
from sfumato.core.rng import Rng
from sfumato.core.system import Batch, OptimConfig, TrainConfig
from sfumato.core.trainer import Trainer
from sfumato.data.dataset import Subset
from sfumato.data.shapes import Shapes
from sfumato.errors import UsageError
from sfumato.nn.autoencoder import AutoencoderConfig
from sfumato.systems.autoencoders.kl import FIRST_LOGVAR, KL, KLConfig

NETWORK = AutoencoderConfig(
    channels=3, latent_channels=5, widths=(8, 16), blocks=1, groups=4, patch=2, attention=False
)
X = torch.rand(3, 3, 12, 20, generator=torch.Generator().manual_seed(0)) * 2 - 1


def tiny(**changes: object) -> KL:
    torch.manual_seed(1)
    return KL(replace(KLConfig(NETWORK, kl=0.3, edges=0.7), **changes))


@torch.no_grad()
def answer(system: KL, images: Tensor, seed: int = 0) -> Tensor:
    *_, result = system.run(Reconstruct(images=images, seed=seed))
    assert isinstance(result, Images)
    return result.pixels


def test_the_loss_is_the_formula():
    system, rows = tiny(), range(3)
    [loss] = system.losses(Batch({"image": X}, Rng.training(0, 4, rows)), step=4)

    mean, logvar = system.network.encode(X)
    std = logvar.exp().sqrt()
    z = mean + std * Rng.training(0, 4, rows).normal(5, 3, 5)
    y = system.network.decode(z)
    edges = ((y - X)[:, :, 1:] - (y - X)[:, :, :-1]).abs().mean()
    edges = edges + ((y - X)[..., 1:] - (y - X)[..., :-1]).abs().mean()
    divergence = kl_divergence(Normal(mean, std), Normal(0.0, 1.0)).mean()
    expected = {
        "l1": (y - X).abs().mean(),
        "l2": ((y - X) ** 2).mean(),
        "edges": 0.7 * edges,
        "kl": 0.3 * divergence,
    }
    assert loss.parts.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.allclose(loss.parts[name], value.detach(), rtol=1e-4), name
    assert torch.allclose(loss.value, sum(expected.values()), rtol=1e-4)


@pytest.mark.parametrize("quant_conv", [True, False])
def test_codes_are_almost_certain_at_birth(quant_conv):
    system = tiny(network=replace(NETWORK, quant_conv=quant_conv))
    logvar = system.network.encode(X)[1]
    assert abs(logvar.mean().item() - FIRST_LOGVAR) < 0.5


def test_reconstructions_are_drawn_from_the_posterior():
    system = tiny().eval()
    pixels = answer(system, X, seed=3)
    assert pixels.shape == X.shape
    assert torch.equal(pixels, answer(system, X, seed=3))
    assert not torch.equal(pixels, answer(system, X, seed=4))
    with torch.no_grad():
        system.network.quant_conv.bias[5:] = -40  # no doubt left: the mean alone is decoded
        certain = system.network(X).clamp(-1, 1)
    assert torch.allclose(answer(system, X, seed=4), certain, atol=1e-4)


def test_sizes_that_do_not_fold_are_refused():
    with pytest.raises(UsageError, match="must be multiples of 4, got 12 x 22; crop or pad"):
        answer(tiny().eval(), torch.zeros(1, 3, 12, 22))


def test_it_has_no_diffusers_format_and_no_base(tmp_path):
    with pytest.raises(
        UsageError, match=r"KL has no diffusers format, so it cannot fill .*; its run folder holds"
    ):
        tiny().to_diffusers(tmp_path)
    with pytest.raises(UsageError, match="KL has no diffusers format, so it cannot read"):
        KL.from_diffusers(tmp_path)
    with pytest.raises(UsageError, match="KL builds on no other system; leave the base out"):
        tiny().adopt(tiny())


def test_it_learns():
    data = Subset(Shapes("train", 32), range(4))
    system = tiny(kl=1e-4, optim=OptimConfig(kind="muon", lr=2e-2, betas=(0.9, 0.99)))
    trainer = Trainer(system, data, TrainConfig(steps=40, batch=4, ema=0.0, precision="fp32"))
    losses = [report.values()["autoencoder/l1"] for report in trainer.run()]
    assert losses[-1] < 0.35 * losses[0]
