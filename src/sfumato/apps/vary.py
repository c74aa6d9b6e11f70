"""The verb ``vary``: pictures that are like a given one, and not the same."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sfumato.apps.adding import Tiling
from sfumato.apps.ask import Asked
from sfumato.apps.remake import Resizing, part_of
from sfumato.apps.talk import counted
from sfumato.errors import DataError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from sfumato.apps.given import Part


@dataclass(frozen=True, kw_only=True)
class Options(Tiling, Resizing):
    """Make pictures that are like a given one, and not the same.

    Example: sfumato vary out/000007-a-red-circle.png --count 4 --strength 0.5

    A picture that sfumato made is varied by the model and with the prompt that made it, unless others are
    given. Writes one PNG a picture, named by its seed, and grid.png.
    """

    count: int = 4
    """How many of each picture."""
    strength: float = 0.7
    """How far to stray: 0.35 is subtle, 0.7 strong, 1 leaves nothing of the picture."""
    prompt: str | None = None
    """What to show; by default what made the picture, if that is known."""
    negative: str = ""
    """What to avoid."""
    steps: int | None = None
    """Of the whole way from noise, of which the strength is walked; by default the system's own."""
    guidance: float | None = None
    """How strongly to follow the prompt; 1 switches guidance off."""
    solver: str | None = None
    """Name of the solver; by default the system's own."""


def main(options: Options) -> int:
    """Load, vary, write; paths go to stdout."""
    if options.count < 1:
        raise UsageError(f"--count must be at least 1, got {options.count}")
    from sfumato.apps import given
    from sfumato.core.request import Images, Vary

    listed = given.listed(options.pictures)
    made = origin(listed[0].path)
    if not options.model and "model" in made:
        options = dataclasses.replace(options, model=made["model"])
    asked = Asked.open(options, Vary)
    paths: list[Path] = []
    seeds: list[int] = []
    notes: list[str] = []
    side = None if asked.size is None and options.size is None else _side(options, asked)
    with asked.bar("varying") as report:
        for part in given.parts(listed, asked.system.channels, side, notes):
            for i, one in enumerate(part.given):
                request = wanted(options, part, i)
                done = part_of(report, part.first + i, 1, len(listed))
                answer = asked.answer(request, done)
                assert isinstance(answer, Images)
                paths += _written(asked, options, request, answer, one.path)
                seeds += answer.seeds
                notes += answer.notes
    return asked.tell(counted(len(seeds), "picture"), paths, notes, seeds=seeds)


def wanted(options: Options, part: Part, index: int) -> Any:
    """The request for one of the given pictures."""
    from sfumato.core.request import Vary

    prompt = options.prompt
    if prompt is None:
        prompt = str(origin(part.given[index].path).get("prompt", ""))
    return Vary(
        seed=options.seed + (part.first + index) * options.count,
        count=options.count,
        images=part.pixels[index : index + 1],
        strength=options.strength,
        prompt=prompt,
        negative=options.negative,
        steps=options.steps,
        guidance=options.guidance,
        solver=options.solver,
    )


def origin(path: Path) -> dict[str, Any]:
    """What made a picture, as far as it says."""
    from sfumato.images import read_settings

    try:
        return read_settings(path) if path.suffix == ".png" else {}
    except DataError:
        return {}


def _side(options: Options, asked: Asked) -> int | None:
    from sfumato.apps.remake import size_of

    return size_of(options, asked)


def _written(asked: Asked, options: Options, request: Any, answer: Any, path: Path) -> list[Path]:
    from sfumato.apps.sample import pictures_of

    pictures = pictures_of(asked.system, request, asked.source, answer)
    settings = tuple(dict(one) | {"file": str(path)} for one in pictures.settings)
    captions = tuple(caption or path.stem for caption in pictures.captions)
    return dataclasses.replace(pictures, settings=settings, captions=captions).save(options.out)
