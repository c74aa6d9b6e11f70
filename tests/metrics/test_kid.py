"""Kernel distance against torchmetrics and plain loops."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchmetrics.image.kid import KernelInceptionDistance

from sfumato.errors import UsageError
from sfumato.metrics import kid
from sfumato.metrics.kid import cubic, kernel_distance


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
    x, y = normal(5, 3, 0).double(), normal(5, 3, 1).double()
    k = lambda a, b: (float(a @ b) / 3 + 1) ** 3
    xx = [k(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j]
    yy = [k(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j]
    xy = [k(a, b) for a in x for b in y]
    expected = sum(xx) / len(xx) + sum(yy) / len(yy) - 2 * sum(xy) / len(xy)
    assert kernel_distance(x, y, subsets=1, size=5).value == pytest.approx(expected, rel=1e-10)
    assert cubic(x, y[:4]).shape == (5, 4)


def test_is_unbiased_whatever_n():
    """Two samples of one distribution: 0 on average, from 10 pictures or from 80."""
    for n in (10, 80):
        values = torch.tensor(
            [
                kernel_distance(normal(n, 4, 2 * s), normal(n, 4, 2 * s + 1), subsets=1, size=n).value
                for s in range(200)
            ]
        )
        assert abs(values.mean()) < 3 * values.std() / 200**0.5


def test_sees_a_shift_and_says_how_sure_it_is():
    result = kernel_distance(normal(300, 6, 0), normal(200, 6, 1) + 0.7, subsets=20)
    assert result.size == 100
    assert result.value > 5 * result.spread > 0
    assert result == kernel_distance(normal(300, 6, 0), normal(200, 6, 1) + 0.7, subsets=20)


def test_subsets_are_what_they_would_be_one_by_one(monkeypatch):
    """All subsets at once, and in blocks of rows, give the spread of subsets taken singly."""
    monkeypatch.setattr(kid, "BLOCK", 7)
    x, y = normal(40, 6, 0), normal(25, 6, 1) + 0.3
    together = kernel_distance(x, y, subsets=9, size=11, seed=4)
    generator = torch.Generator().manual_seed(4)
    rows = [[torch.randperm(len(z), generator=generator)[:11] for _ in range(9)] for z in (x, y)]
    single = torch.tensor(
        [kernel_distance(x[i], y[j], subsets=1, size=11).value for i, j in zip(*rows, strict=True)]
    )
    assert together.value == pytest.approx(single.mean().item(), rel=1e-5)
    assert together.spread == pytest.approx(single.std().item(), rel=1e-5)


@pytest.mark.parametrize("size", [1, 21])
def test_subsets_must_fit(size):
    with pytest.raises(UsageError, match=f"Subsets of {size} pictures cannot be drawn from 20"):
        kernel_distance(normal(20, 3, 0), normal(30, 3, 1), size=size)
