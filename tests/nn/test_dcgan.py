"""DCGAN's networks have the published shapes, start as published, and hear labels at every layer."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, conv_transpose2d, one_hot

from sfumato.errors import UsageError
from sfumato.nn.dcgan import DCCritic, DCGANNetsConfig, DCGenerator, Stem, Verdict, recalibrate, told

PUBLISHED = DCGANNetsConfig()
SMALL = DCGANNetsConfig(channels=2, height=14, width=21, latent=7, generator=(10, 6), critic=(5, 9))


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_the_published_shapes():
    generator, critic = DCGenerator(PUBLISHED), DCCritic(PUBLISHED)
    assert count(generator) == 3_576_704
    assert count(critic) == 2_765_568
    # The names of PyTorch's example, whose files are called netG_epoch_N.pth and netD_epoch_N.pth.
    assert {name for name, _ in generator.named_parameters() if name.endswith("0.weight")} >= {
        "main.0.weight"
    }
    shapes = {name: tuple(p.shape) for name, p in generator.named_parameters()}
    assert shapes["main.0.weight"] == (100, 512, 4, 4)
    assert shapes["main.12.weight"] == (64, 3, 4, 4)
    assert shapes["main.10.bias"] == (64,)
    shapes = {name: tuple(p.shape) for name, p in critic.named_parameters()}
    assert shapes["main.0.weight"] == (64, 3, 4, 4)
    assert shapes["main.3.weight"] == (128,)
    assert shapes["main.11.weight"] == (1, 512, 4, 4)


def test_the_published_start():
    torch.manual_seed(0)
    for network in (DCGenerator(PUBLISHED), DCCritic(PUBLISHED)):
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                assert layer.bias is None
                assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
            elif isinstance(layer, nn.BatchNorm2d):
                assert layer.weight.mean().item() == pytest.approx(1, abs=0.01)
                assert 0.01 < layer.weight.std().item() < 0.03
                assert not layer.bias.any()


def test_no_batch_norm_where_pictures_come_in_or_go_out():
    generator, critic = list(DCGenerator(SMALL).main), list(DCCritic(SMALL).main)
    assert [type(layer) for layer in generator[-2:]] == [nn.ConvTranspose2d, nn.Tanh]
    assert [type(layer) for layer in critic[:2]] == [nn.Conv2d, nn.LeakyReLU]
    assert isinstance(critic[-1], Verdict)
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in generator) == 2
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in critic) == 1


def test_sizes_that_are_no_multiples():
    z, x = torch.randn(3, 7), torch.randn(3, 2, 14, 21)
    made = DCGenerator(SMALL)(z)
    assert made.shape == x.shape
    assert made.abs().max() <= 1
    assert DCCritic(SMALL)(x).shape == (3,)


def test_the_ends_are_convolutions():
    z, x = torch.randn(3, 7), torch.randn(3, 5, 3, 4)
    stem, verdict = Stem(7, 6, (3, 4), bias=False), Verdict(5, 1, (3, 4), bias=False)
    assert torch.allclose(
        stem(z[:, :, None, None]), conv_transpose2d(z[:, :, None, None], stem.weight), atol=1e-6
    )
    assert torch.allclose(verdict(x), conv2d(x, verdict.weight), atol=1e-6)


def test_labels_lie_beside_the_maps_of_every_layer():
    label = one_hot(torch.tensor([2, 0]), 3).float()
    x = told(torch.zeros(2, 2, 3, 5), label)
    assert x.shape == (2, 5, 3, 5)
    assert (x[0, 4] == 1).all()
    assert (x[1, 2] == 1).all()
    assert x.sum() == 2 * 3 * 5

    known = DCGANNetsConfig(**{**SMALL.__dict__, "classes": 3})
    plain, conditional = DCGenerator(SMALL), DCGenerator(known)
    for a, b in zip(plain.main, conditional.main, strict=True):
        if isinstance(a, nn.ConvTranspose2d):
            assert b.weight.shape[0] == a.weight.shape[0] + 3
    for a, b in zip(DCCritic(SMALL).main, DCCritic(known).main, strict=True):
        if isinstance(a, nn.Conv2d):
            assert b.weight.shape[1] == a.weight.shape[1] + 3


def test_another_label_is_another_picture_and_another_verdict():
    torch.manual_seed(0)
    config = DCGANNetsConfig(**{**SMALL.__dict__, "classes": 3})
    generator, critic = DCGenerator(config).eval(), DCCritic(config).eval()
    z, one, other = torch.randn(2, 7), *(one_hot(torch.full((2,), k), 3).float() for k in (0, 1))
    assert not torch.equal(generator(z, one), generator(z, other))
    x = torch.randn(2, 2, 14, 21)
    assert not torch.equal(critic(x, one), critic(x, other))


def test_features_are_what_every_layer_sees():
    critic = DCCritic(PUBLISHED).eval()
    features = critic.features(torch.randn(2, 3, 64, 64))
    assert features.shape == (2, (64 + 128 + 256 + 512) * 16)
    small = DCCritic(SMALL).eval()
    assert small.features(torch.randn(2, 2, 14, 21)).shape == (2, 5 * 16 + 9 * 3 * 4)


def test_recalibration_gives_batch_norms_the_moments_of_what_they_see():
    torch.manual_seed(0)
    critic = DCCritic(SMALL)
    batches = [torch.randn(6, 2, 14, 21) * 2 + 1 for _ in range(3)]
    critic(torch.randn(6, 2, 14, 21))  # Moments of something else.
    recalibrate(critic, [(x,) for x in batches])
    assert not critic.training
    seen = [critic.main[2](critic.main[1](critic.main[0](x))) for x in batches]
    assert torch.allclose(
        critic.main[3].running_mean, torch.stack([x.mean((0, 2, 3)) for x in seen]).mean(0), atol=1e-5
    )
    wanted = torch.stack([x.transpose(0, 1).flatten(1).var(1) for x in seen]).mean(0)
    assert torch.allclose(critic.main[3].running_var, wanted, atol=1e-4)
    assert critic.main[3].momentum == 0.1


def test_too_many_halvings():
    with pytest.raises(UsageError, match=r"8 x 64 pixels cannot be halved 4 times; give the generator"):
        DCGenerator(DCGANNetsConfig(height=8))
    with pytest.raises(UsageError, match="give the critic at least one width"):
        DCCritic(DCGANNetsConfig(critic=()))


def test_a_chain_of_doublings_keeps_its_widths():
    layers = [layer for layer in DCGenerator(SMALL).main if isinstance(layer, nn.ConvTranspose2d)]
    assert all(a.weight.shape[1] == b.weight.shape[0] for a, b in pairwise(layers))
