"""Captions of scenes at four levels of care, from alt text to several sentences.

A texture that is not said means solid, at every level but the noisy one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from sfumato.data.shapes.scene import (
    BACKGROUNDS,
    COLOURS,
    PLACES,
    SHAPES,
    SIZES,
    SLOTS,
    TEXTURES,
    Scenes,
    scene_keys,
    unit,
)
from sfumato.errors import UsageError, nearest

LEVELS = ("noisy", "short", "full", "descriptive")

NOISE = ("free", "stock", "photo", "image", "vector", "download", "best", "new", "my", "idea")
NUMBERS = ("one", "two", "three")
GRAMMAR = (
    "a", "an", "the", "and", "at", "on", "is", "of", ",", ".",
    "above", "below", "background", "object", "objects", *NUMBERS,
)  # fmt: skip
PLACE_WORDS = ("top", "bottom", "left", "right", "centre")
VOCABULARY: tuple[str, ...] = (
    COLOURS + SHAPES + SIZES + TEXTURES[1:] + BACKGROUNDS + PLACE_WORDS + GRAMMAR + NOISE
)
"""Every word that captions are made of; commas and full stops are words, "solid" is not."""
LONGEST = 40
"""No caption has more words than this."""

# How often a short caption says more than colour, shape and texture.
_SAYS_SIZE, _SAYS_PLACE, _SAYS_BACKGROUND, _SAYS_RELATION = 0.25, 0.2, 0.25, 0.8


class _Thing(NamedTuple):
    """One object, in words; the texture is empty when solid."""

    shape: str
    colour: str
    size: str
    texture: str
    place: str
    cell: int


def caption(scenes: Scenes, level: str | Sequence[str], seed: int = 0) -> list[str]:
    """Describe every scene at its level; the words chosen depend on ``seed`` and the scene's key alone."""
    levels = [level] * len(scenes) if isinstance(level, str) else list(level)
    for unknown in set(levels) - set(LEVELS):
        raise UsageError(f"Unknown caption level '{unknown}'{nearest(unknown, LEVELS)}")
    chance = unit(scene_keys(seed, scenes.key), range(16)).tolist()
    grounds = [BACKGROUNDS[b] for b in scenes.background.tolist()]
    columns = (scenes.shape, scenes.colour, scenes.size, scenes.texture, scenes.place)
    rows = torch.stack(columns, 2).tolist()
    out = []
    for row, ground, chances, wanted in zip(rows, grounds, chance, levels, strict=True):
        things = [_thing(*values) for values in row if values[0] >= 0]
        out.append(_WRITERS[wanted](things, ground, chances))
    return out


def _thing(shape: int, colour: int, size: int, texture: int, place: int) -> _Thing:
    said = "" if texture == 0 else TEXTURES[texture]
    return _Thing(SHAPES[shape], COLOURS[colour], SIZES[size], said, PLACES[place], place)


def _phrase(*words: str) -> str:
    text = " ".join(filter(None, words))
    return f"an {text}" if text[0] in "aeiou" else f"a {text}"


def _join(parts: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))


def _full(things: list[_Thing], ground: str, _: list[float]) -> str:
    parts = [f"{_phrase(t.size, t.texture, t.colour, t.shape)} at the {t.place}" for t in things]
    return f"{_join(parts)} on {_phrase(ground)} background"


def _short(things: list[_Thing], ground: str, chances: list[float]) -> str:
    parts = [
        _phrase(t.size if chances[k] < _SAYS_SIZE else "", t.texture, t.colour, t.shape)
        for k, t in enumerate(things)
    ]
    if chances[SLOTS] < _SAYS_PLACE:
        text = _join([f"{part} at the {t.place}" for part, t in zip(parts, things, strict=True)])
    elif len(things) == 2 and chances[SLOTS + 1] < _SAYS_RELATION:
        true = relations(things[0].cell, things[1].cell)
        text = f"{parts[0]} {true[int(chances[SLOTS + 2] * len(true))]} {parts[1]}"
    else:
        text = _join(parts)
    return f"{text} on {_phrase(ground)} background" if chances[SLOTS + 3] < _SAYS_BACKGROUND else text


def relations(first: int, second: int) -> list[str]:
    """What may truly be said of an object in the first cell towards one in the second."""
    (row, column), (other_row, other_column) = divmod(first, 3), divmod(second, 3)
    across = {-1: ["left of"], 0: [], 1: ["right of"]}[(column > other_column) - (column < other_column)]
    return across + {-1: ["above"], 0: [], 1: ["below"]}[(row > other_row) - (row < other_row)]


def _descriptive(things: list[_Thing], ground: str, _: list[float]) -> str:
    noun = "object" if len(things) == 1 else "objects"
    opening = f"{NUMBERS[len(things) - 1]} {noun} on {_phrase(ground)} background."
    parts = [f"at the {t.place} is {_phrase(t.size, t.texture, t.colour, t.shape)}." for t in things]
    return " ".join([opening, *parts])


def _noisy(things: list[_Thing], ground: str, chances: list[float]) -> str:
    """Alt text as the web has it: advertisement, one object of several, often in the wrong colour."""
    thing = things[int(chances[0] * len(things))]
    colour = thing.colour if chances[1] < 0.5 else COLOURS[int(chances[2] * len(COLOURS))]
    noise = [NOISE[int(c * len(NOISE))] for c in chances[3 : 4 + int(chances[6] * 3)]]
    what = _phrase(colour, thing.shape) if chances[7] < 0.7 else f"{thing.shape} {ground} background"
    return " ".join([*noise, what] if chances[8] < 0.5 else [what, *noise])


_WRITERS = {"noisy": _noisy, "short": _short, "full": _full, "descriptive": _descriptive}
