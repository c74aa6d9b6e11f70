"""Patterns against scikit-image, edges against scipy, and controls that are as they should be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import sobel
from skimage.feature import local_binary_pattern

from sfumato.data.textures import paint
from sfumato.errors import DataError
from sfumato.metrics.texture import (
    RINGS,
    chi_square,
    colours,
    edge_correlation,
    edges,
    grey,
    histogram_matched,
    nearest_styles,
    patterns,
    texture,
)

X = torch.stack([paint(k, 40, 52) for k in (5, 7)])


@pytest.mark.parametrize(("points", "radius"), RINGS)
def test_patterns_are_scikit_image_s(points, radius):
    ours = patterns(grey(X), points, radius)
    rim = int(radius)
    for picture, seen in zip(X, ours, strict=True):
        theirs = local_binary_pattern(grey(picture[None])[0].double().numpy(), points, radius, "uniform")
        assert (seen.numpy() == theirs[rim:-rim, rim:-rim]).mean() > 0.99  # ties are decided by rounding


def test_shares_sum_to_one_and_flat_pictures_have_one_pattern():
    assert torch.allclose(texture(X).sum(1), torch.ones(2), atol=1e-5)
    assert torch.allclose(colours(X).sum(1), torch.ones(2), atol=1e-5)
    flat = texture(torch.zeros(1, 3, 20, 20))
    assert (flat > 0).sum() == len(RINGS)
    with pytest.raises(DataError, match="Patterns of radius 3 need more than 6 pixels a side, got 6 x 20"):
        texture(torch.zeros(1, 3, 6, 20))


def test_patterns_do_not_see_how_light_or_turned_it_is():
    assert torch.allclose(texture(X * 0.5 + 0.2), texture(X), atol=0.01)
    assert chi_square(texture(X.rot90(1, (2, 3))), texture(X)).max() < 0.01
    assert chi_square(texture(X[:1]), texture(X[1:])) > 0.05


def test_chi_square_by_hand():
    a, b = torch.tensor([[0.5, 0.5, 0.0]]), torch.tensor([[0.25, 0.25, 0.5]])
    assert chi_square(a, b).item() == pytest.approx(2 * 0.0625 / 0.75 + 0.5)
    assert chi_square(a, a).item() == 0
    assert chi_square(torch.eye(2)[:1], torch.eye(2)[1:]).item() == pytest.approx(2)


def test_edges_are_scipy_s():
    y = grey(X)[0].double().numpy()
    theirs = np.hypot(sobel(y, 0), sobel(y, 1))[1:-1, 1:-1] / 8
    assert np.allclose(edges(X)[0].numpy(), theirs, atol=1e-5)
    assert edge_correlation(X, 0.5 * X + 0.1).tolist() == pytest.approx([1, 1], abs=1e-4)
    assert edge_correlation(X, X.flip(3)).abs().max() < 0.3


def test_pieces_of_a_style_are_nearest_to_it():
    styles = torch.stack([paint(k, 64, 64) for k in range(160, 172)])
    pieces = torch.stack([paint(k, 64, 64, variant=1) for k in range(160, 172)])
    assert (nearest_styles(pieces, styles) == torch.arange(12)).float().mean() > 0.9


def test_the_control_has_the_style_s_colours_and_its_own_edges():
    style = paint(18, 33, 47)
    matched = histogram_matched(X[0], style)
    for ours, theirs in zip(matched, style, strict=True):
        wanted = torch.quantile(theirs.flatten(), torch.linspace(0.1, 0.9, 9))
        assert torch.allclose(torch.quantile(ours.flatten(), torch.linspace(0.1, 0.9, 9)), wanted, atol=0.02)
    order = X[0, 0].flatten().argsort()
    assert (matched[0].flatten()[order].diff() >= 0).all()
