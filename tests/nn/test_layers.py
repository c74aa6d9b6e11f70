"""Layers: as exact as PyTorch's own, by whichever path, and safe where PyTorch crashes."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from diffusers.models.attention import FeedForward as TheirFeedForward
from torch import Tensor, nn
from torch.nn.functional import interpolate, linear
from transformers.activations import QuickGELUActivation

from sfumato.nn import layers
from sfumato.nn.layers import (
    GEGLU,
    FeedForward,
    GroupNorm,
    Linear,
    QuickGELU,
    doubled,
    onednn_agrees,
    swish,
    zeroed,
)

CRASH = """
import torch
from sfumato.nn.layers import GroupNorm
norm = GroupNorm(4, 8)
x = torch.linspace(-1, 2, 2 * 8 * 5 * 7).view(2, 8, 5, 7).sin()
torch.manual_seed(0)
weight = torch.randn(2, 8, 5, 7)
gradients = []
for layout in (torch.contiguous_format, torch.channels_last):
    norm.zero_grad()
    (norm(x.contiguous(memory_format=layout)) * weight).sum().backward()
    gradients.append(norm.weight.grad)
assert torch.allclose(*gradients, atol=1e-5)
"""


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_a_trainable_norm_after_frozen_channels_last_layers_does_not_crash():
    """In a process of its own: the plain nn.GroupNorm of torch 2.13 ends it with a segmentation fault."""
    done = subprocess.run([sys.executable, "-c", CRASH], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_norm_keeps_the_layout_of_what_it_is_given():
    x = noise(2, 8, 5, 7).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        assert GroupNorm(4, 8)(x).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("bias", [True, False])
def test_linear_equals_pytorch_on_both_sides_of_the_threshold(bias):
    assert onednn_agrees()
    layer = Linear(257, 130, bias=bias)
    for rows in (3, 400):
        x = noise(2, rows, 257)
        assert (x.numel() * 130 >= layers.ONEDNN_FROM) == (rows == 400)
        exact = linear(x.double(), layer.weight.double(), None if layer.bias is None else layer.bias.double())
        with torch.no_grad():
            assert (layer(x) - exact).abs().max() < 5e-6
        x.requires_grad_()
        layer(x).sum().backward()
        torch.testing.assert_close(x.grad, layer.weight.sum(0).expand_as(x), atol=1e-4, rtol=1e-4)


def test_linear_has_the_names_of_pytorch_and_falls_back(monkeypatch):
    layer, theirs = Linear(300, 200), nn.Linear(300, 200)
    layer.load_state_dict(theirs.state_dict())
    monkeypatch.setattr(layers, "onednn_agrees", lambda: False)
    x = noise(500, 300)
    with torch.no_grad():
        assert torch.equal(layer(x), theirs(x))
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(x).dtype == torch.bfloat16


@torch.no_grad()
def test_autocast_is_obeyed():
    with torch.autocast("cpu", torch.bfloat16):
        assert Linear(300, 200)(noise(500, 300)).dtype == torch.bfloat16


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("size", [(3, 5), (17, 21)], ids=["plain", "by phases"])
def test_doubling_equals_repetition_and_convolution(layout, size):
    conv = nn.Conv2d(6, 7, 3, padding=1).double()
    x = noise(2, 6, *size).double().contiguous(memory_format=layout).requires_grad_()
    back = noise(2, 7, 2 * size[0], 2 * size[1], seed=1).double()
    expected = conv(interpolate(x, scale_factor=2, mode="nearest"))
    wanted = torch.autograd.grad(expected, [x, *conv.parameters()], back)
    mine = doubled(x, conv)
    got = torch.autograd.grad(mine, [x, *conv.parameters()], back)
    for ours, theirs in zip((mine, *got), (expected, *wanted), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-10)


def test_feed_forward_equals_that_of_diffusers():
    theirs, ours = TheirFeedForward(12, activation_fn="geglu"), FeedForward(12)
    ours.load_state_dict(theirs.state_dict())
    x = noise(2, 35, 12)
    torch.testing.assert_close(ours(x), theirs(x), atol=1e-6, rtol=1e-6)


def test_activations():
    x = noise(3, 5, 4)
    torch.testing.assert_close(QuickGELU()(x), QuickGELUActivation()(x))
    value, gate = GEGLU(4, 6).proj(x).chunk(2, -1)
    assert value.shape == gate.shape == (3, 5, 6)
    asked = x.clone().requires_grad_()
    torch.testing.assert_close(swish(asked), x * x.sigmoid())
    with torch.no_grad():
        mine = x.clone()
        assert swish(mine) is mine


def test_zeroed_layers_add_nothing():
    assert not zeroed(nn.Conv2d(3, 4, 1))(noise(2, 3, 5, 6)).any()
