"""The verb ``complete``: pictures of which the top is kept, finished by a model that draws token by token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sfumato.apps.ask import Asked
from sfumato.apps.remake import Resizing, remake, size_of
from sfumato.apps.talk import counted

if TYPE_CHECKING:
    from sfumato.apps.given import Part
    from sfumato.core.request import Complete


@dataclass(frozen=True, kw_only=True)
class Options(Resizing):
    """Finish pictures of which only the top is kept.

    Example: sfumato complete ./halves --prompt "a red circle" --model runs/dalle-laptop

    Writes one PNG a picture, with its settings inside, and sheet.png, which shows before and after.
    """

    prompt: tuple[str, ...] = ()
    """What they show; several prompts are taken in turn, one a picture."""
    keep: float = 0.5
    """Share of the height that is kept, from the top."""
    guidance: float | None = None
    """How strongly to follow the prompt; 1 switches guidance off."""
    temperature: float | None = None
    """How freely to choose: 1 as learned, 0 always the likeliest."""
    top_k: int | None = None
    """Among how many of the likeliest tokens to choose; 0 means among all."""


def main(options: Options) -> int:
    """Load, complete, write; paths go to stdout."""
    from sfumato.core.generate import in_turn
    from sfumato.core.request import Complete

    asked = Asked.open(options, Complete)

    def request_for(part: Part) -> Complete:
        places = range(part.first, part.first + len(part.given))
        return Complete(
            seed=options.seed + part.first,
            count=len(part.given),
            images=part.pixels,
            prompt=tuple(in_turn(options.prompt or ("",), places)),
            keep=options.keep,
            guidance=options.guidance,
            temperature=options.temperature,
            top_k=options.top_k,
        )

    made = remake(asked, options, request_for, size=size_of(options, asked), doing="completing")
    return asked.tell(counted(len(made.settings), "picture"), made.paths, made.notes, seeds=made.seeds)
