"""Inception score against its extreme cases and torchmetrics."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchmetrics.image.inception import InceptionScore

from sfumato.errors import UsageError
from sfumato.metrics.inception_score import inception_score


@pytest.mark.parametrize("classes", [2, 7, 10])
def test_certain_and_evenly_spread_answers_score_the_number_of_classes(classes):
    logits = torch.eye(classes).repeat(3, 1).log()
    assert inception_score(logits, splits=1).value == pytest.approx(classes, rel=1e-12)


def test_answers_that_are_all_alike_score_one():
    same = torch.tensor([[0.3, -1.0, 2.0]]).repeat(20, 1)
    assert inception_score(same, splits=4).value == pytest.approx(1, rel=1e-12)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(2, 40), classes=st.integers(2, 9), splits=st.integers(1, 2), seed=st.integers(0, 999))
def test_lies_between_one_and_the_number_of_classes(n, classes, splits, seed):
    logits = 4 * torch.randn(n, classes, generator=torch.Generator().manual_seed(seed))
    assert 1 - 1e-9 <= inception_score(logits, splits=splits).value <= classes + 1e-9


def test_agrees_with_torchmetrics():
    """With one split the shuffle cannot matter."""

    class Logits(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.float().flatten(1) / 60

    pictures = torch.randint(0, 256, (53, 3, 2, 3), generator=torch.Generator().manual_seed(1)).byte()
    peer = InceptionScore(feature=Logits(), splits=1)
    peer.update(pictures)
    ours = inception_score(Logits()(pictures), splits=1)
    assert ours.value == pytest.approx(peer.compute()[0].item(), rel=1e-5)


def test_more_splits_than_pictures_are_refused():
    with pytest.raises(UsageError, match="3 pictures cannot be cut into 10 splits"):
        inception_score(torch.zeros(3, 4))
