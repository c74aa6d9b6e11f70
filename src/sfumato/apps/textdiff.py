"""The verb ``textdiff``: change pictures by the difference between two texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from sfumato.apps.ask import Asked
from sfumato.apps.remake import Resizing, remake, size_of
from sfumato.apps.talk import counted
from sfumato.errors import UsageError

if TYPE_CHECKING:
    from sfumato.apps.given import Part
    from sfumato.core.request import TextDiff


@dataclass(frozen=True, kw_only=True)
class Options(Resizing):
    """Change pictures by the difference between two texts.

    Example: sfumato textdiff out/000000.png --from "a red circle" --to "a blue circle"

    Writes one PNG a picture, and sheet.png, which shows before and after.
    """

    source: Annotated[str, tyro.conf.arg(name="from")] = ""
    """What the pictures show."""
    target: Annotated[str, tyro.conf.arg(name="to")] = ""
    """What they are to show."""
    theta: float = 0.5
    """How far to go, from 0 (nothing changes) to 1; 0.25 to 0.5 is usual."""
    steps: int | None = None
    """How many steps the solver takes, each way; by default the system's own."""
    guidance: float | None = None
    """How strongly to follow what is to be seen; by default not at all."""


def main(options: Options) -> int:
    """Load, change, write; paths go to stdout."""
    if not options.source or not options.target:
        raise UsageError('Which difference? Give both texts: --from "a red circle" --to "a blue circle"')
    from sfumato.core.request import TextDiff

    asked = Asked.open(options, TextDiff)

    def request_for(part: Part) -> TextDiff:
        return TextDiff(
            seed=options.seed + part.first,
            count=len(part.given),
            images=part.pixels,
            source=options.source,
            target=options.target,
            theta=options.theta,
            steps=options.steps,
            guidance=options.guidance,
        )

    made = remake(asked, options, request_for, size=size_of(options, asked), doing="changing")
    return asked.tell(counted(len(made.settings), "picture"), made.paths, made.notes, seeds=made.seeds)
