"""Ask a system for what it can do, and keep what made each of its pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sfumato import __version__
from sfumato.apps import facts
from sfumato.apps.pictures import Pictures, fields_of
from sfumato.core import durable
from sfumato.core.generate import in_turn
from sfumato.core.request import Complete, Generate, Images, Mix, Progress, Request, Result
from sfumato.core.system import System
from sfumato.errors import UsageError
from sfumato.registry import SYSTEMS, find

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


# --- who can do what ---------------------------------------------------------------------------------


def verb_of(task: type[Request]) -> str:
    """What a kind of request is called on the command line.

    >>> verb_of(Generate)
    'generate'
    """
    return {"Invert": "project", "Score": "clip", "Imagine": "clip"}.get(task.__name__, task.__name__.lower())


def check_can(system: System[Any], task: type[Request]) -> None:
    """Raise ``UsageError`` if a system does not do this, with what it does and who can do it instead."""
    if task in system.tasks:
        return
    can = ", ".join(verb_of(known) for known in system.tasks) or "nothing"
    raise UsageError(f"{type(system).__name__} cannot {verb_of(task)}; what it can: {can}. {others(task)}")


def others(task: type[Request]) -> str:
    """Who can do it: models that come with the package, systems that can be trained."""
    systems = able(task)
    told = []
    if models := models_for(task):
        told.append(f"models that can: {', '.join(models)} (--model {models[0]})")
    if systems:
        told.append(
            f"systems that can, once trained: {', '.join(systems)} (sfumato train {systems[0]} --out RUN)"
        )
    sentence = "; ".join(told) or "no system can as yet"
    return sentence[0].upper() + sentence[1:]


def able(task: type[Request]) -> list[str]:
    """The systems that serve this kind of request."""
    return [name for name in SYSTEMS if task in find(name, SYSTEMS, "system").tasks]


def models_for(task: type[Request]) -> list[str]:
    """The models that come with the package and serve this kind of request."""
    systems = able(task)
    return [name for name, folder in facts.models().items() if facts.read_config(folder)["system"] in systems]


# --- asking ------------------------------------------------------------------------------------------


def answer(system: System[Any], request: Request, *, report: Report = silent) -> Result:
    """Serve any request and return its result; raises ``UsageError`` if the system does not do this."""
    return _serve(system, request, False, report)[0]


@torch.no_grad()
def _serve(
    system: System[Any], request: Request, looking: bool, report: Report
) -> tuple[Result, list[Tensor]]:
    check_can(system, type(request))
    seen: list[Tensor] = []
    for event in system.run(request):
        if not isinstance(event, Progress):
            report(1.0)
            return event, seen
        report(event.done)
        if looking and event.preview is not None and event.done >= (len(seen) + 1) / MOMENTS:
            seen.append(event.preview().float().cpu())
    raise AssertionError(f"{type(system).__name__}.run ended without a result")


def within(report: Report, part: int, parts: int) -> Report:
    """Report a part's progress as progress of the whole."""
    return lambda done: report((part + done) / parts)


def sample(
    system: System[Any],
    request: Generate,
    source: Source,
    *,
    keep_history: bool = False,
    report: Report = silent,
) -> Pictures:
    """Serve a request for new pictures. To keep their history they are made one by one, which is slower."""
    check_can(system, Generate)
    if request.count < 1:
        raise UsageError(f"--count must be at least 1, got {request.count}")
    count = request.count
    parts = [request.part(i, i + 1) for i in range(count)] if keep_history else [request]
    answers, histories = [], []
    for i, part in enumerate(parts):
        result, history = _serve(system, part, keep_history, within(report, i, len(parts)))
        assert isinstance(result, Images)
        answers.append(result)
        histories.append(history)
    pixels = torch.cat([result.pixels for result in answers]).float().cpu()
    return Pictures(
        pixels=pixels,
        seeds=tuple(range(request.seed, request.seed + count)),
        captions=tuple(caption_of(request, i) for i in range(count)),
        settings=tuple(settings_of(system, request.part(i, i + 1), source, pixels) for i in range(count)),
        notes=tuple(dict.fromkeys(note for result in answers for note in result.notes)),
        history=tuple(torch.cat(moment) for moment in zip(*histories, strict=True)),
    )


def pictures_of(system: System[Any], request: Request, source: Source, result: Images) -> Pictures:
    """The answer to any request as pictures that know how they were made."""
    pixels = result.pixels.float().cpu()
    seeds = result.seeds
    if len(seeds) != len(pixels):
        seeds = tuple(range(request.seed, request.seed + len(pixels)))
    words = str(getattr(request, "prompt", "") or getattr(request, "label", None) or "")
    each = [dataclasses.replace(request, seed=seed, count=1) for seed in seeds]
    if isinstance(request, Complete) and isinstance(request.prompt, tuple):
        prompts = in_turn(request.prompt, range(len(seeds)))
        each = [
            dataclasses.replace(request, seed=s, count=1, prompt=p)
            for s, p in zip(seeds, prompts, strict=True)
        ]
    if isinstance(request, Mix):
        pairs = [(coarse, fine) for coarse in request.coarse for fine in request.fine]
        each = [dataclasses.replace(request, count=1, coarse=(a,), fine=(b,)) for a, b in pairs]
    return Pictures(
        pixels=pixels,
        seeds=seeds,
        captions=result.captions or (words,) * len(pixels),
        settings=tuple(settings_of(system, one, source, pixels) for one in each),
        notes=result.notes,
        latents=result.latents,
    )


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


def settings_of(system: System[Any], request: Request, source: Source, pixels: Tensor) -> dict[str, Any]:
    """What makes the answer to a request again: its settings, the model, the verb unless it is generate."""
    told = {name: value for name, value in fields_of(request).items() if not isinstance(value, Tensor)}
    told |= {name: _only(told[name]) for name in ("prompt", "label") if name in told}
    verb = verb_of(type(request))
    size = {"height": pixels.shape[-2], "width": pixels.shape[-1]}
    precision = {torch.float32: "fp32", torch.bfloat16: "bf16"}[system.dtype]
    origin = {"model": source.model, "sha256": source.sha256, "precision": precision, "sfumato": __version__}
    if verb != "generate":
        origin["task"] = verb
    return {key: value for key, value in (told | size | origin).items() if value not in (None, "")}
