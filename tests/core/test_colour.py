"""A style in the colours of a picture: equal mean and covariance, nothing where these are equal already."""

from __future__ import annotations

import torch

from sfumato.core.colour import matched


def colours(x: torch.Tensor) -> torch.Tensor:
    return torch.cat([x.flatten(1).mean(1)[:, None], x.flatten(1).cov(correction=0)], 1)


def test_the_colours_become_those_of_the_picture():
    generator = torch.Generator().manual_seed(0)
    style, given = (torch.rand(3, *size, generator=generator) for size in ((20, 31), (17, 12)))
    given = given * torch.tensor([0.9, 0.3, 0.5]).view(3, 1, 1) + given.flip(0) * 0.2
    moved = matched(style, given, steady=1e-7)
    assert moved.shape == style.shape
    assert torch.allclose(colours(moved), colours(given), atol=1e-5)
    assert not torch.allclose(colours(style), colours(given), atol=1e-2)
    assert torch.allclose(matched(style, style), style, atol=1e-5)


def test_a_style_of_one_colour_gets_the_mean():
    given = torch.rand(3, 9, 8)
    moved = matched(torch.full((3, 5, 5), 0.3), given)
    assert torch.allclose(moved, given.mean((1, 2), keepdim=True).expand(3, 5, 5), atol=1e-5)
