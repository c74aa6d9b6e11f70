"""What a user may ask of a system, and what a system answers.

A request is at once a command, an HTTP body and a form: its fields and their one-line descriptions are
what the user sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.generate import Generate, Request
from sfumato.errors import UsageError

__all__ = ["Event", "Generate", "Images", "Progress", "Reconstruct", "Request", "in_parts"]


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
    preview: Callable[[], Float[Tensor, "n c h w"]] | None = None
    """Call it to see; in [-1, 1]. It costs nothing until called."""


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


def in_parts(
    serve: Callable[[Generate], Iterator[Event]], request: Generate, size: int, hears: frozenset[str]
) -> Iterator[Event]:
    """Serve a large request ``size`` pictures at a time; what comes out is the same.

    Raises ``UsageError`` for what makes no sense, and for what a system cannot follow (``System.hears``).
    """
    _check(request, hears)
    starts = range(0, request.count, size)
    answers: list[Images] = []
    for i, start in enumerate(starts):
        for event in serve(request.part(start, min(start + size, request.count))):
            if isinstance(event, Images):
                answers.append(event)
            else:
                yield Progress((i + event.done) / len(starts), event.preview)
    yield Images(
        torch.cat([a.pixels for a in answers]),
        seeds=tuple(range(request.seed, request.seed + request.count)),
        captions=tuple(c for a in answers for c in a.captions),
        notes=tuple(dict.fromkeys(n for a in answers for n in a.notes)),
    )


def _check(request: Generate, hears: frozenset[str]) -> None:
    for name in ("count", "steps", "height", "width"):
        if (value := getattr(request, name)) is not None and value < 1:
            raise UsageError(f"{name} must be at least 1, got {value}; leave it out for the system's own.")
    for name in ("prompt", "label"):
        if getattr(request, name) == ():
            raise UsageError(f"{name} is an empty tuple; give at least one, or leave it out.")
    if "caption" not in hears and (any(request.prompt) or request.negative):
        instead = "say what to show by its label" if "label" in hears else "leave the prompt out"
        raise UsageError(f"This model was trained without words; {instead}.")
    if "label" not in hears and request.label is not None:
        instead = "name the class in the prompt" if "caption" in hears else "leave the label out"
        raise UsageError(f"This model was trained without labels; {instead}.")
