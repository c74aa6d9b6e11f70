"""The translators and their critic: published sizes, patches, and no picture that sees its neighbours."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sfumato.errors import UsageError
from sfumato.nn.layers import GroupNorm
from sfumato.nn.patchgan import SPREAD, PatchCritic, PatchCriticConfig
from sfumato.nn.resnet_translator import ResnetTranslator, ResnetTranslatorConfig
from sfumato.nn.unet_p2p import TranslatorUNet, TranslatorUNetConfig, enlarged

UNET = TranslatorUNetConfig(channels_in=2, channels_out=1, width=3, levels=3)
RESNET = ResnetTranslatorConfig(channels_in=2, channels_out=1, width=3, blocks=2)


def size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_they_are_as_large_as_the_published_ones():
    with torch.device("meta"):
        assert size(TranslatorUNet(TranslatorUNetConfig())) == 54_413_955
        assert size(ResnetTranslator(ResnetTranslatorConfig())) == 11_378_179
        assert size(PatchCritic(PatchCriticConfig(channels=6))) == 2_768_705
        assert size(PatchCritic(PatchCriticConfig(channels=3, affine=False))) == 2_764_737


@pytest.mark.parametrize("network", [TranslatorUNet(UNET), ResnetTranslator(RESNET)])
@pytest.mark.parametrize(("height", "width"), [(16, 24), (17, 30), (9, 11)])
def test_pictures_keep_their_size(network, height, width):
    x = torch.randn(2, 2, height, width)
    y = network.eval()(x)
    assert y.shape == (2, 1, height, width)
    assert y.abs().max() <= 1
    assert (network(x[1:]) - y[1:]).abs().max() < 1e-5  # nobody looks at the neighbours


def test_multiples_are_translated_as_they_are():
    x = torch.randn(1, 2, 8, 16)
    assert enlarged(x, 8) is x
    odd = enlarged(x[:, :, :7, :13], 8)
    assert odd.shape == x.shape
    assert torch.equal(odd[:, :, :7, :13], x[:, :, :7, :13])
    assert torch.equal(odd[:, :, 7, :13], x[:, :, 6, :13])


def test_its_norm_is_batch_norm_over_a_batch_of_one():
    """What the paper trains and tests with (section 3.4), by PyTorch's own batch norm."""
    ours, x = TranslatorUNet(UNET).eval(), torch.randn(1, 2, 16, 24)
    theirs = TranslatorUNet(UNET)
    theirs.load_state_dict(ours.state_dict())
    for level in theirs.modules():
        if isinstance(level, nn.Sequential):
            for i, part in enumerate(level):
                if isinstance(part, GroupNorm):
                    level[i] = nn.BatchNorm2d(part.num_channels)
                    level[i].load_state_dict(part.state_dict(), strict=False)
    assert not any(isinstance(m, GroupNorm) for m in theirs.modules())
    assert (theirs.train()(x) - ours(x)).abs().max() < 1e-5


@pytest.mark.parametrize(("layers", "field"), [(1, 16), (2, 34), (3, 70)])
def test_a_verdict_sees_a_patch(layers, field):
    critic = PatchCritic(PatchCriticConfig(channels=1, width=2, layers=layers))
    for i, part in enumerate(critic.model):
        if isinstance(part, GroupNorm):  # whose statistics are of the whole picture
            critic.model[i] = nn.Identity()
    x = torch.randn(1, 1, 128, 128, requires_grad=True)
    verdict = critic(x)
    verdict[0, 0, verdict.shape[2] // 2, verdict.shape[3] // 2].backward()
    rows, columns = x.grad[0, 0].nonzero().T
    assert (rows.max() - rows.min() + 1, columns.max() - columns.min() + 1) == (field, field)


def test_dropout_is_the_only_chance_and_rests_when_serving():
    network, x = TranslatorUNet(TranslatorUNetConfig(width=2, levels=6)), torch.randn(1, 3, 64, 64)
    assert not torch.equal(network.train()(x), network(x))
    assert torch.equal(network.eval()(x), network(x))
    without = TranslatorUNet(TranslatorUNetConfig(width=2, levels=6, dropout=0.0)).train()
    assert torch.equal(without(x), without(x))


def test_patches_make_places_of_several_pixels():
    config = ResnetTranslatorConfig(channels_in=3, channels_out=1, width=4, blocks=1, patch=2)
    network = ResnetTranslator(config)
    assert network.model[1].in_channels == 12
    assert network(torch.randn(2, 3, 18, 22)).shape == (2, 1, 18, 22)


def test_weights_are_scattered_as_published():
    convs = [
        m for m in ResnetTranslator(ResnetTranslatorConfig(width=32)).modules() if isinstance(m, nn.Conv2d)
    ]
    assert all(abs(conv.weight.std().item() / SPREAD - 1) < 0.1 and not conv.bias.any() for conv in convs)
    norms = [m for m in TranslatorUNet(TranslatorUNetConfig(width=16)).modules() if isinstance(m, GroupNorm)]
    scales = torch.cat([norm.weight for norm in norms])
    assert abs(scales.mean().item() - 1) < 0.01
    assert abs(scales.std().item() / SPREAD - 1) < 0.1


def test_a_u_net_has_levels():
    with pytest.raises(UsageError, match="needs 2 levels, got 1"):
        TranslatorUNet(TranslatorUNetConfig(levels=1))
