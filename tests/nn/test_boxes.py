"""A reader of layouts: what it is told shows, and empty places stay empty."""

from __future__ import annotations

import math

import torch

from sfumato.nn.boxes import WAVES, Boxes, BoxesConfig, waves

torch.manual_seed(0)
TOWER = Boxes(BoxesConfig(things=("a", "b"), most=3, width=24, depth=1, heads=2)).eval()
LAYOUT = torch.tensor([[[1, 0.1, 0.2, 0.5, 0.6], [2, 0.3, 0.4, 0.9, 0.7], [0, 0, 0, 0, 0]]])


@torch.no_grad()
def read(layout: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return TOWER(layout)


def test_three_tokens_a_box_and_a_mean_over_those_that_hold_something():
    tokens, pooled = read(LAYOUT)
    assert tokens.shape == (1, 9, 24)
    torch.testing.assert_close(pooled, tokens[:, :6].mean(1))
    nothing, pooled = read(torch.zeros(2, 3, 5))
    torch.testing.assert_close(nothing[0], nothing[1])
    assert not pooled.any()


def test_every_number_of_a_box_counts():
    tokens, _ = read(LAYOUT)
    for place in range(5):
        other = LAYOUT.clone()
        other[0, 0, place] = 2 if place == 0 else other[0, 0, place] + 0.03
        assert (read(other)[0] - tokens).abs().max() > 1e-2


def test_sides_of_an_empty_place_are_not_read():
    other = LAYOUT.clone()
    other[0, 2, 1:] = 0.4
    assert torch.equal(read(other)[0], read(LAYOUT)[0])


def test_coordinates_are_sines_and_cosines():
    found = waves(torch.tensor([0.25, 0.7]))
    assert found.shape == (4 * WAVES,)
    angle = math.pi * 0.7 * 2 ** (WAVES - 1)
    torch.testing.assert_close(
        found[[0, 4 * WAVES - 1]], torch.tensor([math.sin(math.pi / 4), math.cos(angle)])
    )
