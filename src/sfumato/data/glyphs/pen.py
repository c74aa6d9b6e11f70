"""A pen with a style: it turns skeletons into strokes of changing width."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sfumato.data.glyphs.skeletons import table

NOTHING = -99.0
"""Half width of a stroke that is not there."""
WAVES = 3
"""Of which an elastic displacement is the sum."""
SERIF_WEIGHT = 0.75
"""Half width of a serif, of that of upright strokes."""
STANDING = 1.25
"""Length of a standing serif, of that of half a lying one."""
MIDDLE = 0.31
"""Above this height standing serifs hang, below they rise."""


@dataclass(frozen=True)
class Style:
    """How a pen writes; every field has one number a glyph. Lengths are in heights of a capital."""

    weight: Float[Tensor, " n"]
    """Half width of an upright stroke."""
    slant: Float[Tensor, " n"]
    """How far the top of a capital leans to the right."""
    contrast: Float[Tensor, " n"]
    """How much thinner level strokes are: 0 as thick as the others, 1 hairlines of no width."""
    serif: Float[Tensor, " n"]
    """Half length of a serif."""
    roundness: Float[Tensor, " n"]
    """1: arcs of ellipses; 0: nearly rectangles."""
    width: Float[Tensor, " n"]
    """How wide letters are, of the skeleton's width."""
    jitter: Float[Tensor, " n"]
    """Typical elastic displacement of a point."""

    def __len__(self) -> int:
        return len(self.weight)

    def __getitem__(self, rows: Int[Tensor, " m"]) -> Style:
        return Style(*(getattr(self, field.name)[rows] for field in fields(self)))

    @classmethod
    def stack(cls, rows: Float[Tensor, "n 7"]) -> Style:
        """From a table with one column a field."""
        return cls(*rows.unbind(1))


@dataclass(frozen=True)
class Strokes:
    """Straight pieces from a to b whose half width goes from one value to another; y grows upwards."""

    a: Float[Tensor, "n s 2"]
    b: Float[Tensor, "n s 2"]
    start: Float[Tensor, "n s"]
    """Half width at a; below 0 where there is no stroke."""
    stop: Float[Tensor, "n s"]

    def __getitem__(self, rows: Int[Tensor, " m"]) -> Strokes:
        return Strokes(self.a[rows], self.b[rows], self.start[rows], self.stop[rows])

    @property
    def there(self) -> Tensor:
        return self.start > NOTHING / 2

    @property
    def extent(self) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """The leftmost and the rightmost x of every glyph's ink."""
        there, thick = self.there, torch.maximum(self.start, self.stop)
        low = torch.minimum(self.a[..., 0], self.b[..., 0]) - thick
        high = torch.maximum(self.a[..., 0], self.b[..., 0]) + thick
        return (
            torch.where(there, low, math.inf).amin(1),
            torch.where(there, high, -math.inf).amax(1),
        )

    def moved(self, points: Callable[[Tensor], Tensor]) -> Strokes:
        """The same strokes with their ends where ``points`` puts them."""
        return Strokes(points(self.a), points(self.b), self.start, self.stop)


def write(glyphs: Int[Tensor, " n"], style: Style, chance: Float[Tensor, "n 15"] | None = None) -> Strokes:
    """The strokes of glyphs (numbers in ``ALPHABET``), each in its own style.

    ``chance``, in [0, 1), says how the displacement by ``style.jitter`` goes; without it there is none.
    """
    t = table()
    lines = torch.lerp(t.square[glyphs], t.round[glyphs], style.roundness[:, None, None])
    a, b = lines[..., :2], lines[..., 2:]
    along = b - a
    level = along[..., 0].square() / along.square().sum(-1).clamp(min=1e-12)
    half = style.weight[:, None] * (1 - style.contrast[:, None] * level)
    start = (half + half.gather(1, t.before[glyphs])) / 2
    stop = (half + half.gather(1, t.after[glyphs])) / 2

    def put(points: Tensor) -> Tensor:
        points = points if chance is None else points + _elastic(points, chance) * style.jitter[:, None, None]
        x = style.width[:, None] * points[..., 0] + style.slant[:, None] * points[..., 1]
        return torch.stack([x, points[..., 1]], -1)

    a, b = put(a), put(b)
    there = t.there[glyphs]
    foot, tip, thick = _serifs(glyphs, style, a, b)
    marked = t.serif_there[glyphs]
    return Strokes(
        torch.cat([a, foot], 1),
        torch.cat([b, tip], 1),
        torch.cat([torch.where(there, start, NOTHING), torch.where(marked, thick, NOTHING)], 1),
        torch.cat([torch.where(there, stop, NOTHING), torch.where(marked, thick, NOTHING)], 1),
    )


def _serifs(glyphs: Tensor, style: Style, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """From and to where serifs go, and their half width."""
    t = table()
    place = t.serif_segment[glyphs][..., None].expand(-1, -1, 2)
    at = torch.where((t.serif_end[glyphs] == 0)[..., None], a.gather(1, place), b.gather(1, place))
    length, stands = style.serif[:, None], t.serif_stands[glyphs]
    up = torch.where(at[..., 1] > MIDDLE, -STANDING, STANDING) * length
    nothing = torch.zeros_like(up)
    tip = torch.stack([torch.where(stands, nothing, length), torch.where(stands, up, nothing)], -1)
    foot = torch.stack([torch.where(stands, nothing, -length), nothing], -1)
    thick = SERIF_WEIGHT * style.weight[:, None] * (1 - style.contrast[:, None] / 2)
    return at + foot, at + tip, thick.expand_as(up)


def _elastic(points: Float[Tensor, "n s 2"], chance: Float[Tensor, "n 15"]) -> Float[Tensor, "n s 2"]:
    """A smooth displacement of about 1: slow waves over the plane, their course by chance."""
    c = chance.view(-1, 1, WAVES, 5)
    phase = 2 * math.pi * c[..., 0]
    course = points[..., None, 0] * (4 * c[..., 1] - 2) * 3 + points[..., None, 1] * (4 * c[..., 2] - 2) * 2
    wave = torch.sin(phase + course)
    push = 2 * math.pi * c[..., 3]
    strength = (0.5 + c[..., 4]) * (2 / WAVES) ** 0.5
    return torch.stack([(wave * strength * push.cos()).sum(-1), (wave * strength * push.sin()).sum(-1)], -1)
