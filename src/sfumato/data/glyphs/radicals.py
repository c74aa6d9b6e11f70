"""Invented characters: twenty radicals of few strokes, two of which share a square in one of three ways.

They are built as Chinese characters are, and mean nothing. Radicals live in a unit square, all straight.
"""

from __future__ import annotations

import itertools

import torch
from jaxtyping import Bool, Float
from torch import Tensor

RADICALS = (
    ".5,0 .5,1 | 0,.6 1,.6",  # a cross, like ten
    "0,.95 1,.95 | 0,.5 1,.5 | 0,.05 1,.05",
    "0,0 0,1 1,1 1,0 0,0",  # a mouth
    "0,0 0,1 1,1 1,0 0,0 | 0,.5 1,.5",  # a sun
    "0,0 0,1 1,1 1,0 0,0 | .5,0 .5,1 | 0,.5 1,.5",  # a field
    ".5,0 .5,1 | 0,.65 1,.65 | .5,.6 0,.1 | .5,.6 1,.1",  # a tree
    ".5,1 .45,.55 0,0 | .46,.55 1,0",  # a man
    "0,.7 1,.7 | .5,1 .45,.6 0,0 | .48,.6 1,0",
    "0,0 0,.6 | .5,0 .5,1 | 1,0 1,.6 | 0,0 1,0",  # a mountain
    ".5,.05 .5,1 | 0,.05 1,.05 | .1,.55 .9,.55",  # earth
    "0,1 1,1 | .5,1 .5,0 .25,.1 | .1,.5 .9,.5",
    ".5,0 .5,1 | 0,.2 .3,.7 | 1,.2 .7,.7",  # water
    ".5,1 .4,.6 0,0 | .4,.5 1,0 | .1,.75 .15,.5 | .9,.8 .8,.55",  # fire
    "0,1 1,1 .3,.5 | .6,.7 .6,0 .3,.1",
    "0,.8 1,.8 | .3,1 .3,.4 .1,0 | .7,1 .7,0 1,0",
    ".15,0 .15,1 .85,1 .85,0 .65,.05 | .15,.66 .85,.66 | .15,.33 .85,.33",  # a moon
    ".5,1 .2,.55 .8,.35 .1,0 | .8,.9 .3,.3",  # silk
    "0,1 0,0 1,0 | .4,1 .4,.3 | .4,.7 1,.7",
    "0,.75 1,.75 .9,0 | .45,1 .4,.4 0,0",  # a blade
    ".1,1 0,.75 | .5,1 .5,.75 | .9,1 1,.75 | 0,.6 1,.6 .5,.3 | .5,.35 .5,0",
)  # fmt: skip
WAYS = ("beside", "above", "around")
PLACES = {
    "beside": ((0.0, 0.0, 0.4, 1.0), (0.56, 0.0, 1.0, 1.0)),
    "above": ((0.0, 0.58, 1.0, 1.0), (0.0, 0.0, 1.0, 0.42)),
    "around": ((0.0, 0.0, 1.0, 1.0), (0.28, 0.1, 0.78, 0.62)),
}
"""Left, bottom, right and top of the first and second radical."""
FRAMES = ("0,0 0,1 1,1 1,0", "1,1 0,1 0,0 1,0", "0,1 1,1 .95,0 | 0,1 0,.85")
"""What can stand around another radical: open frames."""
_FIRST = 0xE000
PAIRS = [
    *((way, *pair) for way in WAYS[:2] for pair in itertools.permutations(range(len(RADICALS)), 2)),
    *(("around", *pair) for pair in itertools.product(range(len(FRAMES)), range(len(RADICALS)))),
]
CHARACTERS = "".join(chr(_FIRST + i) for i in range(len(PAIRS)))
"""820 characters, in the private use area of Unicode."""


def invented() -> tuple[Float[Tensor, "g s 4"], Bool[Tensor, "g s"]]:
    """The strokes of ``CHARACTERS``, each from x, y to x, y, and which of them there are."""
    lines, there = _padded([_pieces(strokes) for strokes in (*RADICALS, *FRAMES)])
    around = torch.tensor([way == "around" for way, _, _ in PAIRS])
    first, second = (torch.tensor([pair[k] for pair in PAIRS]) for k in (1, 2))
    outer = torch.where(around, len(RADICALS) + first, first)
    boxes = torch.tensor([PLACES[way] for way, _, _ in PAIRS])
    both = [_placed(lines[part], boxes[:, k]) for k, part in enumerate((outer, second))]
    return torch.cat(both, 1), torch.cat([there[outer], there[second]], 1)


def _pieces(strokes: str) -> list[list[float]]:
    """Straight pieces between the points of strokes."""
    chains = [
        [[float(v) for v in point.split(",")] for point in chain.split()] for chain in strokes.split("|")
    ]
    return [[*a, *b] for chain in chains for a, b in itertools.pairwise(chain)]


def _padded(glyphs: list[list[list[float]]]) -> tuple[Tensor, Tensor]:
    most = max(map(len, glyphs))
    lines, there = torch.zeros(len(glyphs), most, 4), torch.zeros(len(glyphs), most, dtype=torch.bool)
    for i, pieces in enumerate(glyphs):
        lines[i, : len(pieces)], there[i, : len(pieces)] = torch.tensor(pieces), True
    return lines, there


def _placed(lines: Float[Tensor, "g s 4"], box: Float[Tensor, "g 4"]) -> Float[Tensor, "g s 4"]:
    corner, side = box[:, :2], box[:, 2:] - box[:, :2]
    return corner.repeat(1, 2)[:, None] + lines * side.repeat(1, 2)[:, None]
