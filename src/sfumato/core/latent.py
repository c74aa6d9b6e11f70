"""Ways through latent space: straight lines, great circles, and walks from point to point."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Way = Literal["lerp", "slerp"]


def between(
    start: Float[Tensor, "n ..."], end: Float[Tensor, "n ..."], share: Float[Tensor, " n"], way: Way
) -> Float[Tensor, "n ..."]:
    """The point at ``share`` (0 start, 1 end) of the way; "slerp" follows the great circle (White 2016).

    A straight line between normal vectors of many dimensions runs through places where almost none lie;
    a great circle keeps the length. Angle and length are those of each whole example.
    """
    share = share.to(start).view(-1, *[1] * (start.ndim - 1))
    if way == "lerp":
        return start + share * (end - start)
    a, b = start.flatten(1), end.flatten(1)
    cosine = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp(min=1e-12)
    angle = cosine.clamp(-1, 1).acos().view(-1, *[1] * (start.ndim - 1))
    sine = angle.sin()
    straight = sine.abs() < 1e-4  # the same or the opposite direction: no circle is told apart
    safe = torch.where(straight, torch.ones_like(sine), sine)
    circle = (((1 - share) * angle).sin() * start + (share * angle).sin() * end) / safe
    return torch.where(straight, start + share * (end - start), circle)


def walk(
    points: Float[Tensor, "k ..."], frames: int, way: Way, *, loop: bool = False
) -> Float[Tensor, "f ..."]:
    """From the first point over all others, ``frames`` steps each; a loop ends one step before the first.

    >>> walk(torch.tensor([[0.0], [1.0], [3.0]]), 2, "lerp").flatten().tolist()
    [0.0, 0.5, 1.0, 2.0, 3.0]
    """
    ends = torch.cat([points[1:], points[:1]]) if loop else points[1:]
    starts = points if loop else points[:-1]
    share = (torch.arange(frames) / frames).repeat(len(ends))
    path = between(starts.repeat_interleave(frames, 0), ends.repeat_interleave(frames, 0), share, way)
    return path if loop else torch.cat([path, points[-1:]])
