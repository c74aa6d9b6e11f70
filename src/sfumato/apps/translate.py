"""The verb ``translate``: pictures of one domain become pictures of another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sfumato.apps.ask import Asked
from sfumato.apps.remake import Resizing, remake, size_of
from sfumato.apps.talk import counted

if TYPE_CHECKING:
    from sfumato.apps.given import Part
    from sfumato.core.request import Translate


@dataclass(frozen=True, kw_only=True)
class Options(Resizing):
    """Turn pictures of one domain into pictures of another.

    Example: sfumato translate ./sketches --model runs/pix2pix --out coloured

    Writes one PNG a picture, with its settings inside, and sheet.png, which shows before and after.
    """

    direction: str = ""
    """Which way, for a system that knows several; by default its first."""


def main(options: Options) -> int:
    """Load, translate, write; paths go to stdout."""
    from sfumato.core.request import Translate

    asked = Asked.open(options, Translate)

    def request_for(part: Part) -> Translate:
        seed, count = options.seed + part.first, len(part.given)
        return Translate(seed=seed, count=count, images=part.pixels, direction=options.direction)

    made = remake(asked, options, request_for, size=size_of(options, asked), doing="translating")
    return asked.tell(counted(len(made.settings), "picture"), made.paths, made.notes, seeds=made.seeds)
