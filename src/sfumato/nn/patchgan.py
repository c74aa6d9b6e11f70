"""The critic of pix2pix and CycleGAN: it judges every patch of a picture, not the whole.

Isola, Zhu, Zhou, Efros: Image-to-Image Translation with Conditional Adversarial Networks, CVPR 2017,
section 3.2.2. Modules are named as in the authors' PyTorch code, whose weight files therefore fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from sfumato.nn.layers import GroupNorm

MOST = 8
"""How many times the first layer's width a network grows to."""
Norm = Literal["channel", "picture", "none"]
SPREAD = 0.02
"""Standard deviation of the weights before training (section 6.2)."""


@dataclass(frozen=True)
class PatchCriticConfig:
    """Shape of the critic."""

    channels: int = 3
    """Of all pictures that are judged together: 6 for a colour picture beside the one it was made from."""
    width: int = 64
    layers: int = 3
    """Layers after the first, which halve but for the last; 3 see patches of 70 x 70, 2 of 34, 1 of 16."""
    norm: Norm = "channel"
    affine: bool = True
    """Whether norms scale and shift, as batch norm does over a batch of one (pix2pix), or not (CycleGAN)."""


class PatchCritic(nn.Module):
    """Convolutions of 4 x 4 that end in one logit for each of many overlapping patches."""

    def __init__(self, config: PatchCriticConfig):
        super().__init__()
        self.config = config
        w, bias = config.width, biased(config.norm, affine=config.affine)
        layers: list[nn.Module] = [nn.Conv2d(config.channels, w, 4, 2, 1), nn.LeakyReLU(0.2)]
        wide = w
        for k in range(1, config.layers + 1):
            out, stride = w * min(2**k, MOST), 2 if k < config.layers else 1
            conv = nn.Conv2d(wide, out, 4, stride, 1, bias=bias)
            layers += [conv, own_norm(out, config.norm, affine=config.affine), nn.LeakyReLU(0.2)]
            wide = out
        self.model = nn.Sequential(*layers, nn.Conv2d(wide, 1, 4, 1, 1))
        scatter(self)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 i j"]:
        return self.model(x)


def own_norm(width: int, norm: Norm, *, affine: bool) -> nn.Module:
    """Normalise every picture by its own statistics.

    "channel" (instance norm) is what batch norm does to a batch of one, which is how pix2pix is trained and
    used (section 3.4); so pictures never depend on their neighbours, and no running averages are needed.
    "picture" (layer norm) takes all channels together: what tells one colour from another is not lost.
    With "none", how light a flat picture is is not lost either.
    """
    if norm == "none":
        return nn.Identity()
    return GroupNorm(width if norm == "channel" else 1, width, affine=affine)


def biased(norm: Norm, *, affine: bool) -> bool:
    """Whether a convolution before a norm needs a bias of its own."""
    return norm == "none" or not affine


def scatter(module: nn.Module) -> None:
    """Draw weights from N(0, 0.02) and norms' scales from N(1, 0.02); biases start at 0 (section 6.2)."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(part.weight, 0.0, SPREAD)
        elif isinstance(part, nn.GroupNorm) and part.affine:
            nn.init.normal_(part.weight, 1.0, SPREAD)
        else:
            continue
        if part.bias is not None:
            nn.init.zeros_(part.bias)
