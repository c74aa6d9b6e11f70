"""AdaIN and its decoder: statistics that are exchanged exactly, and layers that mirror the encoder's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sfumato.core.perceptual import moments
from sfumato.errors import UsageError
from sfumato.nn.adain import Decoder, adain, copied, layers_to, reach_of, up_to
from sfumato.nn.vgg import VGG, VGG19, VGGConfig

TINY = VGGConfig(widths=(3, 4, 5), convs=(1, 2, 2), padding="reflect", pooling="avg")


def test_what_is_exchanged_with_itself_stays():
    x = torch.randn(2, 5, 7, 9) * 3 + 1
    assert torch.allclose(adain(x, moments(x), moments(x)), x, atol=1e-5)


def test_statistics_become_those_of_the_style():
    x, y = torch.randn(2, 5, 7, 9) * 3 + 1, torch.rand(2, 5, 12, 6)
    got, wanted = moments(adain(x, moments(x), moments(y))), moments(y)
    assert (got.mean - wanted.mean).abs().max() < 1e-4
    assert (got.std - wanted.std).abs().max() < 1e-4


def test_the_published_decoder():
    with torch.device("meta"):
        decoder = Decoder(up_to(VGG19, "relu4_1"), "relu4_1")
    assert sum(p.numel() for p in decoder.parameters()) == 3_505_219
    assert [conv.in_channels for conv in decoder.convs] == [512, 256, 256, 256, 256, 128, 128, 64, 64]
    assert decoder.doubles == (False, True, False, False, False, True, False, True, False)


def test_it_paints_as_pytorch_s_own_layers_do():
    decoder = Decoder(TINY, "relu3_1", channels=1)
    layers: list[nn.Module] = []
    for k, (conv, double) in enumerate(zip(decoder.convs, decoder.doubles, strict=True)):
        layers += [nn.ReLU()] if k else []
        layers += [nn.Upsample(scale_factor=2, mode="nearest")] if double else []
        layers += [nn.ReflectionPad2d(1), conv]
    maps = torch.randn(2, 5, 9, 11)
    assert decoder(maps).shape == (2, 1, 36, 44)
    assert (decoder(maps) - nn.Sequential(*layers)(maps)).abs().max() < 1e-5


def test_the_network_that_looks_ends_at_its_layer():
    whole = VGG(TINY)
    short = VGG(up_to(TINY, "relu3_1"))
    copied(short, whole)
    x = torch.randn(1, 3, 24, 20)
    assert torch.equal(short(x, ["relu3_1"])["relu3_1"], whole(x, ["relu3_1"])["relu3_1"])
    assert up_to(TINY, "relu3_1").convs == (1, 2, 1)
    assert layers_to(TINY, "relu2_2") == [(3, 3, 0), (3, 4, 1), (4, 4, 1)]


def test_nothing_beyond_the_reach_changes_a_place():
    encoder = VGG(up_to(TINY, "relu3_1"))
    x = torch.randn(1, 3, 64, 56, requires_grad=True)
    maps = encoder(x, ["conv3_1"])["conv3_1"]
    maps[0, :, 8, 7].sum().backward()
    rows, columns = x.grad[0].abs().sum(0).nonzero().T
    reach = reach_of(TINY, "relu3_1")
    assert rows.min() >= 32 - reach
    assert rows.max() <= 35 + reach
    assert columns.max() - columns.min() > reach


@pytest.mark.parametrize(
    ("layer", "told"),
    [("pool2", "such as relu4_1, got 'pool2'"), ("relu3_5", "no layer 'relu3_5': its stages have")],
)
def test_layers_that_cannot_be_are_refused(layer, told):
    with pytest.raises(UsageError, match=told):
        layers_to(TINY, layer)
