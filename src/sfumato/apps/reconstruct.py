"""The verb ``reconstruct``: pictures through an autoencoder and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sfumato.apps.ask import Asked
from sfumato.apps.remake import Resizing, remake, size_of
from sfumato.apps.talk import counted

if TYPE_CHECKING:
    from sfumato.apps.given import Part
    from sfumato.core.request import Reconstruct


@dataclass(frozen=True, kw_only=True)
class Options(Resizing):
    """Send pictures through an autoencoder and back, to see what its code keeps.

    Example: sfumato reconstruct ./my_photos --model runs/kl

    Writes one PNG a picture, with its settings inside, and sheet.png, which shows before and after.
    """


def main(options: Options) -> int:
    """Load, reconstruct, write; paths go to stdout."""
    from sfumato.core.request import Reconstruct

    asked = Asked.open(options, Reconstruct)

    def request_for(part: Part) -> Reconstruct:
        return Reconstruct(seed=options.seed + part.first, count=len(part.given), images=part.pixels)

    made = remake(asked, options, request_for, size=size_of(options, asked), doing="reconstructing")
    return asked.tell(counted(len(made.settings), "picture"), made.paths, made.notes, seeds=made.seeds)
