"""The contrastive game against its definition, twins among the texts, and its scale."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import normalize

from sfumato.core.contrastive import contrastive_losses


def pairs(count: int = 5, width: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    images, texts = (torch.randn(count, width, generator=draw) for _ in range(2))
    return normalize(images, dim=1), normalize(texts, dim=1)


def test_the_loss_is_the_mean_of_the_cross_entropies_of_rows_and_columns():
    images, texts = pairs()
    scores = (13.0 * images @ texts.T).double()
    rows = -(scores.diag() - scores.logsumexp(1)).mean()
    columns = -(scores.diag() - scores.logsumexp(0)).mean()
    found = contrastive_losses(images, texts, torch.tensor(13.0))
    assert found["image"].item() == pytest.approx(rows.item() / 2, rel=1e-5)
    assert found["text"].item() == pytest.approx(columns.item() / 2, rel=1e-5)


def test_pairs_alike_know_nothing_and_pairs_apart_everything():
    alike = torch.ones(6, 1)
    assert contrastive_losses(alike, alike, torch.tensor(9.0))["image"].item() == pytest.approx(
        math.log(6) / 2
    )
    apart = torch.eye(6)
    assert contrastive_losses(apart, apart, torch.tensor(100.0))["text"].item() < 1e-6


def test_a_caption_said_twice_is_nobodys_mistake():
    """Rows 1 and 3 say the same; neither is asked to tell its text, or its picture, from the other's."""
    images, texts = pairs()
    texts[3] = texts[1]
    tokens = torch.tensor([[1, 2], [3, 4], [5, 6], [3, 4], [7, 8]])
    found = contrastive_losses(images, texts, torch.tensor(20.0), tokens)
    want = {"image": 0.0, "text": 0.0}
    for i in range(5):
        others = [j for j in range(5) if j == i or not torch.equal(tokens[i], tokens[j])]
        for side, (mine, theirs) in {"image": (images, texts), "text": (texts, images)}.items():
            scores = 20 * theirs[others] @ mine[i]
            want[side] += (scores.logsumexp(0) - 20 * theirs[i] @ mine[i]).item() / 10
    assert {k: v.item() for k, v in found.items()} == pytest.approx(want, rel=1e-5)
    careless = contrastive_losses(images, texts, torch.tensor(20.0))
    assert careless["image"] > found["image"] + 0.05


def test_near_misses_are_more_to_tell_a_picture_from_and_each_has_its_own():
    images, texts = pairs()
    misses = normalize(
        texts[:, None] + 0.3 * torch.randn(5, 2, 7, generator=torch.Generator().manual_seed(2)), dim=2
    )
    found = contrastive_losses(images, texts, torch.tensor(20.0), misses=misses)
    want = 0.0
    for i in range(5):
        scores = 20 * torch.cat([texts, misses[i]]) @ images[i]
        want += (scores.logsumexp(0) - scores[i]).item() / 10
    assert found["image"].item() == pytest.approx(want, rel=1e-5)
    alone = contrastive_losses(images, texts, torch.tensor(20.0))
    assert found["text"].item() == pytest.approx(alone["text"].item())
    assert found["image"] > alone["image"]


def test_half_precision_outside_does_not_blur_the_scores():
    images, texts = pairs(40, 16)
    exact = contrastive_losses(images, texts, torch.tensor(100.0))
    with torch.autocast("cpu", torch.bfloat16):
        found = contrastive_losses(images, texts, torch.tensor(100.0))
    assert found["image"].item() == pytest.approx(exact["image"].item(), rel=1e-6)
