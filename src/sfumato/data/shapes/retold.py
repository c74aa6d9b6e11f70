"""Shapes told well and badly: a few with careful captions, many with the alt text of the web."""

from __future__ import annotations

from sfumato.data.shapes.dataset import Shapes
from sfumato.data.shapes.one import OneShape

FEW = 2_000
"""Pairs somebody has described with care."""
CAREFUL, CARELESS = {"full": 1.0}, {"noisy": 1.0}


def described_shape(split: str = "train", size: int = 32) -> OneShape:
    """One coloured shape, few pictures, everything said: what a captioner learns from."""
    return OneShape(split, size, length=FEW, levels=CAREFUL)


def described_shapes(split: str = "train", size: int = 64) -> Shapes:
    """Scenes of one to three shapes, few pictures, everything said in several sentences."""
    return Shapes(split, size, length=FEW, levels={"descriptive": 1.0})


def alt_text_shape(split: str = "train", size: int = 32) -> OneShape:
    """One coloured shape with alt text: advertisement, and often another colour than that of the picture."""
    return OneShape(split, size, levels=CARELESS)
