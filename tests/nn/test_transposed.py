"""A transposed convolution is a convolution among zeros, a convolution's adjoint, and not its inverse."""

from __future__ import annotations

import random

import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d, interpolate

from sfumato.nn.transposed import by_zeros, spread


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_zeros_between_places():
    x = torch.tensor([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]])
    want = torch.tensor([[1.0, 0, 2, 0, 3], [0, 0, 0, 0, 0], [4, 0, 5, 0, 6]])
    assert torch.equal(spread(x, 2)[0, 0], want)
    assert torch.equal(spread(x, 1), x)


def test_it_is_a_convolution_among_zeros():
    chance = random.Random(0)
    for trial in range(200):
        high, wide = chance.randint(1, 5), chance.randint(1, 5)
        stride, dilation, padding = chance.randint(1, 4), chance.randint(1, 3), chance.randint(0, 4)
        settings = {
            "stride": stride,
            "dilation": dilation,
            "padding": padding,
            "output_padding": chance.randrange(max(stride, dilation)),
        }
        h, w = chance.randint(4, 7), chance.randint(4, 7)
        x, kernel = normal(trial, 2, 3, h, w), normal(-trial, 3, 4, high, wide)
        sides = [
            (n - 1) * stride - 2 * padding + dilation * (k - 1) + settings["output_padding"] + 1
            for n, k in ((h, high), (w, wide))
        ]
        if min(sides) < 1:
            continue
        ours = by_zeros(x, kernel, **settings)
        assert list(ours.shape[2:]) == sides
        assert (ours - conv_transpose2d(x, kernel, **settings)).abs().max() <= 1e-10, settings


def test_it_is_the_adjoint_of_the_convolution():
    for seed, (stride, padding, dilation, output_padding) in enumerate(
        [(1, 0, 1, 0), (2, 1, 1, 0), (3, 2, 1, 1), (2, 0, 2, 1)]
    ):
        kernel, y = normal(seed, 4, 3, 3, 5), normal(seed + 10, 2, 4, 5, 6)
        back = conv_transpose2d(y, kernel, None, stride, padding, output_padding, 1, dilation)
        x = normal(seed + 20, *back.shape)
        there = conv2d(x, kernel, None, stride, padding, dilation)
        assert there.shape == y.shape
        assert torch.allclose((there * y).sum(), (x * back).sum(), atol=1e-8)


def test_it_is_not_the_inverse():
    x, kernel = normal(0, 2, 3, 8, 10), normal(1, 3, 3, 4, 4)
    there = conv2d(x, kernel, stride=2, padding=1)
    back = conv_transpose2d(there, kernel, stride=2, padding=1)
    best = (back * x).sum() / back.square().sum()  # Even scaled as well as can be, it is another picture.
    assert (best * back - x).norm() / x.norm() > 0.1


def uneven(response: Tensor) -> float:
    """How much the answer to an even map varies, away from its edges."""
    inner = response[:, :, 4:-4, 4:-4]
    return float(inner.std() / inner.mean())


def test_a_kernel_not_divisible_by_the_stride_draws_a_checkerboard():
    even = torch.ones(1, 1, 12, 12, dtype=torch.float64)
    sums = [0.0, 0.0, 0.0]
    for seed in range(20):
        three, four = (0.75 + 0.5 * normal(seed, 1, 1, k, k).sigmoid() for k in (3, 4))
        sums[0] += uneven(conv_transpose2d(even, three, stride=2, padding=1))
        sums[1] += uneven(conv_transpose2d(even, four, stride=2, padding=1))
        sums[2] += uneven(conv2d(interpolate(even, scale_factor=2), three, padding=1))
    assert sums[0] > 5 * sums[1] > 0
    assert sums[2] < 1e-10
