"""The lines that letters and digits are made of: one small table, read into numbered segments.

Lengths are in units of the height of a capital; y grows upwards from the line the letters stand on. Every
stroke is a chain of points ``x,y`` and arcs ``@centre x,centre y,radius x,radius y,from,to`` (degrees,
counter-clockwise if "to" is larger). A point with ``*`` may bear a lying serif, one with ``!`` one upright.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sfumato.data.glyphs.radicals import CHARACTERS, invented
from sfumato.errors import UsageError

UPPER, LOWER, DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz", "0123456789"
LATIN = UPPER + LOWER + DIGITS
ALPHABET = LATIN + CHARACTERS
"""Every character there is a skeleton of; the last are the invented ones, of radicals."""
ARC = 22.5
"""Degrees of a segment of an arc."""
SQUARENESS = 4.0
"""Exponent of the superellipse that an arc turns into where nothing is round; 2 is an ellipse."""
BELOW = 0.36
"""How far letters reach below the line."""

STROKES = {
    "A": "0,0* .35,1 .7,0* | .12,.34 .58,.34",
    "B": "0,0* 0,1* | 0,1 .28,1 @.28,.77,.24,.23,90,-90 0,.54 | .28,.54 @.3,.27,.28,.27,90,-90 0,0",
    "C": "@.38,.5,.38,.5,50,310",
    "D": "0,0* 0,1* | 0,1 .22,1 @.22,.5,.44,.5,90,-90 0,0",
    "E": "0,0* 0,1* | 0,1 .54,1! | 0,.52 .44,.52 | 0,0 .56,0!",
    "F": "0,0* 0,1* | 0,1 .54,1! | 0,.52 .44,.52",
    "G": "@.38,.5,.38,.5,50,360 .44,.5",
    "H": "0,0* 0,1* | .62,0* .62,1* | 0,.52 .62,.52",
    "I": ".18,0 .18,1 | 0,1 .36,1 | 0,0 .36,0",
    "J": ".4,1* .4,.24 @.2,.24,.2,.24,0,-170",
    "K": "0,0* 0,1* | .58,1* 0,.42 | .18,.58 .62,0*",
    "L": "0,0* 0,1* | 0,0 .52,0!",
    "M": "0,0* 0,1* .38,.3 .76,1* .76,0*",
    "N": "0,0* 0,1* .62,0 .62,1*",
    "O": "@.4,.5,.4,.5,90,450",
    "P": "0,0* 0,1* | 0,1 .28,1 @.28,.74,.27,.26,90,-90 0,.48",
    "Q": "@.4,.5,.4,.5,90,450 | .46,.26 .8,-.12",
    "R": "0,0* 0,1* | 0,1 .28,1 @.28,.74,.27,.26,90,-90 0,.48 | .24,.48 .6,0*",
    "S": "@.3,.75,.28,.25,35,270 @.3,.25,.3,.25,90,-145",
    "T": "0,1! .64,1! | .32,1 .32,0*",
    "U": "0,1* 0,.3 @.31,.3,.31,.3,180,360 .62,1*",
    "V": "0,1* .35,0 .7,1*",
    "W": "0,1* .25,0 .48,.8 .71,0 .96,1*",
    "X": "0,0* .66,1* | 0,1* .66,0*",
    "Y": "0,1* .33,.48 .66,1* | .33,.48 .33,0*",
    "Z": "0,1! .6,1 0,0 .62,0!",
    "a": "@.24,.31,.24,.31,0,360 | .48,.62* .48,0*",
    "b": "0,1* 0,0 | @.24,.31,.24,.31,180,540",
    "c": "@.26,.31,.26,.31,50,310",
    "d": "@.24,.31,.24,.31,0,360 | .48,1* .48,0*",
    "e": ".01,.33 .5,.33 @.25,.31,.25,.31,5,318",
    "f": "@.3,.82,.16,.18,40,180 .14,0* | 0,.6 .34,.6",
    "g": "@.24,.31,.24,.31,0,360 | .48,.62* .48,-.12 @.25,-.12,.23,.22,0,-160",
    "h": "0,0* 0,1* | @.22,.38,.22,.24,180,0 .44,0*",
    "i": "0,0* 0,.62* | 0,.86 0,.88",
    "j": ".16,.62* .16,-.14 @0,-.14,.16,.2,0,-120 | .16,.86 .16,.88",
    "k": "0,0* 0,1* | .4,.62* 0,.24 | .14,.37 .44,0*",
    "l": "0,1* 0,.14 @.14,.14,.14,.14,180,290",
    "m": "0,0* 0,.62* | @.18,.42,.18,.2,180,0 .36,0* | @.54,.42,.18,.2,180,0 .72,0*",
    "n": "0,0* 0,.62* | @.21,.4,.21,.22,180,0 .42,0*",
    "o": "@.25,.31,.25,.31,90,450",
    "p": "0,-.35* 0,.62* | @.24,.31,.24,.31,180,540",
    "q": "@.24,.31,.24,.31,0,360 | .48,.62* .48,-.35 .6,-.25",
    "r": "0,0* 0,.62* | @.2,.4,.2,.22,180,50",
    "s": "@.2,.465,.19,.155,35,270 @.2,.155,.21,.155,90,-145",
    "t": ".16,.9 .16,.16 @.32,.16,.16,.16,180,300 | 0,.6 .34,.6",
    "u": "0,.62* 0,.22 @.21,.22,.21,.22,180,360 | .42,.62* .42,0*",
    "v": "0,.62* .23,0 .46,.62*",
    "w": "0,.62* .18,0 .35,.5 .52,0 .7,.62*",
    "x": "0,0* .44,.62* | 0,.62* .44,0*",
    "y": "0,.62* .23,.04 | .46,.62* .12,-.35",
    "z": "0,.62! .42,.62 0,0 .44,0!",
    "0": "@.27,.5,.27,.5,90,450 | .17,.3 .37,.7",
    "1": "0,.78 .22,1 .22,0*",
    "2": "@.26,.74,.26,.26,160,-35 0,0 .54,0!",
    "3": "@.25,.75,.24,.25,150,-90 @.25,.25,.27,.25,90,-150",
    "4": ".4,0* .4,1 0,.3 .56,.3",
    "5": ".48,1! .06,1 .03,.55 @.25,.32,.27,.32,130,-140",
    "6": "@.27,.3,.27,.3,180,-180 | @.45,.3,.45,.7,100,180",
    "7": "0,1! .54,1 .18,0*",
    "8": "@.26,.76,.22,.24,90,450 | @.26,.26,.26,.26,90,450",
    "9": "@.25,.7,.25,.3,0,360 | @.05,.7,.45,.7,0,-80",
}  # fmt: skip


class Serif(NamedTuple):
    """Where a serif may be: at the start (0) or end (1) of a segment, lying or standing."""

    segment: int
    end: int
    stands: bool


@dataclass(frozen=True)
class Skeleton:
    """One glyph: its segments twice over, with round and with square arcs."""

    round: list[tuple[float, float, float, float]]
    square: list[tuple[float, float, float, float]]
    before: list[int]
    """The segment from which each goes on smoothly, itself where there is none."""
    after: list[int]
    serifs: list[Serif]


@dataclass(frozen=True)
class Table:
    """The skeletons of ``ALPHABET``, padded to the same number of segments."""

    round: Float[Tensor, "g s 4"]
    """From x, y to x, y."""
    square: Float[Tensor, "g s 4"]
    there: Bool[Tensor, "g s"]
    before: Int[Tensor, "g s"]
    after: Int[Tensor, "g s"]
    serif_segment: Int[Tensor, "g k"]
    serif_end: Int[Tensor, "g k"]
    serif_stands: Bool[Tensor, "g k"]
    serif_there: Bool[Tensor, "g k"]


def numbers_of(text: str) -> Int[Tensor, " n"]:
    """Where characters stand in ``ALPHABET``; ``UsageError`` names those that have no skeleton."""
    places = {character: i for i, character in enumerate(ALPHABET)}
    if missing := "".join(dict.fromkeys(c for c in text if c not in places)):
        raise UsageError(
            f"The stroke font has no {quoted(missing)}; it knows A to Z, a to z and 0 to 9. "
            "For other characters give font files."
        )
    return torch.tensor([places[character] for character in text], dtype=torch.long)


def quoted(characters: str, most: int = 12) -> str:
    """A few characters to be shown in a message.

    >>> quoted("ab")
    "'a', 'b'"
    """
    shown = ", ".join(repr(c) for c in characters[:most])
    return f"{shown} and {len(characters) - most} more" if len(characters) > most else shown


@functools.cache
def table() -> Table:
    """All skeletons as tensors; made once."""
    glyphs, (straight, straight_there) = [skeleton(STROKES[c]) for c in LATIN], invented()
    segments = max(straight.shape[1], *(len(glyph.round) for glyph in glyphs))
    serifs = max(len(glyph.serifs) for glyph in glyphs)
    shape, few = (len(ALPHABET), segments), (len(ALPHABET), serifs)
    round_, there = torch.zeros(*shape, 4), torch.zeros(shape, dtype=torch.bool)
    round_[len(LATIN) :, : straight.shape[1]] = straight
    there[len(LATIN) :, : straight.shape[1]] = straight_there
    square, before = round_.clone(), torch.arange(segments).repeat(len(ALPHABET), 1)
    after = before.clone()
    segment, end = torch.zeros(2, *few, dtype=torch.long)
    stands, serif = torch.zeros(2, *few, dtype=torch.bool)
    for i, glyph in enumerate(glyphs):
        n, k = len(glyph.round), len(glyph.serifs)
        round_[i, :n], square[i, :n] = torch.tensor(glyph.round), torch.tensor(glyph.square)
        there[i, :n] = serif[i, :k] = True
        before[i, :n], after[i, :n] = torch.tensor(glyph.before), torch.tensor(glyph.after)
        for j, (at, which, standing) in enumerate(glyph.serifs):
            segment[i, j], end[i, j], stands[i, j] = at, which, standing
    return Table(round_, square, there, before, after, segment, end, stands, serif)


def skeleton(text: str) -> Skeleton:
    """Read the strokes of a glyph.

    >>> skeleton("0,0* 0,1").serifs
    [Serif(segment=0, end=0, stands=False)]
    """
    glyph = Skeleton([], [], [], [], [])
    for stroke in text.split("|"):
        _add(glyph, stroke.split())
    return glyph


def _add(glyph: Skeleton, items: list[str]) -> None:
    """Add a stroke: a chain of points, along arcs in small steps."""
    chains: list[list[tuple[float, float]]] = [[], []]
    smooth: list[bool] = []
    """Whether the chain goes on without a corner at a point."""
    marks: list[str] = []
    for item in items:
        if item.startswith("@"):
            cx, cy, rx, ry, start, stop = map(float, item[1:].split(","))
            steps = max(2, math.ceil(abs(stop - start) / ARC))
            angles = [math.radians(start + (stop - start) * k / steps) for k in range(steps + 1)]
            for chain, power in zip(chains, (2.0, SQUARENESS), strict=True):
                chain += [
                    (cx + rx * _bent(math.cos(a), power), cy + ry * _bent(math.sin(a), power)) for a in angles
                ]
            smooth += [True] * len(angles)
            marks += [""] * len(angles)
        else:
            x, y = map(float, item.rstrip("*!").split(","))
            for chain in chains:
                chain.append((x, y))
            smooth.append(False)
            marks.append(item[-1] if item[-1] in "*!" else "")
    first = len(glyph.round)
    for k in range(len(smooth) - 1):
        ends = [(*chain[k], *chain[k + 1]) for chain in chains]
        if math.dist(ends[0][:2], ends[0][2:]) < 1e-3:  # a line that goes on where an arc ended
            glyph_at = len(glyph.round) - 1
        else:
            glyph_at = len(glyph.round)
            goes_on = smooth[k] and glyph_at > first
            glyph.round.append(ends[0])
            glyph.square.append(ends[1])
            glyph.before.append(glyph_at - 1 if goes_on else glyph_at)
            glyph.after.append(glyph_at)
            if goes_on:
                glyph.after[glyph_at - 1] = glyph_at
        for place, end in ((k, 0), (k + 1, 1)):
            new = end == 1 or k == 0
            if marks[place] and new:
                glyph.serifs.append(Serif(glyph_at, end, marks[place] == "!"))


def _bent(value: float, exponent: float) -> float:
    return math.copysign(abs(value) ** (2 / exponent), value) if abs(value) > 1e-9 else 0.0
