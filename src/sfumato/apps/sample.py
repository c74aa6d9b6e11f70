"""Ask a system for pictures, and keep what made each of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sfumato import __version__
from sfumato.apps.pictures import Pictures, fields_of
from sfumato.core import durable
from sfumato.core.request import Generate, Images, Progress
from sfumato.core.system import System
from sfumato.errors import UsageError

MOMENTS = 10
"""How often along the way a picture is looked at, if its history is kept."""
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
        """The source of what is loaded from ``folder`` under ``name``."""
        weights = folder / "model.safetensors"
        small = weights.is_file() and weights.stat().st_size <= HASHED
        return cls(name, durable.sha256(weights) if small else "")


def sample(
    system: System[Any],
    request: Generate,
    source: Source,
    *,
    keep_history: bool = False,
    report: Report = silent,
) -> Pictures:
    """Serve a request for new pictures. To keep their history they are made one by one, which is slower."""
    if Generate not in system.tasks:
        can = ", ".join(task.__name__.lower() for task in system.tasks)
        raise UsageError(f"{type(system).__name__} cannot generate; what it can: {can or 'nothing'}")
    if request.count < 1:
        raise UsageError(f"--count must be at least 1, got {request.count}")
    count = request.count
    parts = [request.part(i, i + 1) for i in range(count)] if keep_history else [request]
    answers, histories = [], []
    for i, part in enumerate(parts):
        answer, history = _serve(system, part, keep_history, _within(report, i, len(parts)))
        answers.append(answer)
        histories.append(history)
    pixels = torch.cat([answer.pixels for answer in answers]).float().cpu()
    return Pictures(
        pixels=pixels,
        seeds=tuple(range(request.seed, request.seed + count)),
        captions=tuple(caption_of(request, i) for i in range(count)),
        settings=tuple(_settings(system, request.part(i, i + 1), source, pixels) for i in range(count)),
        notes=tuple(dict.fromkeys(note for answer in answers for note in answer.notes)),
        history=tuple(torch.cat(moment) for moment in zip(*histories, strict=True)),
    )


def _within(report: Report, part: int, parts: int) -> Report:
    """Report a part's progress as progress of the whole."""
    return lambda done: report((part + done) / parts)


@torch.no_grad()
def _serve(
    system: System[Any], request: Generate, looking: bool, report: Report
) -> tuple[Images, list[Tensor]]:
    seen: list[Tensor] = []
    for event in system.run(request):
        if isinstance(event, Images):
            return event, seen
        if isinstance(event, Progress):
            report(event.done)
            if looking and event.preview is not None and event.done >= (len(seen) + 1) / MOMENTS:
                seen.append(event.preview().float().cpu())
    raise AssertionError(f"{type(system).__name__}.run ended without a result")


def caption_of(request: Generate, index: int) -> str:
    """What picture ``index`` of a request was to show."""
    one = request.part(index, index + 1)
    caption = _only(one.prompt) or _only(one.label)
    return "" if caption is None else str(caption)


def _only(value: Any) -> Any:
    """The single entry of a tuple; other values as they are."""
    if isinstance(value, tuple):
        return value[0] if value else ""
    return value


def _settings(system: System[Any], one: Generate, source: Source, pixels: Tensor) -> dict[str, Any]:
    """What makes a picture again, alone."""
    told = fields_of(one) | {"prompt": _only(one.prompt), "label": _only(one.label)}
    size = {"height": pixels.shape[-2], "width": pixels.shape[-1]}
    precision = {torch.float32: "fp32", torch.bfloat16: "bf16"}[system.dtype]
    origin = {"model": source.model, "sha256": source.sha256, "precision": precision, "sfumato": __version__}
    return {key: value for key, value in (told | size | origin).items() if value not in (None, "")}
