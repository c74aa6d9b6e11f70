"""The thin-plate spline: at rest it changes nothing, it goes through its points, and bends least."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.interpolate import RBFInterpolator

from sfumato.errors import UsageError
from sfumato.nn.tps import TPS, TPSConfig, centres, falling, resting, spline

UPRIGHT = TPSConfig(points=12, width=2, hidden=8, upright=True, align_corners=False)
X = torch.rand(2, 1, 34, 53, generator=torch.Generator().manual_seed(0)) * 2 - 1


def bent(points: int, seed: int) -> torch.Tensor:
    return resting(points) + 0.2 * torch.randn(
        points, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )


def test_at_rest_the_grid_is_the_identity():
    tps = TPS(1, 24, 80, TPSConfig(points=20))
    grid = tps.grid(resting(20).float()[None])[0]
    assert (grid.reshape(-1, 2) - centres(24, 80)).abs().max() < 1e-5


def test_at_rest_the_picture_comes_through_unchanged_only_without_aligned_corners():
    assert (TPS(1, 34, 53, UPRIGHT)(X) - X).abs().max() < 1e-4
    public = TPSConfig(points=12, width=2, hidden=8, upright=True, align_corners=True)
    assert (TPS(1, 34, 53, public)(X) - X).abs().max() > 0.1


def test_the_paper_begins_with_points_that_fall():
    points = falling(6)
    assert points.tolist() == [[-1, 0], [0, -0.5], [1, -1], [-1, 1], [0, 0.5], [1, 0]]
    tps = TPS(1, 34, 53, TPSConfig(points=6, width=2, hidden=8))
    assert torch.equal(tps.LocalizationNetwork(X)[1], points.float()), "whatever the picture, at first"


def test_the_spline_agrees_with_scipy():
    points, to, places = resting(8), bent(8, 1), centres(5, 7)
    wanted = RBFInterpolator(points.numpy(), to.numpy(), kernel="thin_plate_spline", degree=1)(places.numpy())
    assert np.allclose((spline(points, places) @ to).numpy(), wanted, atol=1e-9)
    assert torch.allclose(spline(points, points) @ to, to, atol=1e-9), "it goes through its points"


def test_an_affine_change_of_the_points_is_one_of_the_grid():
    matrix, shift = torch.tensor([[0.8, 0.3], [-0.1, 1.1]]).double(), torch.tensor([0.2, -0.4]).double()
    places = centres(9, 13)
    assert torch.allclose(
        spline(resting(10), places) @ (resting(10) @ matrix + shift), places @ matrix + shift, atol=1e-9
    )


def test_a_bowed_word_is_bent_straight():
    """A line that follows the moved points becomes level."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 32), torch.linspace(-1, 1, 100), indexing="ij")
    bow = 0.4 * x.square() - 0.2
    line = torch.exp(-((y - bow) / 0.1).square())[None, None]
    tps = TPS(1, 32, 100, UPRIGHT)
    points = resting(12).float()
    points[:, 1] += 0.4 * points[:, 0].square() - 0.2
    tps.LocalizationNetwork.localization_fc2.bias.data = points.flatten()
    heights = [picture[0, 0].argmax(0).float() for picture in (line, tps(line))]
    assert heights[0].std() > 1.5
    assert heights[1].std() < 0.3


def test_half_precision_keeps_the_spline_exact():
    tps = TPS(1, 34, 53, UPRIGHT).to(torch.bfloat16)
    straight = tps(X.bfloat16())
    assert straight.dtype == torch.bfloat16
    assert (straight - X).abs().max() < 0.1, "points in half precision are a tenth of a pixel off"
    with torch.autocast("cpu", torch.bfloat16):
        grid = tps.grid(resting(12).float()[None])
    assert (grid.view(-1, 2) - centres(34, 53)).abs().max() < 1e-5
    assert not [name for name in tps.state_dict() if "Grid" in name]


@pytest.mark.parametrize("points", [4, 7])
def test_too_few_or_odd_points_are_refused(points):
    with pytest.raises(UsageError, match=f"even number of 6 control points or more, got {points}"):
        TPS(1, 32, 100, TPSConfig(points=points))
