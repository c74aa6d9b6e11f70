"""A world of drawn faces of which everything is known exactly, from the hair to the gaze."""

from sfumato.data.faces.captions import LONGEST, VOCABULARY, caption
from sfumato.data.faces.dataset import Faces
from sfumato.data.faces.render import render
from sfumato.data.faces.scene import ATTRIBUTES, DIRECTIONS, KINDS, Portraits, draw

__all__ = [
    "ATTRIBUTES",
    "DIRECTIONS",
    "KINDS",
    "LONGEST",
    "VOCABULARY",
    "Faces",
    "Portraits",
    "caption",
    "draw",
    "render",
]
