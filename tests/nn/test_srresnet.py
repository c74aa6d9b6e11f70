"""The enlarging network: published sizes and names, pixel shuffling as it is defined, filters as Pillow's."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import conv_transpose2d, pixel_shuffle

from sfumato.images import to_pil, to_tensor
from sfumato.nn.srresnet import (
    SRCritic,
    SRResNet,
    SRResNetConfig,
    alike_within_squares,
    enlarged,
    reduced,
)

MMAGIC = SRResNetConfig(kernel=3, norm=False, refine=True, skip="bilinear")
SMALL = SRResNetConfig(channels=3, width=6, blocks=2, kernel=3, norm=False, skip="bicubic")
X = torch.rand(2, 3, 10, 14, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_it_is_as_large_as_the_published_one():
    with torch.device("meta"):
        network, critic = SRResNet(MMAGIC), SRCritic(3, 64)
    assert sum(p.numel() for p in network.parameters()) == 1_517_571
    # Figure 4: convolutions, batch norm after all but the first, dense layers.
    widths = [3, 64, 64, 128, 128, 256, 256, 512, 512]
    convs = sum(9 * a * b + b for a, b in pairwise(widths))
    assert sum(p.numel() for p in critic.parameters()) == convs + 2 * sum(widths[2:]) + 513 * 1024 + 1025


def test_parameters_have_the_names_of_mmagic():
    names = SRResNet(MMAGIC).state_dict().keys()
    layers = ["conv_first", "upsample1.upsample_conv", "upsample2.upsample_conv", "conv_hr", "conv_last"]
    layers += [f"trunk_net.{k}.conv{j}" for k in range(16) for j in (1, 2)]
    assert names == {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}


@pytest.mark.parametrize("config", [SMALL, SRResNetConfig(channels=1, width=4, blocks=1)])
def test_any_size_becomes_four_times_as_large(config):
    x = X[:, : config.channels]
    assert SRResNet(config).eval()(x).shape == (2, config.channels, 40, 56)


def test_with_a_skip_it_starts_as_the_filter():
    assert torch.equal(SRResNet(SMALL)(X), enlarged(X, "bicubic"))
    unit = SRResNet(replace(SMALL, unit=True))
    assert torch.allclose(unit(X), enlarged(X, "bicubic"), atol=1e-5)


def test_pixel_shuffling_is_a_transposed_convolution():
    """Of stride 2 with the kernel whose corner (i, j) hands channel 4 c + 2 i + j on to channel c."""
    x = torch.randn(2, 12, 5, 7)
    kernel = torch.zeros(12, 3, 2, 2)
    for k in range(12):
        kernel[k, k // 4, k % 4 // 2, k % 2] = 1
    assert torch.equal(pixel_shuffle(x, 2), conv_transpose2d(x, kernel, stride=2))


def test_it_starts_without_a_chequerboard():
    conv = nn.Conv2d(3, 8, 3, padding=1)
    alike_within_squares(conv)
    shuffled = pixel_shuffle(conv(X), 2)
    assert torch.equal(shuffled[..., ::2, ::2], shuffled[..., 1::2, 1::2])


def test_no_pixel_depends_on_what_is_out_of_reach():
    network = SRResNet(SMALL)
    nn.init.normal_(network.conv_last.weight)
    x = torch.randn(1, 3, 2 * network.reach + 5, 9)
    changed = x.clone()
    changed[:, :, -1] += 1
    differs = (network(x) != network(changed)).any(3).any(1)[0]
    first = int(differs.nonzero()[0])
    assert 4 * (x.shape[2] - 1 - network.reach) <= first < 4 * (x.shape[2] - 1)


@pytest.mark.parametrize("size", [(20, 36), (33, 22)])
def test_filters_are_pillows(size):
    """Pillow rounds and cuts between its two passes: away from the ends it is at most two levels off."""
    height, width = size
    x = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(1)) - 0.5
    x = to_tensor(to_pil(x[0]))[None]
    small = (width // 4, height // 4)
    for ours, wanted in ((reduced(x), small), (enlarged(x, "bicubic"), (4 * width, 4 * height))):
        theirs = to_tensor(to_pil(x[0]).resize(wanted, Image.Resampling.BICUBIC))
        assert (ours[0].clamp(-1, 1) - theirs).abs().max() <= 2 / 127.5


def test_the_critic_takes_any_size():
    assert SRCritic(1, 4)(torch.randn(3, 1, 24, 40)).shape == (3, 1)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in SRCritic(1, 4, norm=False).modules())
