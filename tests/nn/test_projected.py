"""Projections that never learn and mix what they should, and critics of bounded steepness at every scale."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate

from sfumato.nn.projected import ProjectedCritic, Projection, ScaleCritic

WIDTHS, SIDES = (5, 6, 7), (12, 12, 5)


def maps(count: int = 2, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = zip(WIDTHS, SIDES, strict=True)
    return [torch.randn(count, width, side, side + 1, generator=generator) for width, side in shapes]


@pytest.mark.parametrize("mixing", ["scales", "channels", "none"])
def test_a_projection_has_the_widths_it_says_and_nothing_to_learn(mixing):
    projection = Projection(WIDTHS, 4, mixing)
    out = projection(maps())
    assert tuple(x.shape[1] for x in out) == projection.widths
    assert not [p for p in projection.parameters() if p.requires_grad]
    x = maps()
    x[1].requires_grad_()
    out = projection(x)
    sum(part.sum() for part in out).backward()
    assert x[1].grad is not None


def test_mixing_of_channels_is_one_random_matrix_a_map():
    projection = Projection(WIDTHS, 4, "channels")
    seen = maps()
    for conv, x, out in zip(projection.channels, seen, projection(seen), strict=True):
        assert torch.allclose(out, torch.einsum("oi,bihw->bohw", conv.weight[:, :, 0, 0], x), atol=1e-5)


def test_mixing_of_scales_hands_coarse_maps_to_finer_ones():
    projection, seen = Projection(WIDTHS, 4, "scales"), maps()
    mixed = [conv2d(x, c.weight, c.bias) for c, x in zip(projection.channels, seen, strict=True)]
    coarse = conv2d(
        interpolate(mixed[2], (12, 13), mode="bilinear", align_corners=True), projection.scales[2].weight
    )
    middle = conv2d(mixed[1] + coarse, projection.scales[1].weight)
    fine = conv2d(mixed[0] + middle, projection.scales[0].weight)
    for out, expected in zip(projection(seen), (fine, middle, coarse), strict=True):
        assert torch.allclose(out, expected, atol=1e-4)
    seen[2] = seen[2] + 1
    assert not torch.allclose(projection(seen)[0], fine), "the finest knows of the coarsest"
    seen[0] = seen[0] + 1
    changed = [*maps()[:2], seen[2]]
    assert torch.allclose(projection(seen)[1], projection(changed)[1]), "but not the other way"


def test_critics_judge_places_at_every_scale():
    critic = ProjectedCritic(WIDTHS, (20, 9, 3), width=4, inner=6, mixing="none")
    seen = [torch.randn(3, w, s, s) for w, s in zip(WIDTHS, (20, 9, 3), strict=True)]
    verdicts = critic(seen)
    assert verdicts.shape == (3, 4 + 1 + 1)
    moving = {name for name, p in critic.named_parameters() if p.requires_grad}
    assert moving
    assert not any(name.startswith("projection") for name in moving)


def test_convolutions_keep_to_a_norm_of_one():
    critic = ScaleCritic(5, 8, 6)
    for _ in range(30):
        critic(torch.randn(2, 5, 8, 8))
    for layer in critic.main:
        if isinstance(layer, torch.nn.Conv2d):
            assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, abs=0.05)
