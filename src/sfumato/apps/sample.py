"""Ask a system for pictures, in parts that fit into memory, and keep what made each of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato import __version__
from sfumato.apps.pictures import Pictures, fields_of
from sfumato.core import durable
from sfumato.core.request import Generate, Images, Progress
from sfumato.core.system import System
from sfumato.errors import UsageError

CHUNK = 16
"""Pictures made at once; a picture does not depend on it (seeds belong to pictures)."""
HASHED = 200e6
"""Largest weight file, in bytes, whose checksum is worth the wait for it."""

Report = Callable[[float], None]
"""Hears how far something has come, from 0 to 1."""


def silent(_: float) -> None:
    """Report to nobody."""


@dataclass(frozen=True)
class Source:
    """Where a system came from, as its pictures tell."""

    model: str
    sha256: str = ""

    @classmethod
    def of(cls, folder: Path, name: str) -> Source:
        weights = folder / "model.safetensors"
        small = weights.is_file() and weights.stat().st_size <= HASHED
        return cls(name, durable.sha256(weights) if small else "")


def sample(
    system: System[Any],
    request: Generate,
    source: Source,
    *,
    chunk: int = CHUNK,
    keep_history: bool = False,
    report: Report = silent,
) -> Pictures:
    """Serve a request for new pictures; ``report`` hears how far it has come, from 0 to 1."""
    _check(system, request, chunk)
    parts, history = [], []
    for start in range(0, request.count, chunk):
        part = part_of(request, start, min(chunk, request.count - start))
        answer, seen = _serve(system, part, _within(report, start, part.count, request.count))
        parts.append(answer)
        history.append(seen)
    pixels = torch.cat([part.pixels for part in parts])
    captions = tuple(caption_of(request, i) for i in range(request.count))
    return Pictures(
        pixels=pixels,
        seeds=tuple(request.seed + i for i in range(request.count)),
        captions=captions,
        settings=tuple(_settings(system, request, source, pixels, i) for i in range(request.count)),
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
        history=_together(history) if keep_history else (),
    )


def _check(system: System[Any], request: Generate, chunk: int) -> None:
    if Generate not in system.tasks:
        can = ", ".join(task.__name__.lower() for task in system.tasks)
        raise UsageError(f"{type(system).__name__} cannot generate; it can {can or 'only be looked at'}")
    for name, value in (("count", request.count), ("chunk", chunk)):
        if value < 1:
            raise UsageError(f"--{name} must be at least 1, got {value}")


def part_of(request: Generate, start: int, count: int) -> Generate:
    """The pictures ``start`` to ``start + count`` of a request, as a request of their own."""
    prompt = request.prompt
    if isinstance(prompt, tuple) and prompt:
        turn = start % len(prompt)
        prompt = prompt[turn:] + prompt[:turn]
    return dataclasses.replace(request, seed=request.seed + start, count=count, prompt=prompt)


def caption_of(request: Generate, index: int) -> str:
    """What picture ``index`` of a request was to show."""
    if isinstance(request.prompt, tuple):
        return request.prompt[index % len(request.prompt)] if request.prompt else ""
    if not request.prompt and request.label is not None:
        return str(request.label)
    return request.prompt


def _within(report: Report, start: int, count: int, whole: int) -> Report:
    """Report a part's progress as progress of the whole."""
    return lambda done: report((start + count * done) / whole)


def _serve(system: System[Any], request: Generate, report: Report) -> tuple[Images, list[Tensor]]:
    seen = []
    for event in system.run(request):
        if isinstance(event, Progress):
            report(event.done)
            if event.preview is not None:
                seen.append(event.preview.float().cpu())
        else:
            return dataclasses.replace(event, pixels=event.pixels.float().cpu()), seen
    raise RuntimeError(f"{type(system).__name__}.run ended without a result")


def _together(parts: list[list[Tensor]]) -> tuple[Float[Tensor, "n c h w"], ...]:
    return tuple(torch.cat(moment) for moment in zip(*parts, strict=True))


def _settings(
    system: System[Any], request: Generate, source: Source, pixels: Tensor, index: int
) -> dict[str, Any]:
    """What makes picture ``index`` again, alone."""
    one = part_of(request, index, 1)
    told = fields_of(one) | {
        "prompt": request.prompt if isinstance(request.prompt, str) else caption_of(request, index),
        "height": pixels.shape[-2],
        "width": pixels.shape[-1],
    }
    precision = {torch.float32: "fp32", torch.bfloat16: "bf16"}[system.dtype]
    origin = {"model": source.model, "sha256": source.sha256, "precision": precision, "sfumato": __version__}
    return {key: value for key, value in (told | origin).items() if value not in (None, "")} | {
        "prompt": told["prompt"]
    }
