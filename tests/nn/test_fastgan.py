"""FastGAN's generator: the published sizes, pictures of any size, and noise that belongs to the picture."""

from __future__ import annotations

import pytest
import torch

from sfumato.errors import UsageError
from sfumato.nn.fastgan import FastGANConfig, FastGenerator


@pytest.mark.parametrize(("lite", "parameters"), [(False, 105_684_175), (True, 79_354_307)])
def test_it_has_the_published_parameters(lite, parameters):
    with torch.device("meta"):
        network = FastGenerator(FastGANConfig(lite=lite))
    assert sum(p.numel() for p in network.parameters()) == parameters


def silence(height: int, width: int) -> torch.Tensor:
    return torch.zeros(2, 1, height, width)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (20, 27), (64, 40)])
def test_it_makes_pictures_of_any_size(height, width):
    network = FastGenerator(
        FastGANConfig(channels=2, height=height, width=width, latent=6, features=3)
    ).eval()
    z = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))
    pixels = network(z, silence)
    assert pixels.shape == (2, 2, height, width)
    assert pixels.abs().max() <= 1
    assert torch.allclose(network(3 * z, silence), pixels, atol=1e-5), "the length of a latent does not count"


def test_noise_counts_once_its_strength_is_learned():
    network = FastGenerator(FastGANConfig(height=16, width=16, latent=6, features=3)).eval()
    z, sizes = torch.randn(2, 6), []

    def noise(height: int, width: int) -> torch.Tensor:
        sizes.append((height, width))
        return torch.randn(2, 1, height, width)

    assert torch.equal(network(z, noise), network(z, silence))
    assert sizes == [(8, 8), (8, 8), (16, 16), (16, 16)]
    for block in network.blocks.values():
        torch.nn.init.constant_(block.strengths[0], 0.5)
    assert not torch.equal(network(z, noise), network(z, silence))
    lite = FastGenerator(FastGANConfig(height=16, width=16, latent=6, features=3, lite=True)).eval()
    sizes.clear()
    lite(z, noise)
    assert not sizes


def test_a_size_beyond_the_table_is_refused():
    with pytest.raises(UsageError, match="5 to 1024 pixels a side, got 2000 x 30"):
        FastGenerator(FastGANConfig(height=2000, width=30))
