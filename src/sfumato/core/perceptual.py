"""Losses that compare pictures by the maps of a network instead of by their pixels.

Gatys, Ecker, Bethge: Image Style Transfer Using Convolutional Neural Networks, CVPR 2016 (arXiv 1508.06576);
Johnson, Alahi, Fei-Fei 2016 (arXiv 1603.08155); Huang, Belongie 2017 (arXiv 1703.06868).

All are means over examples, channels and places: neither the batch nor the size of the pictures changes what
a weight means. Targets may have one example, which then counts for all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

EPS = 1e-5
"""Added to variances under the root, as AdaIN's published code does."""
_TINY = 1e-12


class Moments(NamedTuple):
    """Mean and standard deviation of every channel over all places."""

    mean: Float[Tensor, "b c 1 1"]
    std: Float[Tensor, "b c 1 1"]


def gram(maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c c"]:
    """Products of all pairs of channels, summed over places and divided by c h w, of each example alone
    (Johnson et al. 2016, eq. 3)."""
    flat = maps.flatten(2)
    return flat @ flat.transpose(1, 2) / (flat.shape[1] * flat.shape[2])


def moments(maps: Float[Tensor, "b c h w"], *, eps: float = EPS, unbiased: bool = True) -> Moments:
    """Mean and deviation over places; unbiased variances as AdaIN's published PyTorch code has them.

    A single place has the variance 0.
    """
    alone = maps.shape[2] * maps.shape[3] == 1
    variance = maps.var((2, 3), correction=int(unbiased and not alone), keepdim=True)
    return Moments(maps.mean((2, 3), keepdim=True), (variance + eps).sqrt())


def content_loss(maps: Float[Tensor, "b c h w"], target: Float[Tensor, "#b c h w"]) -> Float[Tensor, ""]:
    """Mean squared difference of maps at the same places (Gatys et al. 2016, eq. 1, as a mean)."""
    return (maps - target).square().mean()


def relative_loss(x: Float[Tensor, "b ..."], target: Float[Tensor, "b ..."]) -> Float[Tensor, ""]:
    """Mean squared difference over the target's mean square: 1 for a blank, however large the numbers are."""
    return (x - target).square().mean() / target.square().mean().clamp(min=_TINY)


def style_loss(
    maps: Mapping[str, Float[Tensor, "b _ _ _"]], targets: Mapping[str, Float[Tensor, "_ _ _"]]
) -> Float[Tensor, ""]:
    """Mean squared difference of Gram matrices, summed over the layers of ``targets`` (eq. 3 to 5)."""
    parts = [(gram(maps[tap]) - target).square().mean() for tap, target in targets.items()]
    return torch.stack(parts).sum()


def moments_loss(maps: Float[Tensor, "b c _ _"], target: Moments) -> Float[Tensor, ""]:
    """Mean squared differences of means and of deviations (Huang, Belongie 2017, eq. 13)."""
    own = moments(maps)
    return (own.mean - target.mean).square().mean() + (own.std - target.std).square().mean()


def total_variation(x: Float[Tensor, "b c h w"], power: Literal[1, 2] = 1) -> Float[Tensor, ""]:
    """How much neighbours differ, down and across: mean of absolute values or of squares.

    A picture of one row or one column has no variation across it.
    """
    steps = [d for d in (x.diff(dim=2), x.diff(dim=3)) if d.numel()]
    sizes = [(d.abs() if power == 1 else d.square()).mean() for d in steps]
    return torch.stack(sizes).sum() if sizes else x.sum() * 0


LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in what is seen as brightness (ITU-R BT.601)."""


def recoloured(x: Float[Tensor, "n c h w"], like: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """The brightness of ``x`` in the colours of ``like``, in [-1, 1]; grey pictures stay as they are.

    Exchanging brightness alone leaves both differences of colour as they are (Gatys et al. 2017, arXiv
    1611.07865, section 5).
    """
    if x.shape[1] == 1:
        return x
    weights = x.new_tensor(LUMA).view(1, 3, 1, 1)
    return (like + ((x - like) * weights).sum(1, keepdim=True)).clamp(-1, 1)
