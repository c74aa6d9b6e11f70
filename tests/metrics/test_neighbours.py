"""Nearest neighbours against scipy, and the memorisation guard where the answer is known."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import KDTree

from sfumato.errors import UsageError
from sfumato.metrics.neighbours import memorisation, memorisation_without_held, nearest, squared_distances


def normal(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=15, deadline=None)
@given(n=st.integers(1, 60), m=st.integers(4, 70), d=st.integers(1, 6), seed=st.integers(0, 999))
def test_nearest_agrees_with_a_tree(n, m, d, seed):
    queries, reference = normal(n, d, seed), normal(m, d, seed + 1)
    found = nearest(queries, reference, k=3)
    distance, _ = KDTree(reference.numpy()).query(queries.numpy(), k=3)
    there = (queries[:, None] - reference[found.index]).norm(dim=2)
    assert torch.allclose(found.distance, there, atol=1e-6)
    assert torch.allclose(found.distance.double(), torch.from_numpy(distance), atol=1e-5)


def test_distances_stay_accurate_far_from_the_origin():
    x, y = normal(7, 5, 0) + 1000, normal(1300, 5, 1) + 1000
    ((start, ours),) = squared_distances(x, y)
    exact = torch.cdist(x.double(), y.double()).square()
    assert start == 0
    assert torch.allclose(ours.double(), exact, atol=1e-3, rtol=1e-4)


def test_copies_of_training_pictures_are_noticed():
    train, held = normal(200, 8, 0), normal(100, 8, 1)
    result = memorisation(train[:50], train, held)
    assert result.ratio == 0
    assert result.generated.index[:, 0].tolist() == list(range(50))
    assert result.warning is not None
    assert "may repeat what it has seen" in result.warning


def test_fresh_pictures_of_the_same_kind_have_ratio_one():
    train, held, fresh = normal(500, 8, 0), normal(400, 8, 1), normal(400, 8, 2)
    result = memorisation(fresh, train, held)
    assert result.ratio == pytest.approx(1, abs=3 * result.spread)
    assert 0 < result.spread < 0.05
    assert result.warning is None


def test_without_held_out_pictures_the_training_set_stands_in():
    result = memorisation_without_held(normal(400, 8, 2), normal(500, 8, 0))
    assert result.ratio == pytest.approx(1, abs=0.06)


def test_wrong_input_is_refused():
    with pytest.raises(UsageError, match="2 reference pictures have no 3 nearest"):
        nearest(normal(4, 2, 0), normal(2, 2, 1), k=3)
    with pytest.raises(UsageError, match="Held-out pictures are copies of training pictures"):
        memorisation(normal(4, 2, 0), normal(9, 2, 1), normal(9, 2, 1))
