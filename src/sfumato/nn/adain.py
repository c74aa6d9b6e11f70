"""Adaptive instance normalisation, and the decoder that turns a VGG's maps back into pictures.

Huang, Belongie: Arbitrary Style Transfer in Real-time with Adaptive Instance Normalization, ICCV 2017, arXiv
1703.06868. The decoder mirrors the encoder, poolings become doublings, and it has no norms: they would take
away the style (section 5.1).
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import relu

from sfumato.errors import UsageError
from sfumato.nn.image_transform import reflected
from sfumato.nn.layers import doubled
from sfumato.nn.vgg import VGG, VGGConfig


def adain(
    content: Float[Tensor, "b c h w"],
    own: tuple[Float[Tensor, "#b c 1 1"], Float[Tensor, "#b c 1 1"]],
    wanted: tuple[Float[Tensor, "#b c 1 1"], Float[Tensor, "#b c 1 1"]],
) -> Float[Tensor, "b c h w"]:
    """sigma(y) (x - mu(x)) / sigma(x) + mu(y) (eq. 8); ``own`` and ``wanted`` are means and deviations."""
    scale = wanted[1] / own[1]
    return content * scale + (wanted[0] - own[0] * scale)


def layers_to(config: VGGConfig, layer: str) -> list[tuple[int, int, int]]:
    """The convolutions up to a layer: channels in, channels out, and how often was halved before.

    Raises ``UsageError`` for a layer that ends no convolution.
    """
    kind, _, place = layer.partition("_")
    if not (kind.startswith("relu") and place.isdigit() and kind[4:].isdigit()):
        raise UsageError(f"Styles are exchanged behind a convolution, such as relu4_1, got '{layer}'.")
    stage, count = int(kind[4:]), int(place)
    if not (0 < stage <= len(config.widths) and 0 < count <= config.convs[stage - 1]):
        raise UsageError(
            f"This VGG has no layer '{layer}': its stages have {config.convs} convolutions; choose another."
        )
    outs = [
        (width, k)
        for k, (width, convs) in enumerate(zip(config.widths, config.convs, strict=True))
        for _ in range(convs)
    ][: sum(config.convs[: stage - 1]) + count]
    return [(wide, out, k) for (wide, _), (out, k) in pairwise([(3, 0), *outs])]


def up_to(config: VGGConfig, layer: str) -> VGGConfig:
    """The network without what lies behind a layer."""
    stage, count = len({k for *_, k in layers_to(config, layer)}), int(layer.partition("_")[2])
    return replace(
        config,
        widths=config.widths[:stage],
        convs=(*config.convs[: stage - 1], count),
        classes=0,
        hidden=0,
    )


def reach_of(config: VGGConfig, layer: str) -> int:
    """Pixels beyond which nothing changes a place of a layer, or a pixel of what is decoded from it."""
    return sum(2**k for *_, k in layers_to(config, layer))


class Decoder(nn.Module):
    """From maps of a layer to pictures in about [-1, 1]."""

    def __init__(self, encoder: VGGConfig, layer: str, channels: int = 3):
        super().__init__()
        order = layers_to(encoder, layer)[::-1]
        outs = [*(wide for wide, _, _ in order[:-1]), channels]
        convs = [nn.Conv2d(wide, out, 3) for (_, wide, _), out in zip(order, outs, strict=True)]
        for conv in convs:
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")  # maps keep their size on the way
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)
        self.convs = nn.ModuleList(convs)
        depths = [k for *_, k in order]
        self.doubles = (False, *(above > below for above, below in pairwise(depths)))
        """Whether a convolution follows a doubling."""

    def forward(self, maps: Float[Tensor, "b d i j"]) -> Float[Tensor, "b c h w"]:
        x = maps
        for k, (conv, double) in enumerate(zip(self.convs, self.doubles, strict=True)):
            assert isinstance(conv, nn.Conv2d)
            x = doubled(x, conv, border="reflect") if double else conv(reflected(x, 1))
            if k < len(self.convs) - 1:
                x = relu(x, inplace=not torch.is_grad_enabled())
        return x


def copied(encoder: VGG, whole: VGG) -> None:
    """Give a network that ends early the layers of the whole one."""
    held = whole.state_dict()
    with torch.no_grad():
        for name, tensor in encoder.state_dict(keep_vars=True).items():
            tensor.copy_(held[name])
