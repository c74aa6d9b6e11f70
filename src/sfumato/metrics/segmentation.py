"""Which pixels of a picture of the shapes world belong to what: found by colour, cell by cell."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import max_pool2d

from sfumato.data.shapes.render import palette, shades
from sfumato.data.shapes.scene import BACKGROUNDS, COLOURS

FAR_OFF = 0.7
"""Distance in colour from every shade of a colour beyond which a pixel does not count as a vote for it."""
BARE = 0.25
"""Distance in colour from the ground within which a pixel does not count as a vote either."""
FEWEST = 6
"""Pixels of which an object has at least so many."""
SIDE = 3
"""Cells along each side of a picture."""


def ground_of(pixels: Float[Tensor, "n 3 h w"]) -> Int[Tensor, " n"]:
    """The number of the ground in ``BACKGROUNDS``: the one nearest to the median of the rim."""
    rim = (pixels[:, :, 0], pixels[:, :, -1], pixels[:, :, :, 0], pixels[:, :, :, -1])
    median = torch.cat(rim, 2).float().median(2).values
    return torch.cdist(median, palette(BACKGROUNDS)).argmin(1)


def segmented(pixels: Float[Tensor, "n 3 h w"]) -> tuple[Int[Tensor, "n h w"], Int[Tensor, " n"]]:
    """1 + the number in ``COLOURS`` of the object at each pixel, or 0 for the ground; and which ground it is.

    Every cell of the three by three holds one object or none; its colour is that of most of its pixels which
    look like a colour and not like the ground. A pixel is its own if it is nearer to a shade of that colour
    than to the ground.
    """
    n, _, height, width = pixels.shape
    ground = ground_of(pixels)
    flat = pixels.float().movedim(1, 3).flatten(1, 2)
    bare = (flat - palette(BACKGROUNDS)[ground][:, None]).norm(dim=2)
    # (n, pixels, colours): how far each pixel is from the nearest shade of each colour.
    kinds = shades()  # solid, dark stripes, light dots
    away = torch.stack([(flat[:, :, None] - kind).norm(dim=3) for kind in kinds], 3)
    light_ground = (ground == BACKGROUNDS.index("white"))[:, None, None]
    away[..., 2] = torch.where(light_ground, away[..., 2].new_tensor(9.0), away[..., 2])
    away = away.amin(3)
    near, colour = away.min(2)
    votes = torch.where((near < bare) & (near < FAR_OFF) & (bare > BARE), colour, len(COLOURS))
    found = torch.zeros(n, height, width, dtype=torch.long)
    cells = _cells(height, width)
    for cell in range(SIDE**2):
        here = cells == cell
        counts = torch.nn.functional.one_hot(votes[:, here.flatten()], len(COLOURS) + 1).sum(1)[:, :-1]
        most, winner = counts.max(1)
        nearer = away.gather(2, winner[:, None, None].expand(-1, away.shape[1], 1))[..., 0] < bare
        inside = nearer.unflatten(1, (height, width)) & here & (most >= FEWEST)[:, None, None]
        inside = _closed(inside) & here
        found = torch.where(inside, 1 + winner[:, None, None], found)
    return found, ground


def objects(found: Int[Tensor, "n h w"]) -> Bool[Tensor, "n 9 h w"]:
    """The pixels of the object in each cell."""
    cells = _cells(*found.shape[1:])
    return torch.stack([(found > 0) & (cells == cell) for cell in range(SIDE**2)], 1)


def mean_iou(found: Int[Tensor, "n h w"], true: Int[Tensor, "n h w"], classes: int) -> float:
    """Intersection over union of each class over all pictures, averaged over the classes that occur."""
    shares = []
    for number in range(classes):
        a, b = found == number, true == number
        if b.any():
            shares.append(float((a & b).sum() / (a | b).sum()))
    return sum(shares) / len(shares)


def box_iou(a: Float[Tensor, "*m 4"], b: Float[Tensor, "*k 4"]) -> Float[Tensor, "*n"]:
    """Intersection over union of boxes (left, top, right, bottom); 0 where one is empty."""
    size = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0)
    both = size.prod(-1)
    each = [(x[..., 2:] - x[..., :2]).prod(-1) for x in (a, b)]
    return both / (each[0] + each[1] - both).clamp(min=1e-9)


def _cells(height: int, width: int) -> Int[Tensor, "h w"]:
    row, column = (torch.arange(n) * SIDE // n for n in (height, width))
    return row[:, None] * SIDE + column


def _closed(mask: Bool[Tensor, "n h w"]) -> Bool[Tensor, "n h w"]:
    """Without holes and gaps of one or two pixels."""
    grown = max_pool2d(mask[:, None].float(), 3, 1, 1)
    return (1 - max_pool2d(1 - grown, 3, 1, 1))[:, 0] > 0.5
