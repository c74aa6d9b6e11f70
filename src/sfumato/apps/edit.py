"""The verb ``edit``: change pictures, or new ones, as words say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from tyro.conf import Positional

from sfumato.apps.adding import Adding
from sfumato.apps.ask import Asked
from sfumato.apps.remake import Resizing, remake, size_of
from sfumato.apps.talk import counted
from sfumato.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.apps.given import Part
    from sfumato.apps.pictures import Pictures
    from sfumato.core.request import Edit


@dataclass(frozen=True, kw_only=True)
class Words:
    """What to change comes before the pictures."""

    prompt: Annotated[Positional[str], tyro.conf.arg(metavar="PROMPT")]
    """What to change; for latent arithmetic "red circle - red square + blue square"."""


@dataclass(frozen=True, kw_only=True)
class Options(Adding, Resizing, Words):
    """Change pictures, or new ones, as words say.

    Example: sfumato edit "red circle - red square + blue square" --count 8 --model runs/dcgan

    Without pictures it makes new ones, one PNG each, and grid.png; else sheet.png shows before and after.
    With a mask it paints inside it: sfumato edit "a hat" me.png --mask hair.png --model ./inpainting
    """

    strength: float = 1.0
    """How far to go."""
    count: int = 4
    """How many new pictures, where none are given."""
    mask: Path | None = None
    """A picture that is white where the system may paint, and black where nothing may change."""
    keep: bool = True
    """Whether pixels outside the mask stay as they were; else they come out of the autoencoder."""
    negative: str = ""
    """What to avoid."""
    steps: int | None = None
    """How many steps the solver takes; by default the system's own."""
    guidance: float | None = None
    """How strongly to follow the prompt; 1 switches guidance off."""


def main(options: Options) -> int:
    """Load, edit, write; paths go to stdout."""
    if options.count < 1:
        raise UsageError(f"--count must be at least 1, got {options.count}")
    from sfumato.core.request import Edit

    asked = Asked.open(options, Edit)
    if not options.pictures:
        pictures = new(asked, options)
        paths = pictures.save(options.out)
        return asked.tell(
            counted(len(pictures), "picture"), paths, pictures.notes, seeds=list(pictures.seeds)
        )

    def request_for(part: Part) -> Edit:
        return Edit(
            seed=options.seed + part.first,
            count=len(part.given),
            prompt=options.prompt,
            strength=options.strength,
            images=part.pixels,
            mask=None if options.mask is None else where_white(options.mask, part.pixels),
            keep=options.keep,
            negative=options.negative,
            steps=options.steps,
            guidance=options.guidance,
        )

    size = None if options.mask is not None and asked.size is None else size_of(options, asked)
    made = remake(asked, options, request_for, size=size, doing="editing")
    return asked.tell(counted(len(made.settings), "picture"), made.paths, made.notes, seeds=made.seeds)


def where_white(path: Path, like: Tensor) -> Tensor:
    """A mask from a file: 1 where it is lighter than middle grey, at the size of the pictures. ``UsageError``
    if that is nowhere."""
    from sfumato import images

    height, width = like.shape[2:]
    grey = images.to_tensor(images.fit(images.open_image(path), height, width), 1)
    mask = (grey >= 0).float()[None]
    if not mask.any():
        raise UsageError(
            f"The mask {path} is dark everywhere, so nothing would be painted; it says in white where"
        )
    return mask


def new(asked: Asked, options: Options) -> Pictures:
    """Edited pictures that start from none."""
    from sfumato.apps.sample import pictures_of
    from sfumato.core.request import Edit, Images

    request = Edit(seed=options.seed, count=options.count, prompt=options.prompt, strength=options.strength)
    with asked.bar("editing") as report:
        answer = asked.answer(request, report)
    assert isinstance(answer, Images)
    return pictures_of(asked.system, request, asked.source, answer)
