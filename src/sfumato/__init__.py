"""Every generative system of five lectures, in one library.

``sfumato.load("shapes")`` gives a system, ``sfumato.generate("a red circle")`` pictures that show
themselves in a notebook, ``sfumato.train("ddpm", "digits", out="runs/digits")`` a trained system. Nothing
heavy is imported before it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from sfumato.registry import SYSTEMS

if TYPE_CHECKING:
    from sfumato.apps.api import ask, generate, train
    from sfumato.apps.film import Film
    from sfumato.apps.load import load
    from sfumato.apps.pictures import Pictures
    from sfumato.core.generate import Generate
    from sfumato.core.request import (
        Branch,
        Caption,
        Complete,
        Dream,
        Edit,
        Embeddings,
        Images,
        Imagine,
        Interpolate,
        Invert,
        Layout,
        Letters,
        Mix,
        Progress,
        Ranking,
        Read,
        Reconstruct,
        Score,
        Stylize,
        Text,
        TextDiff,
        Translate,
        Upscale,
        Vary,
        Video,
        Walk,
    )

__version__ = "0.1.0"
__all__ = [
    "SYSTEMS",
    "Branch",
    "Caption",
    "Complete",
    "Dream",
    "Edit",
    "Embeddings",
    "Film",
    "Generate",
    "Images",
    "Imagine",
    "Interpolate",
    "Invert",
    "Layout",
    "Letters",
    "Mix",
    "Pictures",
    "Progress",
    "Ranking",
    "Read",
    "Reconstruct",
    "Score",
    "Stylize",
    "Text",
    "TextDiff",
    "Translate",
    "Upscale",
    "Vary",
    "Video",
    "Walk",
    "__version__",
    "ask",
    "generate",
    "load",
    "train",
]

_LIVES_IN = {
    "ask": "sfumato.apps.api",
    "generate": "sfumato.apps.api",
    "train": "sfumato.apps.api",
    "load": "sfumato.apps.load",
    "Film": "sfumato.apps.film",
    "Pictures": "sfumato.apps.pictures",
    "Generate": "sfumato.core.generate",
} | dict.fromkeys(
    (
        "Branch",
        "Caption",
        "Complete",
        "Dream",
        "Edit",
        "Embeddings",
        "Images",
        "Imagine",
        "Interpolate",
        "Invert",
        "Layout",
        "Letters",
        "Mix",
        "Progress",
        "Ranking",
        "Read",
        "Reconstruct",
        "Score",
        "Stylize",
        "Text",
        "TextDiff",
        "Translate",
        "Upscale",
        "Vary",
        "Video",
        "Walk",
    ),
    "sfumato.core.request",
)


def __getattr__(name: str) -> Any:
    if name not in _LIVES_IN:
        raise AttributeError(f"module 'sfumato' has no attribute '{name}'")
    return getattr(importlib.import_module(_LIVES_IN[name]), name)


def __dir__() -> list[str]:
    return __all__
