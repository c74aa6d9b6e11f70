"""Structural similarity against two other implementations and against what follows from its equation."""

from __future__ import annotations

import pytest
import torch
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import structural_similarity_index_measure

from sfumato.errors import DataError
from sfumato.metrics.ssim import ssim


def pairs(
    count: int = 3, channels: int = 3, height: int = 23, width: int = 37
) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(count)
    x = torch.rand(count, channels, height, width, generator=generator) * 2 - 1
    y = (x + 0.3 * torch.randn(x.shape, generator=generator)).clamp(-1, 1)
    return x, y


@pytest.mark.parametrize("span", [1.0, 2.0])
def test_it_is_the_similarity_of_others(span):
    x, y = pairs()
    ours = ssim(x, y, span=span)
    _, maps = structural_similarity_index_measure(x, y, data_range=span, return_full_image=True)
    whole = (
        maps[:, :, 5:-5, 5:-5].flatten(1).mean(1)
    )  # torchmetrics mirrors the edges: those windows are no data
    assert torch.allclose(ours, whole, atol=2e-5)
    for k in range(len(x)):
        settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
        value = structural_similarity(
            x[k].double().numpy(), y[k].double().numpy(), data_range=span, channel_axis=0, **settings
        )
        assert ours[k].item() == pytest.approx(value, abs=1e-5)


def test_equal_pictures_are_alike_and_order_does_not_matter():
    x, y = pairs(channels=1)
    assert torch.allclose(ssim(x, x), torch.ones(3))
    assert torch.allclose(ssim(x, y), ssim(y, x))
    assert (ssim(x, y) < 0.97).all()


def test_flat_pictures_differ_by_their_light_alone():
    a, b = 0.2, 0.6
    value = ssim(torch.full((1, 2, 12, 15), a), torch.full((1, 2, 12, 15), b)).item()
    c1 = (0.01 * 2) ** 2
    assert value == pytest.approx((2 * a * b + c1) / (a * a + b * b + c1), abs=1e-5)


def test_a_border_is_left_out():
    x, y = pairs()
    y[:, :, :4] = 1.0
    assert torch.allclose(ssim(x, y, border=4), ssim(x[:, :, 4:-4, 4:-4], y[:, :, 4:-4, 4:-4]))


def test_small_pictures_are_refused():
    with pytest.raises(DataError, match="windows of 11 pixels; 10 x 40 is too small"):
        ssim(*pairs(height=10, width=40))
    with pytest.raises(DataError, match="8 x 22 is too small"):
        ssim(*pairs(height=12, width=26), border=2)
