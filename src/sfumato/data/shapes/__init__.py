"""Captioned scenes of simple shapes: a world small enough to be judged exactly."""

from sfumato.data.shapes.captions import LEVELS, LONGEST, VOCABULARY, caption
from sfumato.data.shapes.dataset import Shapes, one_shape
from sfumato.data.shapes.reading import Wanted, read, satisfies
from sfumato.data.shapes.render import render
from sfumato.data.shapes.scene import HELD_OUT, Scenes, draw

__all__ = [
    "HELD_OUT",
    "LEVELS",
    "LONGEST",
    "VOCABULARY",
    "Scenes",
    "Shapes",
    "Wanted",
    "caption",
    "draw",
    "one_shape",
    "read",
    "render",
    "satisfies",
]
