"""Spectral normalisation against singular values, and against PyTorch's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from sfumato.nn.spectral import bounded

LAYERS = {
    "linear": (lambda: nn.Linear(5, 7), (3, 5)),
    "convolution": (lambda: nn.Conv2d(3, 6, (2, 3)), (2, 3, 5, 7)),
    "transposed": (lambda: nn.ConvTranspose2d(3, 6, 4), (2, 3, 5, 7)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_the_largest_singular_value_becomes_one(name):
    build, shape = LAYERS[name]
    torch.manual_seed(0)
    plain = build()
    layer, theirs = bounded(build()), spectral_norm(build())
    layer.parametrizations.weight.original.data.copy_(plain.weight)
    theirs.parametrizations.weight.original.data.copy_(plain.weight)
    x = torch.randn(shape)
    for _ in range(120):
        layer(x)
        theirs(x)
    matrix = layer.weight.transpose(0, 1) if name == "transposed" else layer.weight
    assert torch.linalg.svdvals(matrix.flatten(1))[0].item() == pytest.approx(1, abs=1e-3)
    assert torch.allclose(layer.weight, theirs.weight, atol=1e-3)
    layer.eval()
    kept = layer.parametrizations.weight[0].u.clone()
    layer(x)
    assert torch.equal(layer.parametrizations.weight[0].u, kept)


def test_two_passes_before_one_gradient():
    torch.manual_seed(0)
    layer = bounded(nn.Linear(4, 3))
    (layer(torch.randn(2, 4)).sum() + layer(torch.randn(2, 4)).square().sum()).backward()
    assert layer.parametrizations.weight.original.grad.isfinite().all()
    assert set(layer.state_dict()) == {
        "bias",
        "parametrizations.weight.original",
        "parametrizations.weight.0.u",
    }
