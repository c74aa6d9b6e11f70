"""The colours and proportions of drawn faces, by attribute, in the order of ``KINDS``."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.data.faces.scene import KINDS

RGB = {
    "skin": {
        "pale": (250, 224, 206), "rosy": (244, 188, 164), "tan": (216, 160, 112), "brown": (158, 104, 70),
        "dark": (96, 62, 46),
    },
    "hair": {
        "black": (36, 30, 38), "brown": (106, 62, 34), "blond": (238, 196, 92), "red": (200, 78, 30),
        "grey": (176, 178, 188), "blue": (54, 98, 206),
    },
    "eyes": {"brown": (104, 58, 24), "blue": (56, 130, 226), "green": (66, 158, 78)},
    "shadow": {"none": (0, 0, 0), "blue": (66, 120, 236), "violet": (150, 76, 206), "green": (56, 166, 116)},
    "lips": {"plain": (186, 84, 80), "red": (204, 22, 36), "pink": (246, 110, 156), "plum": (126, 28, 98)},
    "clothes": {
        "white": (244, 242, 236), "red": (206, 52, 56), "yellow": (246, 202, 58), "green": (62, 150, 92),
        "blue": (56, 92, 182), "black": (40, 40, 48),
    },
    "background": {
        "cream": (252, 238, 206), "sky": (164, 212, 248), "mint": (172, 232, 196), "rose": (250, 190, 196),
        "lilac": (204, 188, 242), "slate": (88, 104, 132),
    },
}  # fmt: skip
# Head: half width and half height, squareness (2 is an ellipse, 0 a squircle), narrowing of the chin.
HEAD = {
    "round": (0.525, 0.555, 2.0, 0.04), "long": (0.45, 0.66, 2.0, 0.10), "square": (0.475, 0.59, 0.25, 0.0),
    "pointed": (0.53, 0.62, 2.0, 0.40),
}  # fmt: skip
# Outline of the hair: height of its centre, its growth beyond the head across and along, squareness,
# height at which it ends, amplitude and number of its waves, and the radius of the bun.
OUTLINE = {
    "short": (-0.10, 0.045, -0.02, 2.0, 0.10, 0.0, 1.0, 0.0),
    "long": (0.12, 0.10, 0.21, 0.6, 2.0, 0.0, 1.0, 0.0),
    "curly": (-0.12, 0.18, 0.06, 2.0, 0.50, 0.05, 15.0, 0.0),
    "bun": (-0.10, 0.035, -0.04, 2.0, 0.08, 0.0, 1.0, 0.2),
    "spiky": (-0.12, 0.07, 0.04, 2.0, 0.02, 0.11, 17.0, 0.0),
    "bob": (-0.02, 0.13, 0.06, 0.8, 0.46, 0.0, 1.0, 0.0),
}
# Hairline: its height at the middle, slope, bend, parting and waves; and the size of the ears that show.
HAIRLINE = {
    "short": (-0.36, 0.22, 1.1, 0.0, 0.0, 1.0),
    "long": (-0.50, 0.0, 0.0, 1.0, 0.0, 0.0),
    "curly": (-0.30, 0.0, 1.1, 0.0, 0.03, 0.0),
    "bun": (-0.42, 0.0, 1.4, 0.0, 0.0, 1.0),
    "spiky": (-0.33, 0.0, 1.0, 0.0, 0.045, 1.0),
    "bob": (-0.22, 0.0, 0.5, 0.0, 0.0, 0.0),
}
# Mouth and brows: how far the corners rise, how far it opens, slope and lift of the brows, width of the eyes.
MOOD = {
    "sad": (-0.085, 0.0, 0.34, 0.0, 0.92), "calm": (0.005, 0.0, 0.0, 0.0, 1.0),
    "smiling": (0.10, 0.0, -0.06, 0.01, 1.0), "laughing": (0.085, 0.125, -0.12, 0.03, 0.88),
}  # fmt: skip


def colours(attribute: str) -> Float[Tensor, "k 3"]:
    """Of one attribute, from 0 to 1."""
    return torch.tensor([RGB[attribute][name] for name in KINDS[attribute]]) / 255


def proportions(table: Mapping[str, tuple[float, ...]], attribute: str) -> Float[Tensor, "k p"]:
    """The rows of one of the tables above."""
    return torch.tensor([table[name] for name in KINDS[attribute]])
