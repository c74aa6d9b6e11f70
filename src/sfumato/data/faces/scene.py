"""The world of faces: what a portrait shows, as numbers drawn as a pure function of a seed and an index."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sfumato.data.shapes.scene import below, scene_keys, unit
from sfumato.errors import UsageError, nearest

KINDS: Mapping[str, tuple[str, ...]] = {
    "head": ("round", "long", "square", "pointed"),
    "skin": ("pale", "rosy", "tan", "brown", "dark"),
    "hair": ("black", "brown", "blond", "red", "grey", "blue"),
    "style": ("short", "long", "curly", "bun", "spiky", "bob"),
    "glasses": ("none", "round", "square"),
    "mood": ("sad", "calm", "smiling", "laughing"),
    "eyes": ("brown", "blue", "green"),
    "shadow": ("none", "blue", "violet", "green"),
    "lips": ("plain", "red", "pink", "plum"),
    "clothes": ("white", "red", "yellow", "green", "blue", "black"),
    "background": ("cream", "sky", "mint", "rose", "lilac", "slate"),
}
"""What a face can be, by attribute; the first of glasses, shadow and lips is nature."""
ATTRIBUTES = tuple(KINDS)
DIRECTIONS = ("gaze_x", "gaze_y", "turn", "tilt")
"""Where the eyes look (right, down), how far the head is turned (right) and leans (clockwise), in [-1, 1]."""
BUILD = ("width", "height", "eyes_apart", "eye_size", "nose", "mouth", "brow", "right", "down", "light")
"""What else tells one picture from another, in [-1, 1]; no attribute, but an ideal edit keeps it."""
# Glasses and make-up are worn by some; all else is as likely as its neighbour.
_PLAIN = {"glasses": 0.5, "shadow": 0.4, "lips": 0.4}


@dataclass(frozen=True)
class Portraits:
    """What n pictures show: attributes as indices into ``KINDS``, and continuous numbers in [-1, 1]."""

    head: Int[Tensor, " n"]
    skin: Int[Tensor, " n"]
    hair: Int[Tensor, " n"]
    style: Int[Tensor, " n"]
    glasses: Int[Tensor, " n"]
    mood: Int[Tensor, " n"]
    eyes: Int[Tensor, " n"]
    shadow: Int[Tensor, " n"]
    lips: Int[Tensor, " n"]
    clothes: Int[Tensor, " n"]
    background: Int[Tensor, " n"]
    directions: Float[Tensor, "n 4"]
    """In the order of ``DIRECTIONS``."""
    build: Float[Tensor, "n 10"]
    """In the order of ``BUILD``."""
    key: Int[Tensor, " n"]
    """What the choice of words in captions derives from."""

    def __len__(self) -> int:
        return len(self.key)

    def __getitem__(self, rows: Tensor | slice) -> Portraits:
        return Portraits(*(getattr(self, f.name)[rows] for f in fields(self)))

    @property
    def table(self) -> Int[Tensor, "n a"]:
        """All attributes, in the order of ``ATTRIBUTES``."""
        return torch.stack([getattr(self, name) for name in ATTRIBUTES], 1)

    def changed(self, **attributes: str) -> Portraits:
        """The same people with other attributes: what an ideal edit would show.

        >>> draw(0, torch.arange(2)).changed(hair="red", glasses="none").hair.tolist()
        [3, 3]
        """
        return replace(self, **{name: torch.full_like(self.key, _index(name, value))
                                for name, value in attributes.items()})  # fmt: skip


def _index(attribute: str, value: str) -> int:
    if attribute not in KINDS:
        raise UsageError(f"Faces have no attribute '{attribute}'{nearest(attribute, ATTRIBUTES)}")
    if value not in KINDS[attribute]:
        raise UsageError(f"No '{attribute}' of a face is '{value}'{nearest(value, KINDS[attribute])}")
    return KINDS[attribute].index(value)


def draw(seed: int, indices: Int[Tensor, " n"]) -> Portraits:
    """Draw the portraits with these numbers: portrait i depends on ``seed`` and i alone."""
    key = scene_keys(seed, indices)
    drawn = {name: below(key, k, len(kinds)) for k, (name, kinds) in enumerate(KINDS.items())}
    for k, (name, share) in enumerate(_PLAIN.items()):
        worn = 1 + below(key, 20 + k, len(KINDS[name]) - 1)
        drawn[name] = torch.where(unit(key, range(30 + k, 31 + k))[:, 0] < share, 0, worn)
    directions = unit(key, range(40, 44)) * 2 - 1
    build = unit(key, range(50, 50 + len(BUILD))) * 2 - 1
    return Portraits(**drawn, directions=directions, build=build, key=key)
