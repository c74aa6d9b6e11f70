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
    from sfumato.apps.api import generate, train
    from sfumato.apps.load import load
    from sfumato.apps.pictures import Pictures
    from sfumato.core.generate import Generate
    from sfumato.core.request import Images, Progress, Reconstruct

__version__ = "0.1.0"
__all__ = [
    "SYSTEMS",
    "Generate",
    "Images",
    "Pictures",
    "Progress",
    "Reconstruct",
    "__version__",
    "generate",
    "load",
    "train",
]

_LIVES_IN = {
    "generate": "sfumato.apps.api",
    "train": "sfumato.apps.api",
    "load": "sfumato.apps.load",
    "Pictures": "sfumato.apps.pictures",
    "Generate": "sfumato.core.generate",
    "Images": "sfumato.core.request",
    "Progress": "sfumato.core.request",
    "Reconstruct": "sfumato.core.request",
}


def __getattr__(name: str) -> Any:
    if name not in _LIVES_IN:
        raise AttributeError(f"module 'sfumato' has no attribute '{name}'")
    return getattr(importlib.import_module(_LIVES_IN[name]), name)


def __dir__() -> list[str]:
    return __all__
