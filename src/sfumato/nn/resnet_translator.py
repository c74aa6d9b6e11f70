"""The translator of CycleGAN: halve twice, think in residual blocks, double twice.

Johnson, Alahi, Fei-Fei 2016 (arXiv 1603.08155, supplement), as Zhu, Park, Isola, Efros 2017 (arXiv
1703.10593, appendix 7.2) use it. Modules are named as in the latter's PyTorch code, whose weight files
therefore fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from sfumato.nn.patchgan import Norm, biased, own_norm, scatter
from sfumato.nn.unet_p2p import enlarged


@dataclass(frozen=True)
class ResnetTranslatorConfig:
    """Shape of the network."""

    channels_in: int = 3
    channels_out: int = 3
    width: int = 64
    blocks: int = 9
    """9 for pictures of 256 pixels, 6 for those of 128."""
    norm: Norm = "channel"
    affine: bool = False
    """Whether norms scale and shift."""
    halvings: int = 2
    patch: int = 1
    """Pixels a side that are taken as one place; above 1 is cheaper and not in the paper."""


class ResnetTranslator(nn.Module):
    """From a picture to a picture of the same size, enlarged inside until it can be halved so often."""

    def __init__(self, config: ResnetTranslatorConfig):
        super().__init__()
        self.config = config
        c, bias, area = config, biased(config.norm, affine=config.affine), config.patch**2
        widths = [c.width * 2**k for k in range(c.halvings + 1)]
        layers: list[nn.Module] = [
            nn.ReflectionPad2d(3),
            nn.Conv2d(c.channels_in * area, c.width, 7, bias=bias),
        ]
        layers += [own_norm(c.width, c.norm, affine=c.affine), nn.ReLU()]
        for wide, out in pairwise(widths):
            conv = nn.Conv2d(wide, out, 3, 2, 1, bias=bias)
            layers += [conv, own_norm(out, c.norm, affine=c.affine), nn.ReLU()]
        layers += [ResnetBlock(widths[-1], c.norm, affine=c.affine) for _ in range(c.blocks)]
        for wide, out in pairwise(widths[::-1]):
            up = nn.ConvTranspose2d(wide, out, 3, 2, 1, output_padding=1, bias=bias)
            layers += [up, own_norm(out, c.norm, affine=c.affine), nn.ReLU()]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(c.width, c.channels_out * area, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)
        scatter(self)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        height, width = x.shape[2:]
        patch = self.config.patch
        x = pixel_unshuffle(enlarged(x, patch * 2**self.config.halvings), patch)
        return pixel_shuffle(self.model(x), patch)[:, :, :height, :width]


class ResnetBlock(nn.Module):
    """x + norm(conv(relu(norm(conv(x))))), nothing after the sum."""

    def __init__(self, width: int, norm: Norm, *, affine: bool):
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3, bias=biased(norm, affine=affine)),
            own_norm(width, norm, affine=affine),
            nn.ReLU(),
            nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3, bias=biased(norm, affine=affine)),
            own_norm(width, norm, affine=affine),
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return x + self.conv_block(x)
