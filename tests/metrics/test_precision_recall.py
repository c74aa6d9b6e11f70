"""Precision and recall against brute force and the cases whose answer is known."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from sfumato.errors import UsageError
from sfumato.metrics import neighbours
from sfumato.metrics.precision_recall import precision_recall, squared_radii


def normal(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=20, deadline=None)
@given(n=st.integers(5, 50), d=st.integers(1, 30), copies=st.integers(0, 5), shift=st.floats(-100, 100))
def test_identical_sets_cover_each_other(n, d, copies, shift):
    """Also where pictures occur twice or more often (their balls have no extent) and lie far from 0."""
    x = normal(n, d, n) + shift
    x = torch.cat([x, x[:1].repeat(copies, 1)])
    result = precision_recall(x, x[torch.randperm(len(x))])
    assert (result.precision, result.recall) == (1.0, 1.0)


@settings(max_examples=15, deadline=None)
@given(n=st.integers(6, 40), m=st.integers(6, 40), k=st.integers(1, 5), seed=st.integers(0, 999))
def test_agrees_with_brute_force(n, m, k, seed):
    real, fake = normal(n, 4, seed), normal(m, 4, seed + 1) * 0.8
    radius = lambda x: torch.tensor(cdist(x, x)).sort(1).values[:, k]
    between = torch.tensor(cdist(fake, real))
    result = precision_recall(real, fake, k=k)
    assert result.precision == pytest.approx((between <= radius(real)).any(1).float().mean().item())
    assert result.recall == pytest.approx((between <= radius(fake)[:, None]).any(0).float().mean().item())
    assert result.n == (n, m)


def test_a_dropped_mode_halves_recall_and_leaves_precision():
    """Real: two far modes. Generated: only one of them, fresh."""
    real = torch.cat([normal(400, 3, 0), normal(400, 3, 1) + 30])
    result = precision_recall(real, normal(800, 3, 2))
    assert result.recall == pytest.approx(0.5, abs=0.03)
    assert result.precision > 0.95


def test_an_invented_mode_halves_precision_and_leaves_recall():
    fake = torch.cat([normal(400, 3, 0), normal(400, 3, 1) + 30])
    result = precision_recall(normal(800, 3, 2), fake)
    assert result.precision == pytest.approx(0.5, abs=0.03)
    assert result.recall > 0.95


def test_blocks_do_not_change_the_answer(monkeypatch):
    """More rows than a block of distances holds."""
    monkeypatch.setattr(neighbours, "BLOCK", 400_000)
    real, fake = normal(1203, 5, 0), normal(1101, 5, 1) + 0.5
    assert torch.allclose(
        squared_radii(real), torch.tensor(cdist(real, real)).sort(1).values[:, 3].square().float(), atol=1e-5
    )
    whole = precision_recall(real, fake)
    assert 0 < whole.precision < 1
    assert whole.spread[0] == pytest.approx((whole.precision * (1 - whole.precision) / 1101) ** 0.5)


def test_sets_smaller_than_k_are_refused():
    with pytest.raises(UsageError, match="3 pictures have no 3-th neighbours"):
        precision_recall(normal(3, 2, 0), normal(9, 2, 1))
