"""Captioned scenes of simple shapes: a world small enough to be judged exactly."""

from sfumato.data.shapes.captions import LEVELS, LONGEST, VOCABULARY, caption
from sfumato.data.shapes.dataset import Shapes
from sfumato.data.shapes.one import OneShape
from sfumato.data.shapes.reading import Wanted, read, satisfies
from sfumato.data.shapes.render import render
from sfumato.data.shapes.scene import HELD_OUT, Scenes, draw

__all__ = [
    "HELD_OUT",
    "LEVELS",
    "LONGEST",
    "VOCABULARY",
    "OneShape",
    "Scenes",
    "Shapes",
    "Wanted",
    "caption",
    "draw",
    "read",
    "render",
    "satisfies",
]
