"""Ways through latent space keep their promises about ends, lengths and steps."""

from __future__ import annotations

import pytest
import torch

from sfumato.core.latent import between, walk


@pytest.mark.parametrize("way", ["lerp", "slerp"])
def test_a_way_begins_and_ends_where_it_should(way):
    start, end = torch.randn(2, 5, 3, 7)
    assert torch.allclose(between(start, end, torch.zeros(5), way), start, atol=1e-6)
    assert torch.allclose(between(start, end, torch.ones(5), way), end, atol=1e-6)


def test_a_great_circle_keeps_the_length_and_turns_evenly():
    start, end = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    share = torch.linspace(0, 1, 7)
    path = between(start.expand(7, 2), end.expand(7, 2), share, "slerp")
    assert torch.allclose(path.norm(dim=1), torch.full((7,), 2.0), atol=1e-6)
    assert torch.allclose(torch.atan2(path[:, 1], path[:, 0]), share * torch.pi / 2, atol=1e-6)


def test_opposite_and_equal_points_are_joined_by_a_line():
    point = torch.tensor([[1.0, 2.0], [1.0, 2.0]])
    other = torch.tensor([[1.0, 2.0], [-1.0, -2.0]])
    path = between(point, other, torch.tensor([0.5, 0.25]), "slerp")
    assert torch.allclose(path, torch.tensor([[1.0, 2.0], [0.5, 1.0]]), atol=1e-6)


def test_a_walk_visits_every_point_and_a_loop_comes_home():
    points = torch.randn(4, 3, 2)
    path = walk(points, 5, "slerp")
    assert len(path) == 16
    assert torch.allclose(path[::5], points, atol=1e-6)
    loop = walk(points, 5, "lerp", loop=True)
    assert len(loop) == 20
    assert torch.allclose(loop[-1], points[3] + 0.8 * (points[0] - points[3]), atol=1e-6)
