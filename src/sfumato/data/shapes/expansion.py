"""Short prompts made long: what they leave open is settled by the seed, in the words of careful captions."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from sfumato.data.shapes.captions import caption
from sfumato.data.shapes.reading import Wanted, read, satisfies
from sfumato.data.shapes.scene import ATTRIBUTES, PLACES, Scenes, draw
from sfumato.errors import DataError

DRAWN = 512
"""Scenes among which one is sought that a prompt describes."""


def expanded(text: str, seed: int = 0, *, level: str = "full", places: Sequence[str] = PLACES) -> str:
    """A caption at ``level`` of a scene that a prompt describes, with everything unsaid drawn by the seed.

    What is said stays as it is. Objects stand in ``places`` alone, unless the prompt says where. Raises
    ``DataError`` for a text that ``read`` cannot read, and if no scene has room for what it says.

    >>> expanded("a red circle at the top left on a navy background", 3)
    'a large red circle at the top left on a navy background'
    """
    wanted = read(text)
    scenes = _settled(wanted, zlib.crc32(f"{seed} {text}".encode()), places)
    fits = satisfies(scenes, [wanted] * len(scenes))["all"] & _apart(scenes)
    if not fits.any():
        raise DataError(f"The text '{text}' leaves no scene to draw; say less, or ask for fewer objects.")
    return caption(scenes[fits.nonzero()[:1, 0]], level, seed)[0]


def _settled(wanted: Wanted, seed: int, places: Sequence[str]) -> Scenes:
    """Scenes of as many objects as are wanted, with all that is said of each put in its place."""
    number = wanted.number or 1
    scenes = draw(seed, torch.arange(DRAWN), pairs="any", objects=(number,))
    if tuple(places) != PLACES:
        allowed = torch.tensor([PLACES.index(place) for place in places])
        scenes = replace(
            scenes, place=torch.where(scenes.place < 0, -1, allowed[scenes.place % len(allowed)])
        )
    columns = {name: getattr(scenes, name).clone() for name in ATTRIBUTES}
    for slot, thing in enumerate(wanted.objects):
        for name in ATTRIBUTES:
            if (value := getattr(thing, name)) is not None:
                columns[name][:, slot] = value
    ground = scenes.background if wanted.background is None else torch.full((DRAWN,), wanted.background)
    if not wanted.objects:
        columns["texture"] = torch.where(columns["texture"] < 0, -1, 0)
    return replace(scenes, background=ground, **columns)


def _apart(scenes: Scenes) -> Tensor:
    """Whether no two objects share a cell, nor colour and shape."""
    there = scenes.place >= 0
    free = torch.arange(there.shape[1]) - 100
    cells = torch.where(there, scenes.place, free).sort(1).values
    pairs = torch.where(there, scenes.colour * 100 + scenes.shape, free).sort(1).values
    return (cells.diff(dim=1) != 0).all(1) & (pairs.diff(dim=1) != 0).all(1)
