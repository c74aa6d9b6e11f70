"""What a user may ask of a system, and what a system answers.

A request is at once a command, an HTTP body and a form: its fields and their one-line descriptions are
what the user sees.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Request:
    """What every request has."""

    seed: int = 0
    """Same seed, same answer; picture i of a request has the seed ``seed + i``."""
    count: int = 4
    """How many pictures."""


@dataclass(frozen=True, kw_only=True)
class Generate(Request):
    """Make pictures from nothing, from a label or from a prompt."""

    prompt: str | tuple[str, ...] = ""
    """What to show; several prompts are taken in turn, one a picture."""
    negative: str = ""
    """What to avoid."""
    label: int | str | None = None
    """Which class to show, by number or by name; none means any."""
    steps: int | None = None
    """How many steps the solver takes; none means the system's own default."""
    guidance: float | None = None
    """How strongly to follow the prompt or label; 1 switches guidance off."""
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    """The part of time, 0 data and 1 noise, in which guidance acts."""
    guidance_rescale: float = 0.0
    """How much to undo guidance's gain in contrast (0 to 1)."""
    solver: str | None = None
    """Name of the solver; none means the system's own default."""
    spacing: Literal["leading", "trailing", "linspace", "karras"] | None = None
    """How the steps are spread over time; none means the system's own default."""
    eta: float | None = None
    """Fresh noise per step of DDIM: 0 none, 1 as much as DDPM."""
    height: int | None = None
    """Pixels; none means the size the system was trained at."""
    width: int | None = None
    """Pixels; none means the size the system was trained at."""


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
