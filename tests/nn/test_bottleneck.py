"""Bottlenecks: published sizes, odd pictures, and a decoder that mirrors its encoder."""

from __future__ import annotations

import pytest
import torch

from sfumato.errors import UsageError
from sfumato.nn.bottleneck import BottleneckConfig, Decoder, Encoder


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_the_dense_network_has_the_size_of_the_published_ones():
    """784-400-20-400-784 is PyTorch's own example of a VAE, 784-512-16-512-784 pythae's default."""
    for hidden, latent, count in ((400, 20, 652_824), (512, 16, 829_232)):
        config = BottleneckConfig(hidden=(hidden,), latent=latent)
        assert parameters(Encoder(config, 2 * latent)) + parameters(Decoder(config)) == count


def test_the_lectures_convolutions_have_the_size_by_hand():
    config = BottleneckConfig(convs=(32, 64), hidden=(), latent=64)
    encoder = (9 + 1) * 32 + (9 * 32 + 1) * 64 + (49 * 64 + 1) * 64
    decoder = (64 + 1) * 49 * 64 + (9 * 64 + 1) * 64 + (9 * 64) * 32 + 32 + (9 * 32 + 1)
    assert parameters(Encoder(config, 64)) == encoder
    assert parameters(Decoder(config)) == decoder


@pytest.mark.parametrize("convs", [(), (5,), (5, 6, 7)])
@pytest.mark.parametrize(("height", "width"), [(11, 14), (8, 21), (13, 12)])
def test_pictures_of_any_size_come_back_in_theirs(convs, height, width):
    config = BottleneckConfig(3, height, width, convs=convs, hidden=(9, 8), latent=4, act="tanh")
    x = torch.randn(2, 3, height, width)
    z = Encoder(config, 4)(x)
    assert z.shape == (2, 4)
    assert Decoder(config, 2)(z).shape == (2, 6, height, width)


def test_pictures_of_another_size_are_refused():
    encoder = Encoder(BottleneckConfig(3, 12, 20), 4)
    with pytest.raises(UsageError, match="12 x 20 pixels with 3 channels, got 20 x 12 with 1; scale or crop"):
        encoder(torch.zeros(1, 1, 20, 12))
