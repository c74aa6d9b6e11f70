"""Serving a large request a part at a time, once it is known to make sense."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from sfumato.core.generate import Generate
from sfumato.core.result import Event, Images, Progress
from sfumato.errors import UsageError


def in_parts(
    serve: Callable[[Generate], Iterator[Event]], request: Generate, size: int, hears: frozenset[str]
) -> Iterator[Event]:
    """Serve a large request ``size`` pictures at a time; what comes out is the same.

    Raises ``UsageError`` for what makes no sense, and for what a system cannot follow (``System.hears``).
    """
    _check(request, hears)
    _check_guidance(request)
    starts = range(0, request.count, size)
    answers: list[Images] = []
    for i, start in enumerate(starts):
        for event in serve(request.part(start, min(start + size, request.count))):
            if isinstance(event, Progress):
                yield Progress((i + event.done) / len(starts), event.preview)
            elif isinstance(event, Images):
                answers.append(event)
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
    for name, sense, told in TOLD:
        if sense not in hears and getattr(request, name) is not None:
            raise UsageError(f"This model {told}; leave it out.")


def _check_guidance(request: Generate) -> None:
    low, high = request.guidance_interval
    if not 0 <= low < high <= 1:
        raise UsageError(f"guidance_interval must be two times, 0 <= low < high <= 1, got {low:g} {high:g}.")
    if not 0 <= request.guidance_rescale <= 1:
        raise UsageError(f"guidance_rescale must be from 0 to 1, got {request.guidance_rescale:g}.")


TOLD = (
    ("truncation", "truncation", "has no truncation"),
    ("temperature", "temperature", "has no temperature"),
    ("top_k", "top_k", "has no top_k"),
    ("threshold", "threshold", "keeps its pictures in range in its own way"),
    ("original", "frame", "is not told the size of pictures before they were scaled"),
    ("crop", "frame", "is not told how pictures were cropped"),
    ("aesthetic", "aesthetic", "is not told how beautiful pictures are"),
    ("prior", "prior", "has no prior"),
)
"""Fields of a request for new pictures, the sense without which a system cannot follow, and what to say."""
