"""Masks for inpainting: boxes, strokes and the whole, each a pure function of its own stream."""

from __future__ import annotations

import torch

from sfumato.core.masks import BOXES, KINDS, SIDES, drawn
from sfumato.core.rng import Rng

MANY = drawn(Rng.training(0, 0, range(400)), 20, 36)


def test_a_mask_is_0_or_1_and_covers_something():
    assert MANY.shape == (400, 1, 20, 36)
    assert MANY.unique().tolist() == [0, 1]
    assert (MANY.flatten(1).amax(1) == 1).all()


def test_the_kinds_come_as_often_as_declared():
    whole = (MANY == 1).flatten(1).all(1)
    rows, columns = MANY[:, 0].amax(2), MANY[:, 0].amax(1)
    boxes = (MANY[:, 0] == rows[:, :, None] * columns[:, None]).flatten(1).all(1) & ~whole
    for kind, share in ((whole, 1 / KINDS), (boxes, BOXES / KINDS)):
        assert abs(kind.float().mean().item() - share) <= 3.5 * (share * (1 - share) / 400) ** 0.5
    sides = torch.cat([rows[boxes].mean(1), columns[boxes].mean(1)])
    assert sides.min() >= SIDES[0] - 0.06
    assert sides.max() <= SIDES[1] + 0.06


def test_a_mask_does_not_depend_on_its_neighbours():
    alone = drawn(Rng.training(0, 0, range(7, 8)), 20, 36)
    assert torch.equal(MANY[7:8], alone)


def test_masks_of_another_size_show_the_same():
    large = drawn(Rng.training(0, 0, range(40)), 80, 144)
    small = torch.nn.functional.avg_pool2d(large, 4).round()
    assert (small == MANY[:40]).float().mean() > 0.97
