"""The image transformation network: answers of the published one, squares, and what reaches a pixel."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate, pad

from sfumato.nn.image_transform import ImageTransform, ImageTransformConfig, row_by_row
from sfumato.nn.layers import doubled

SMALL = ImageTransformConfig(width=4, blocks=2)
HEEDING = replace(SMALL, contrast=True)


def network(config: ImageTransformConfig = SMALL) -> ImageTransform:
    torch.manual_seed(0)
    return ImageTransform(config).eval()


def heeding(config: ImageTransformConfig = HEEDING) -> ImageTransform:
    ours = network(config)
    for heed in ours.heeds:
        nn.init.normal_(heed.leave.weight, std=0.3)
    return ours


def plainly(ours: ImageTransform, x: Tensor) -> Tensor:
    """The same layers by PyTorch's own modules, one after the other, as the published code has them."""

    def stage(x: Tensor, conv: nn.Module, norm: nn.Module, stride: int = 1) -> Tensor:
        own = nn.InstanceNorm2d(norm.num_channels, affine=True)
        own.load_state_dict(norm.state_dict())
        padded = nn.ReflectionPad2d(conv.weight.shape[-1] // 2)(x)
        return own(conv2d(padded, conv.weight, conv.bias, stride))

    for k, down in enumerate(ours.down):
        x = stage(x, down.conv, down.norm, stride=2 if k else 1).relu()
    for block in ours.blocks:
        inner = stage(x, block.first.conv, block.first.norm).relu()
        x = x + stage(inner, block.conv, block.norm)
    for up in ours.up:
        x = stage(interpolate(x, scale_factor=2, mode="nearest"), up.conv, up.norm).relu()
    return conv2d(nn.ReflectionPad2d(4)(x), ours.last.weight, ours.last.bias)


def test_it_is_as_large_as_the_published_one():
    with torch.device("meta"):
        assert sum(p.numel() for p in ImageTransform(ImageTransformConfig()).parameters()) == 1_679_235


@pytest.mark.parametrize("learning", [False, True])
@pytest.mark.parametrize("size", [(44, 64), (128, 148)])
def test_it_answers_as_the_published_one(size, learning):
    ours, x = network(), torch.randn(2, 3, *size)
    with torch.set_grad_enabled(learning):
        assert (ours(x) - plainly(ours, x)).abs().max() < 2e-5


@pytest.mark.parametrize(("height", "width"), [(9, 11), (5, 40), (21, 34)])
def test_pictures_keep_their_size_and_see_no_neighbours(height, width):
    ours, x = network(), torch.randn(2, 3, height, width)
    with torch.no_grad():
        y = ours(x)
        assert y.shape == x.shape
        assert (ours(x[1:]) - y[1:]).abs().max() < 1e-5


@torch.no_grad()
def test_norms_forget_the_contrast_which_is_heeded():
    x, told = torch.randn(2, 3, 40, 52) / 2, heeding()
    untold = network()
    untold.load_state_dict(told.state_dict(), strict=False)
    assert (untold(x / 4) - untold(x)).abs().max() < 1e-3
    assert (told(x / 4) - told(x)).abs().max() > 1e-2
    assert torch.allclose(told(x)[:1], told(x[:1]), atol=1e-5), "each picture is heeded alone"
    new = network(HEEDING)
    new.load_state_dict(untold.state_dict(), strict=False)
    assert torch.equal(new(x), untold(x)), "nothing is heeded before it has learned"


@pytest.mark.parametrize("config", [SMALL, HEEDING])
def test_by_its_own_statistics_it_answers_the_same(config):
    ours, x = heeding(config), torch.randn(1, 3, 40, 52)
    with torch.no_grad():
        statistics = ours.statistics(x)
        assert len(statistics) == 1 + 3 + 2 * SMALL.blocks + 2
        assert (ours.with_statistics(x, statistics) - ours(x)).abs().max() < 2e-5
        twice = ours.statistics(torch.cat([x, x]))  # all pictures count as one
        for one, other in zip(statistics, twice, strict=True):
            assert torch.allclose(one.mean, other.mean, atol=1e-5)
            assert torch.allclose(one.variance, other.variance, atol=1e-5)


def test_nothing_beyond_its_reach_changes_a_pixel_but_statistics():
    ours, x = network(), torch.randn(1, 3, 112, 120)
    statistics = ours.statistics(x)
    x.requires_grad_()
    answer = ours.with_statistics(x, statistics)
    for row, column in ((52, 60), (55, 63), (54, 57)):
        [gradient] = torch.autograd.grad(answer[0, :, row, column].sum(), x, retain_graph=True)
        rows, columns = gradient[0].abs().sum(0).nonzero().T
        away = max(int((rows - row).abs().max()), int((columns - column).abs().max()))
        assert ours.reach - 16 <= away <= ours.reach
    assert ours.reach % ours.step == 0


def test_shifted_by_a_step_the_answer_is_shifted():
    ours, x = network(), torch.randn(1, 3, 132, 96)
    with torch.no_grad():
        statistics = ours.statistics(x)
        one, other = (ours.with_statistics(part, statistics) for part in (x[:, :, :-4], x[:, :, 4:]))
    inner = slice(ours.reach, -ours.reach)
    assert (one[:, :, 4:][:, :, inner] - other[:, :, :-4][:, :, inner]).abs().max() < 1e-4
    assert (one[:, :, 4:] - other[:, :, :-4]).abs().max() > 1e-2  # borders are reflected elsewhere


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_row_by_row_is_the_same_convolution(dtype):
    conv = nn.Conv2d(5, 3, (9, 7)).to(dtype)
    x = torch.randn(2, 5, 140, 131, dtype=dtype)
    with torch.no_grad():
        exact = conv2d(x.float(), conv.weight.float(), conv.bias.float())
        assert (row_by_row(x, conv).float() - exact).abs().max() < (1e-5 if dtype == torch.float32 else 0.05)
        assert torch.equal(row_by_row(x[:, :, :20, :20], conv), conv(x[:, :, :20, :20]))


@pytest.mark.parametrize("size", [(9, 11), (17, 30)])
def test_doubled_with_a_reflected_border(size):
    conv, x = nn.Conv2d(3, 5, 3), torch.randn(2, 3, *size)
    repeated = pad(interpolate(x, scale_factor=2, mode="nearest"), (1, 1, 1, 1), mode="reflect")
    assert (doubled(x, conv, border="reflect") - conv(repeated)).abs().max() < 1e-5
