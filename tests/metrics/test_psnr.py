"""Signal against noise: closed forms, scikit-image, and the luminance of super-resolution papers."""

from __future__ import annotations

import pytest
import torch
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio

from sfumato.errors import DataError
from sfumato.metrics.psnr import luminance, psnr


def test_it_is_the_ratio_of_others():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand(4, 3, 9, 14, generator=generator) * 2 - 1 for _ in range(2))
    for k, value in enumerate(psnr(x, y).tolist()):
        assert value == pytest.approx(
            peak_signal_noise_ratio(x[k].numpy(), y[k].numpy(), data_range=2), rel=1e-5
        )
    assert torch.allclose(psnr((x + 1) / 2, (y + 1) / 2, span=1.0), psnr(x, y))


def test_ten_times_the_error_costs_twenty_decibels():
    x = torch.zeros(1, 1, 5, 7)
    assert (psnr(x, x + 0.02) - psnr(x, x + 0.2)).item() == pytest.approx(20, abs=1e-4)
    assert psnr(x, x).item() == float("inf")


def test_a_border_is_left_out():
    x, y = torch.zeros(2, 1, 8, 9), torch.full((2, 1, 8, 9), 0.1)
    y[:, :, 0] = 1.0
    assert torch.allclose(psnr(x, y, border=1), torch.full((2,), 10 * torch.tensor(4 / 0.01).log10().item()))


def test_luminance_is_that_of_others():
    pixels = torch.rand(2, 3, 5, 6, generator=torch.Generator().manual_seed(1)) * 2 - 1
    ours = (luminance(pixels)[:, 0] + 1) * 127.5
    theirs = rgb2ycbcr(((pixels + 1) / 2).permute(0, 2, 3, 1).double().numpy())[..., 0]
    assert torch.allclose(ours, torch.from_numpy(theirs).float(), atol=1e-2)


def test_pictures_that_do_not_pair_are_refused():
    with pytest.raises(DataError, match=r"\(1, 3, 4, 5\) do not pair with \(1, 3, 5, 4\)"):
        psnr(torch.zeros(1, 3, 4, 5), torch.zeros(1, 3, 5, 4))
    with pytest.raises(DataError, match="border of 2 leaves nothing of 4 x 9"):
        psnr(torch.zeros(1, 1, 4, 9), torch.zeros(1, 1, 4, 9), border=2)
