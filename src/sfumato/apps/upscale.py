"""The verb ``upscale``: larger pictures, shown beside plain bicubic enlargement."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sfumato.apps.adding import Adding
from sfumato.apps.ask import Asked
from sfumato.apps.remake import Remaking, remake
from sfumato.apps.talk import counted
from sfumato.errors import UsageError

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from sfumato.apps.given import Part
    from sfumato.core.request import Upscale
    from sfumato.core.system import System

SIDE = 320
"""Pixels of the middle of each picture on the sheet, so that detail is seen at its own size."""


@dataclass(frozen=True, kw_only=True)
class Options(Adding, Remaking):
    """Make pictures larger, with detail that was not there.

    Example: sfumato upscale small.jpg --model runs/srgan

    Writes one PNG a picture, with its settings inside, and sheet.png: pixels, bicubic, and the system.
    """

    tile: int | None = None
    """Side in pixels of the squares of a picture that are enlarged at a time; less needs less memory."""
    prompt: str = ""
    """What the pictures show, for a system that reads."""
    negative: str = ""
    """What to avoid, for a system that reads."""
    noise: int | None = None
    """How much noise to take the picture for, for a system that can be told; more invents more."""
    steps: int | None = None
    """How many steps the solver takes, for a diffusion; by default the system's own."""
    guidance: float | None = None
    """How strongly to follow the prompt; 1 switches guidance off."""


def main(options: Options) -> int:
    """Load, enlarge, write; paths go to stdout."""
    from sfumato.core.request import Upscale

    asked = Asked.open(options, Upscale)
    if options.tile is not None:
        asked = dataclasses.replace(asked, system=tiled(asked.system, options.tile))

    def request_for(part: Part) -> Upscale:
        return Upscale(
            seed=options.seed + part.first,
            count=len(part.given),
            images=part.pixels,
            prompt=options.prompt,
            negative=options.negative,
            noise=options.noise,
            steps=options.steps,
            guidance=options.guidance,
        )

    heads = ("given", "bicubic", type(asked.system).__name__)
    made = remake(
        asked, options, request_for, size=None, doing="enlarging", heads=heads, shown=middles, side=SIDE
    )
    return asked.tell(counted(len(made.settings), "picture"), made.paths, made.notes, seeds=made.seeds)


def tiled(system: System[Any], tile: int) -> System[Any]:
    """The same system with squares of another size, where its configuration has them."""
    if "tile" not in {field.name for field in dataclasses.fields(system.config)}:
        raise UsageError(f"{type(system).__name__} enlarges pictures whole; leave --tile out")
    other = type(system)(dataclasses.replace(system.config, tile=tile))
    other.load_state_dict(system.state_dict())
    return other.to(system.device, system.dtype).eval()


def middles(before: Tensor, after: Tensor) -> list[Image]:
    """The middle of a picture, in whole pixels, enlarged by Pillow's bicubic filter, and by the system."""
    from PIL.Image import Resampling

    from sfumato import images

    small, large = images.to_pil(before), images.to_pil(after)
    left, top = max(0, (large.width - SIDE) // 2), max(0, (large.height - SIDE) // 2)
    box = (left, top, min(large.width, left + SIDE), min(large.height, top + SIDE))
    plain = (small.resize(large.size, method) for method in (Resampling.NEAREST, Resampling.BICUBIC))
    return [picture.crop(box) for picture in (*plain, large)]
