"""What systems share that paint pictures in a style: what they refuse, and what is done to the answer."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.request import Stylize
from sfumato.errors import UsageError


def check(request: Stylize, channels: int) -> None:
    """Raise ``UsageError`` for pictures, styles and masks that no system could serve."""
    for what, x in (("pictures", request.images), *(("styles", style) for style in request.styles)):
        if x.shape[-3] != channels:
            raise UsageError(
                f"This model paints {what} of {channels} channels, got {x.shape[-3]}; convert them first."
            )
    if not (math.isfinite(request.strength) and request.strength >= 0):
        raise UsageError(
            f"strength is 0 (the picture) or more (1: the system's own measure), got {request.strength}."
        )
    if not (math.isfinite(request.style_scale) and request.style_scale > 0):
        raise UsageError(f"style_scale is above 0 (1: as large as given), got {request.style_scale}.")
    if request.masks is not None and request.masks.shape[2:] != request.images.shape[2:]:
        (a, b), (c, d) = request.masks.shape[2:], request.images.shape[2:]
        raise UsageError(f"The masks have {a} x {b} pixels and the pictures {c} x {d}; make them equal.")


def without_search(request: Stylize, name: str) -> None:
    """Raise ``UsageError`` for what only a search over pixels understands."""
    if request.start != "content" or request.steps is not None:
        raise UsageError(
            f"{name} paints in one pass and has neither start nor steps; leave them out, or use gatys."
        )


def share_of(masks: Float[Tensor, "s 1 h w"], size: tuple[int, int]) -> Float[Tensor, "s 1 i j"]:
    """Masks at the size of maps: the share of each place's pixels that a mask covers."""
    return torch.nn.functional.interpolate(masks.float(), size, mode="area").clamp(0, 1)
