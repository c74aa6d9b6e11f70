"""A thin-plate-spline spatial transformer: a small network bends a picture straight before it is read.

Jaderberg et al. 2015 (arXiv 1506.02025) for the transformer, Shi et al. 2016 (arXiv 1603.03915, section 3.1)
for the spline between control points along the upper and the lower edge of a word. Points are (x, y), and
[-1, 1] is the whole picture, edge to edge.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import grid_sample

from sfumato.errors import UsageError

HALVINGS = 3
"""Poolings of the network that looks for control points."""


@dataclass(frozen=True)
class TPSConfig:
    """Shape of the transformer."""

    points: int = 20
    """Control points, half of them along the upper edge and half along the lower."""
    width: int = 64
    """Channels of the first convolution of the network that looks for them; the last has eight times more."""
    hidden: int = 256
    """Numbers between its convolutions and the points."""
    upright: bool = False
    """Begin with the identity. The paper begins with points that fall to the right (its figure 6a)."""
    align_corners: bool = True
    """Whether pictures are sampled as if [-1, 1] ended in the centres of the outer pixels, as public weights
    were trained to expect; false fits the places exactly, so that resting points give the picture itself."""


def resting(points: int) -> Float[Tensor, "f 2"]:
    """Control points at rest, evenly along the upper edge (y = -1), then along the lower."""
    x = torch.linspace(-1, 1, points // 2, dtype=torch.float64, device="cpu")
    return torch.cat([torch.stack([x, y * torch.ones_like(x)], 1) for y in (-1.0, 1.0)])


def falling(points: int) -> Float[Tensor, "f 2"]:
    """Where the paper begins: the upper points fall from the middle to the top, the lower from below."""
    x = torch.linspace(-1, 1, points // 2, dtype=torch.float64, device="cpu")
    fall = torch.linspace(0, 1, points // 2, dtype=torch.float64, device="cpu")
    return torch.cat([torch.stack([x, -fall], 1), torch.stack([x, 1 - fall], 1)])


def centres(height: int, width: int) -> Float[Tensor, "n 2"]:
    """Centres of the pixels of a picture, row by row."""
    x, y = ((2 * torch.arange(n, dtype=torch.float64, device="cpu") + 1) / n - 1 for n in (width, height))
    return torch.stack([x.repeat(height), y.repeat_interleave(width)], 1)


def bending(squared: Float[Tensor, "n f"]) -> Float[Tensor, "n f"]:
    """The spline's kernel d^2 log d of squared distances; 0 at 0."""
    return torch.special.xlogy(squared, squared) / 2


def spline(points: Float[Tensor, "f 2"], places: Float[Tensor, "n 2"]) -> Float[Tensor, "n f"]:
    """The linear map from where control points go to where places go (equations 1 to 4).

    The spline through the points bends least of all; its coefficients are the inverse of Delta_C times the
    new points, and three conditions keep it flat at infinity. Computed in float64.
    """
    count = len(points)
    system = points.new_zeros(count + 3, count + 3)
    system[:count, 0] = 1
    system[:count, 1:3] = points
    system[:count, 3:] = bending(torch.cdist(points, points).square())
    system[count : count + 2, 3:] = points.T
    system[count + 2, 3:] = 1
    away = (places[:, None] - points[None]).square().sum(-1)
    at = torch.cat([places.new_ones(len(places), 1), places, bending(away)], 1)
    return at @ torch.linalg.inv(system)[:, :count]


class Localisation(nn.Module):
    """Looks at a picture and says where its control points are."""

    def __init__(self, channels: int, config: TPSConfig):
        super().__init__()
        layers: list[nn.Module] = []
        wide = channels
        for k in range(HALVINGS + 1):
            out = config.width * 2**k
            layers += [nn.Conv2d(wide, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
            layers.append(nn.MaxPool2d(2, 2) if k < HALVINGS else nn.AdaptiveAvgPool2d(1))
            wide = out
        self.conv = nn.Sequential(*layers)
        self.localization_fc1 = nn.Sequential(nn.Linear(wide, config.hidden), nn.ReLU())
        self.localization_fc2 = nn.Linear(config.hidden, 2 * config.points)
        start = resting(config.points) if config.upright else falling(config.points)
        with torch.no_grad():
            self.localization_fc2.weight.zero_()
            self.localization_fc2.bias.copy_(start.flatten())

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b f 2"]:
        """Points in float32, whatever the network computes in."""
        found = self.localization_fc2(self.localization_fc1(self.conv(x).flatten(1)))
        return found.float().view(len(x), -1, 2)


class TPS(nn.Module):
    """Bends pictures so that the control points it finds come to lie at rest."""

    def __init__(self, channels: int, height: int, width: int, config: TPSConfig):
        super().__init__()
        if config.points < 6 or config.points % 2:
            raise UsageError(
                f"A thin-plate spline needs an even number of 6 control points or more, got {config.points}."
            )
        self.config, self.height, self.width = config, height, width
        self.LocalizationNetwork = Localisation(channels, config)
        # No buffer, since the spline must stay in float32 when the weights are turned into half precision.
        self._spline = spline(resting(config.points), centres(height, width)).float()

    def grid(self, points: Float[Tensor, "b f 2"]) -> Float[Tensor, "b h w 2"]:
        """From where each pixel is fetched."""
        if self._spline.device != points.device:
            self._spline = self._spline.to(points.device)
        with torch.autocast(points.device.type, enabled=False):
            return (self._spline @ points.float()).view(-1, self.height, self.width, 2)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c i j"]:
        grid = self.grid(self.LocalizationNetwork(x))
        corners = self.config.align_corners
        straight = grid_sample(x.float(), grid, padding_mode="border", align_corners=corners)
        return straight.to(x.dtype)
