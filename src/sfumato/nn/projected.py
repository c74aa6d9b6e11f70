"""Critics of projected GANs: maps of a frozen network, mixed at random, judged at every scale.

Sauer, Chitta, Mueller, Geiger: Projected GANs Converge Faster, NeurIPS 2021, arXiv 2111.01007, section 3.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from sfumato.nn.spectral import bounded

Mixing = Literal["scales", "channels", "none"]
"""Across scales and channels (CSM on top of CCM), across channels alone (CCM), or not at all."""
SLOPE = 0.2
_LARGEST = 8
"""Maps are halved until no side is longer than this."""


class Projection(nn.Module):
    """Random 1 x 1 convolutions of maps (CCM) and of their sums, coarse to fine (CSM); nothing learns."""

    def __init__(self, widths: tuple[int, ...], width: int, mixing: Mixing):
        super().__init__()
        self.mixing = mixing
        mixed = tuple(width * 2**k for k in range(len(widths)))
        self.channels = nn.ModuleList(_random(a, b) for a, b in zip(widths, mixed, strict=True))
        finer = (mixed[0], *mixed[:-1])
        self.scales = nn.ModuleList(_random(a, b) for a, b in zip(mixed, finer, strict=True))
        self.widths = {"none": widths, "channels": mixed, "scales": finer}[mixing]
        self.requires_grad_(False)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Fine to coarse; across scales, every map takes the size of the next finer one."""
        if self.mixing == "none":
            return maps
        mixed = [conv(x) for conv, x in zip(self.channels, maps, strict=True)]
        if self.mixing == "channels":
            return mixed
        out: list[Tensor] = []
        for k in reversed(range(len(mixed))):
            total = mixed[k] + out[-1] if out else mixed[k]
            size = mixed[max(k - 1, 0)].shape[2:]
            if total.shape[2:] != size:
                total = interpolate(total, size, mode="bilinear", align_corners=True)
            out.append(self.scales[k](total))
        return out[::-1]


def _random(wide: int, out: int) -> nn.Conv2d:
    conv = nn.Conv2d(wide, out, 1)
    nn.init.kaiming_normal_(conv.weight)
    nn.init.zeros_(conv.bias) if conv.bias is not None else None
    return conv


class ScaleCritic(nn.Module):
    """Judges one map: strided convolutions of bounded norm, then a verdict for every part of the picture."""

    def __init__(self, width: int, side: int, inner: int):
        super().__init__()
        layers: list[nn.Module] = []
        while side > _LARGEST:
            conv = nn.Conv2d(width, inner, 4, 2, 1, bias=False)
            layers += [bounded(conv), nn.BatchNorm2d(inner), nn.LeakyReLU(SLOPE)]
            width, side = inner, side // 2
        layers.append(bounded(nn.Conv2d(width, inner, 3, 1, 1, bias=False)))
        layers += [nn.BatchNorm2d(inner), nn.LeakyReLU(SLOPE)]
        layers.append(bounded(nn.Conv2d(inner, 1, min(4, side), bias=False)))
        self.main = nn.Sequential(*layers)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        verdicts: Tensor = self.main(x).flatten(1)
        return verdicts


class ProjectedCritic(nn.Module):
    """The projection and one critic for each of its maps; all verdicts count the same."""

    def __init__(
        self, widths: tuple[int, ...], sides: tuple[int, ...], *, width: int, inner: int, mixing: Mixing
    ):
        super().__init__()
        self.projection = Projection(widths, width, mixing)
        sides = (sides[0], *sides[:-1]) if mixing == "scales" else sides
        self.critics = nn.ModuleList(
            ScaleCritic(w, side, inner) for w, side in zip(self.projection.widths, sides, strict=True)
        )

    def forward(self, maps: list[Tensor]) -> Float[Tensor, "b k"]:
        """Verdicts on what a frozen network sees of pictures, fine to coarse."""
        judged = zip(self.critics, self.projection(maps), strict=True)
        return torch.cat([critic(x) for critic, x in judged], 1)
