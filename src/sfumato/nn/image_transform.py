"""The image transformation network: halve twice, five residual blocks, double twice, a norm at every step.

Johnson, Alahi, Fei-Fei: Perceptual Losses for Real-Time Style Transfer and Super-Resolution, ECCV 2016, arXiv
1603.08155, supplement, in the form that is used today: norms of each picture alone (Ulyanov et al. 2016,
arXiv 1607.08022), every border reflected, places repeated and then convolved where the paper transposes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad, relu

from sfumato.nn.layers import GroupNorm, doubled, zeroed
from sfumato.nn.unet_p2p import enlarged

HIDDEN = 32
"""Numbers between what is known of a whole picture and what is done about it."""
FAINTEST = 1e-3
"""Added to the variance of a colour before its logarithm is heeded: an empty picture has none."""
SPLIT_FROM = 2**14
"""Places from which it pays to compute the last layer row by row of its kernel (measured)."""


@dataclass(frozen=True)
class ImageTransformConfig:
    """Shape of the network; the defaults are the published one, of 1,679,235 parameters."""

    channels: int = 3
    width: int = 32
    """Channels of the first layer; they double with every halving."""
    halvings: int = 2
    blocks: int = 5
    kernel: int = 9
    """Side of the first and the last kernel."""
    bounded: bool = False
    """Whether a tanh keeps what comes out within [-1, 1], as in the paper; the published files have none."""
    contrast: bool = False
    """Whether the residual blocks, what follows them and the last layer heed how bright the picture is in
    each colour and how much that varies, which norms of single pictures forget; not in the paper."""


class Statistics(NamedTuple):
    """Mean and variance of every channel over a picture, at one norm."""

    mean: Float[Tensor, "b c 1 1"]
    variance: Float[Tensor, "b c 1 1"]


Normalise = Callable[[GroupNorm, Tensor], Tensor]


class ImageTransform(nn.Module):
    """From pictures to pictures of the same size."""

    def __init__(self, config: ImageTransformConfig):
        super().__init__()
        self.config = c = config
        widths = [c.width * 2**k for k in range(c.halvings + 1)]
        downs = [Stage(wide, out, 3, stride=2) for wide, out in pairwise(widths)]
        self.down = nn.ModuleList([Stage(c.channels, c.width, c.kernel), *downs])
        self.blocks = nn.ModuleList(Block(widths[-1]) for _ in range(c.blocks))
        self.up = nn.ModuleList(Doubling(wide, out) for wide, out in pairwise(widths[::-1]))
        self.last = nn.Conv2d(c.width, c.channels, c.kernel)
        heeding = (widths[-1], widths[-1], c.width) if c.contrast else ()
        self.heeds = nn.ModuleList(Heed(c.channels, width) for width in heeding)

    @property
    def ends(self) -> tuple[nn.Module, ...]:
        """Where the picture goes out."""
        return (self.last, self.heeds)

    @property
    def step(self) -> int:
        """Sides of pictures that are multiples of it are taken as they are; others are enlarged inside."""
        return int(2**self.config.halvings)

    @property
    def reach(self) -> int:
        """Pixels, a multiple of ``step``, beyond which nothing but statistics changes a pixel's answer."""
        c, coarse = self.config, self.step
        far = 2 * (c.kernel // 2) + 2 * c.blocks * coarse
        far += sum(2**k for k in range(c.halvings)) + sum(2 * 2**k for k in range(c.halvings)) + coarse
        return -(-far // coarse) * coarse

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return self._through(x, statistics_of(x), lambda norm, maps: norm(maps))

    def statistics(self, x: Float[Tensor, "b c h w"]) -> list[Statistics]:
        """What is there of all these pictures taken as one, first in themselves, then at every norm."""
        seen = [statistics_of(x, together=True)]

        def note(norm: GroupNorm, maps: Tensor) -> Tensor:
            seen.append(statistics_of(maps, together=True))
            return by(norm, maps, seen[-1])

        self._through(x, seen[0], note)
        return seen

    def with_statistics(
        self, x: Float[Tensor, "b c h w"], statistics: Sequence[Statistics]
    ) -> Float[Tensor, "b c h w"]:
        """The answer as if these statistics were seen: what is done to a part of a picture."""
        given: Iterator[Statistics] = iter(statistics)
        return self._through(x, next(given), lambda norm, maps: by(norm, maps, next(given)))

    def _through(self, x: Tensor, whole: Statistics, normalise: Normalise) -> Tensor:
        height, width = x.shape[2:]
        x = enlarged(x, self.step)
        for k, stages in enumerate((self.down, self.blocks, self.up)):
            for stage in stages:
                x = stage(x, normalise)
            if self.heeds:
                x = self.heeds[k](x, whole)
        x = row_by_row(reflected(x, self.config.kernel // 2), self.last)[:, :, :height, :width]
        return torch.tanh(x) if self.config.bounded else x


class Stage(nn.Module):
    """Reflect the border, convolve, normalise, rectify."""

    def __init__(self, wide: int, out: int, kernel: int, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(wide, out, kernel, stride)
        self.norm = GroupNorm(out, out)

    def forward(self, x: Float[Tensor, "b c h w"], normalise: Normalise) -> Float[Tensor, "b d i j"]:
        return rectified(normalise(self.norm, self.conv(reflected(x, self.conv.kernel_size[0] // 2))))


class Doubling(nn.Module):
    """Repeat every place twice each way, then do as a stage does: no checkerboards (Odena et al. 2016)."""

    def __init__(self, wide: int, out: int):
        super().__init__()
        self.conv = nn.Conv2d(wide, out, 3)
        self.norm = GroupNorm(out, out)

    def forward(self, x: Float[Tensor, "b c h w"], normalise: Normalise) -> Float[Tensor, "b d h*2 w*2"]:
        return rectified(normalise(self.norm, doubled(x, self.conv, border="reflect")))


class Block(nn.Module):
    """x + norm(conv(relu(norm(conv(x))))), nothing after the sum."""

    def __init__(self, width: int):
        super().__init__()
        self.first = Stage(width, width, 3)
        self.conv = nn.Conv2d(width, width, 3)
        self.norm = GroupNorm(width, width)

    def forward(self, x: Float[Tensor, "b c h w"], normalise: Normalise) -> Float[Tensor, "b c h w"]:
        return x + normalise(self.norm, self.conv(reflected(self.first(x, normalise), 1)))


class Heed(nn.Module):
    """Maps scaled and shifted by what is known of the whole picture; as it begins, it changes nothing."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.enter = nn.Linear(2 * channels, HIDDEN)
        self.leave = zeroed(nn.Linear(HIDDEN, 2 * width))

    def forward(self, x: Float[Tensor, "b d i j"], whole: Statistics) -> Float[Tensor, "b d i j"]:
        seen = torch.cat([whole.mean, (whole.variance + FAINTEST).log() / 2], 1).flatten(1)
        told = self.leave(relu(self.enter(seen.to(self.enter.weight.dtype))))
        gain, shift = told[:, :, None, None].to(x.dtype).chunk(2, 1)
        return x * (1 + gain) + shift


def reflected(x: Float[Tensor, "b c h w"], width: int) -> Float[Tensor, "b c i j"]:
    """The maps with their border mirrored outwards; maps that are too small for it repeat their edge."""
    mode = "reflect" if min(x.shape[2:]) > width else "replicate"
    return pad(x, (width,) * 4, mode=mode)


def rectified(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """ReLU of maps that nobody else reads: overwritten where no gradient will ask for them."""
    return relu(x, inplace=not torch.is_grad_enabled())


def statistics_of(maps: Float[Tensor, "b c h w"], *, together: bool = False) -> Statistics:
    """Mean and variance of every channel over all places, of every picture or of all of them as one."""
    axes = (0, 2, 3) if together else (2, 3)
    variance, mean = torch.var_mean(maps.float(), axes, correction=0, keepdim=True)
    return Statistics(mean, variance)


def by(norm: GroupNorm, maps: Float[Tensor, "b c h w"], given: Statistics) -> Float[Tensor, "b c h w"]:
    """Normalise by statistics that come from elsewhere."""
    scale = norm.weight.float().view(1, -1, 1, 1) * (given.variance + norm.eps).rsqrt()
    shift = norm.bias.float().view(1, -1, 1, 1) - given.mean * scale
    return maps * scale.to(maps.dtype) + shift.to(maps.dtype)


def row_by_row(x: Float[Tensor, "b c h w"], conv: nn.Conv2d) -> Float[Tensor, "b d i j"]:
    """A convolution with few channels out: one of 1 x k for all rows of the kernel, which are then shifted
    and summed.

    Where many pictures' numbers are computed at once, three channels leave most of the work undone: it takes
    a third of the time.
    """
    rows = conv.kernel_size[0]
    plain = torch.compiler.is_exporting() or torch.is_grad_enabled() or x.device.type != "cpu"
    if plain or x.shape[2] * x.shape[3] < SPLIT_FROM:
        return conv(x)
    out = conv.out_channels
    each = conv2d(x, conv.weight.transpose(1, 2).reshape(out * rows, -1, 1, conv.kernel_size[1]))
    height = x.shape[2] - rows + 1
    total = each[:, 0::rows, :height].float()
    for row in range(1, rows):
        total = total + each[:, row::rows, row : row + height]
    if conv.bias is not None:
        total = total + conv.bias.view(1, -1, 1, 1)
    return total.to(x.dtype)
