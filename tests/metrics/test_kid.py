"""Kernel distance against torchmetrics and plain loops."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchmetrics.image.kid import KernelInceptionDistance

from sfumato.errors import UsageError
from sfumato.metrics.kid import cubic, discrepancy, kernel_distance


def normal(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def test_agrees_with_torchmetrics_where_the_subset_is_the_set():
    class Flat(nn.Module):
        num_features = 24

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.float().flatten(1) / 64

    generator = torch.Generator().manual_seed(0)
    real = torch.randint(0, 256, (31, 3, 2, 4), generator=generator, dtype=torch.uint8)
    fake = torch.randint(40, 200, (31, 3, 2, 4), generator=generator, dtype=torch.uint8)
    peer = KernelInceptionDistance(feature=Flat(), subsets=2, subset_size=31)
    peer.update(real, real=True)
    peer.update(fake, real=False)
    ours = kernel_distance(Flat()(real), Flat()(fake), subsets=2, size=31)
    assert ours.value == pytest.approx(peer.compute()[0].item(), rel=1e-4)
    assert ours.spread == pytest.approx(0, abs=1e-9)


def test_is_the_mean_over_pairs_of_different_members():
    x, y = normal(5, 3, 0).double(), normal(7, 3, 1).double()
    k = lambda a, b: (float(a @ b) / 3 + 1) ** 3
    xx = [k(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j]
    yy = [k(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j]
    xy = [k(a, b) for a in x for b in y]
    expected = sum(xx) / len(xx) + sum(yy) / len(yy) - 2 * sum(xy) / len(xy)
    assert discrepancy(x, y).item() == pytest.approx(expected, rel=1e-10)
    assert cubic(x, y).shape == (5, 7)


def test_is_unbiased_whatever_n():
    """Two samples of one distribution: 0 on average, from 10 pictures or from 80."""
    for n in (10, 80):
        values = torch.tensor(
            [discrepancy(normal(n, 4, 2 * s), normal(n, 4, 2 * s + 1)).item() for s in range(200)]
        )
        assert abs(values.mean()) < 3 * values.std() / 200**0.5


def test_sees_a_shift_and_says_how_sure_it_is():
    result = kernel_distance(normal(300, 6, 0), normal(200, 6, 1) + 0.7, subsets=20)
    assert result.size == 100
    assert result.value > 5 * result.spread > 0
    assert result == kernel_distance(normal(300, 6, 0), normal(200, 6, 1) + 0.7, subsets=20)


@pytest.mark.parametrize("size", [1, 21])
def test_subsets_must_fit(size):
    with pytest.raises(UsageError, match=f"Subsets of {size} pictures cannot be drawn from 20"):
        kernel_distance(normal(20, 3, 0), normal(30, 3, 1), size=size)
