"""The probe finds what is linear in the features, and nothing where there is nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sfumato.errors import DataError
from sfumato.metrics.probe import probe


def points(count: int, seed: int, gap: float) -> tuple[Tensor, Tensor]:
    """Three classes, ``gap`` standard deviations apart along three of eleven axes."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    x = torch.randn(count, 11, generator=generator)
    x[torch.arange(count), labels] += gap
    return 40 * x, labels


def test_what_is_linear_is_found():
    found = probe(*points(240, 0, 6.0), *points(300, 1, 6.0), per_class=20, draws=4)
    assert found.accuracy > 0.98
    assert found.draws == 4
    assert 0 <= found.spread < 0.02


def test_nothing_is_found_in_noise():
    found = probe(*points(240, 0, 0.0), *points(300, 1, 0.0), per_class=20, draws=4)
    assert found.accuracy == pytest.approx(1 / 3, abs=0.1)


def test_scale_does_not_matter_and_draws_repeat():
    (x, labels), (y, truth) = points(240, 0, 1.5), points(300, 1, 1.5)
    one = probe(x, labels, y, truth, per_class=20, draws=2)
    assert probe(x / 1000, labels, y / 1000, truth, per_class=20, draws=2).accuracy == one.accuracy
    assert probe(x, labels, y, truth, per_class=20, draws=2, seed=9).accuracy != one.accuracy


def test_too_few_examples():
    with pytest.raises(DataError, match="rarest class has 10 examples, but 6 to learn from"):
        probe(*points(30, 0, 1.0), *points(30, 1, 1.0), per_class=6)
