"""Invented characters: twenty radicals of few strokes, two of which share a square in one of three ways.

They are built as Chinese characters are, and mean nothing. Radicals live in a unit square, all straight.
"""

from __future__ import annotations

import itertools

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


def radical_strokes() -> list[str]:
    """The strokes of ``CHARACTERS``, as the table of skeletons writes them."""
    return [_strokes(*pair) for pair in PAIRS]


def _strokes(way: str, first: int, second: int) -> str:
    outer = FRAMES[first] if way == "around" else RADICALS[first]
    there, here = PLACES[way]
    return f"{_placed(outer, there)} | {_placed(RADICALS[second], here)}"


def _placed(strokes: str, box: tuple[float, float, float, float]) -> str:
    left, bottom, right, top = box

    def point(text: str) -> str:
        if text == "|":
            return text
        x, y = map(float, text.split(","))
        return f"{left + x * (right - left):.3f},{bottom + y * (top - bottom):.3f}"

    return " ".join(point(text) for text in strokes.split())
