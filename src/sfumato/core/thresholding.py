"""Keeping beliefs where pictures live: by cutting off what is beyond, or by drawing everything nearer.

Guidance pushes beliefs out of [-1, 1]. Solvers work out the noise from the belief that they are given, so
that what is kept here is what they follow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.denoiser import Belief
from sfumato.core.guidance import clipped
from sfumato.core.steps import Denoise
from sfumato.errors import UsageError


@dataclass(frozen=True)
class Static:
    """Values beyond are cut off, and all of them are then as far as can be: guided strongly, pictures
    saturate."""

    limit: float = 1.0


@dataclass(frozen=True)
class Dynamic:
    """Each picture is divided by a percentile of its own absolute values, where that is above 1 (Saharia et
    al. 2022, Imagen, section 2.3); what is then still beyond is cut off."""

    share: float = 0.995
    """Of the values of a picture that are to come inside."""
    most: float = 100.0
    """What is divided by at most (DeepFloyd's IF has 1.5)."""

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1 or self.most < 1:
            raise UsageError(
                f"Dynamic thresholding takes a share above 0 and up to 1, and a most of at least 1; got "
                f"{self.share:g} and {self.most:g}."
            )


@dataclass(frozen=True)
class Free:
    """Beliefs stay as they are."""


Threshold = Static | Dynamic | Free
WAYS: Mapping[str, Callable[..., Threshold]] = {"static": Static, "dynamic": Dynamic, "free": Free}


def thresholded(denoise: Denoise, threshold: Threshold) -> Denoise:
    """The denoiser with its beliefs kept where pictures live; wrap it around guidance, not inside."""
    match threshold:
        case Free():
            return denoise
        case Static(limit):
            return clipped(denoise, limit)

    def inside(x: Tensor, t: Tensor) -> Belief:
        belief = denoise(x, t)
        return belief._replace(x0=drawn_in(belief.x0, threshold))

    return inside


def drawn_in(x0: Float[Tensor, "b ..."], threshold: Dynamic) -> Float[Tensor, "b ..."]:
    """Every picture within [-1, 1], by its own percentile; one that is inside stays as it is."""
    flat = x0.float().abs().flatten(1)
    scale = torch.quantile(flat, threshold.share, dim=1).clamp(1, threshold.most)
    scale = scale.to(x0).view(-1, *[1] * (x0.ndim - 1))
    return x0.clamp(-scale, scale) / scale


def parsed(text: str) -> Threshold:
    """What is meant by ``static``, ``static:1.2``, ``dynamic``, ``dynamic:.995``, ``dynamic:.95:1.5``,
    ``free``.

    >>> parsed("dynamic:.95:1.5")
    Dynamic(share=0.95, most=1.5)
    """
    kind, *numbers = text.split(":")
    try:
        values = [float(number) for number in numbers]
        return WAYS[kind](*values)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"A threshold is static, dynamic:SHARE, dynamic:SHARE:MOST or free, got '{text}'."
        ) from error
