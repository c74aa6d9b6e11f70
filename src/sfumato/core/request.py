"""What a user may ask of a system, and what a system answers.

A request is at once a command, an HTTP body and a form: its fields and their one-line descriptions are
what the user sees.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from sfumato.core.generate import Generate, Request

__all__ = ["Event", "Generate", "Images", "Progress", "Reconstruct", "Request"]


@dataclass(frozen=True)
class Reconstruct(Request):
    """Send pictures through an autoencoder and back."""

    images: Float[Tensor, "n c h w"] = field(kw_only=True)
    """In [-1, 1]."""


@dataclass(frozen=True)
class Progress:
    """How far a run has come, with what the picture would be if it stopped now."""

    done: float
    """From 0 to 1."""
    preview: Float[Tensor, "n c h w"] | None = None
    """In [-1, 1], perhaps smaller than the result."""


@dataclass(frozen=True)
class Images:
    """The pictures asked for."""

    pixels: Float[Tensor, "n c h w"]
    """In [-1, 1]."""
    seeds: tuple[int, ...] = ()
    captions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """What the user should know about this answer: truncated prompts, ignored settings."""


Event = Progress | Images
