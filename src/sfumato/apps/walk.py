"""The verb ``walk``: a film that leads through latent space from picture to picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from sfumato.apps.ask import Asked, Asking
from sfumato.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Options(Asking):
    """Walk through latent space from picture to picture, as a film.

    Example: sfumato walk --count 4 --seed 7 --loop --model runs/dcgan

    Writes a GIF and a strip of stills (PNG), both with the settings inside; --mp4 adds an MP4.
    """

    pictures: Annotated[Positional[tuple[Path, ...]], tyro.conf.arg(metavar="[PICTURE ...]")] = ()
    """Pictures to walk between, for a system that can encode them; none means new ones."""
    count: int = 4
    """How many new pictures to walk between; their seeds are --seed and those after it."""
    frames: int = 16
    """Steps from one picture to the next."""
    way: Literal["slerp", "lerp"] = "slerp"
    """Along great circles (slerp) or straight lines (lerp)."""
    loop: bool = False
    """Walk back to the first picture."""
    label: str | None = None
    """Which class to show, by number or by name, for a system told labels."""
    truncation: float | None = None
    """How far pictures stray from the average: 1 as far as they will, 0 not at all."""
    steps: int | None = None
    """How many steps the solver takes, for a diffusion; by default the system's own."""
    rate: float | None = None
    """Frames a second; by default the system's own."""
    mp4: bool = False
    """Also write an MP4; needs the extra "video"."""


def main(options: Options) -> int:
    """Load, walk, write; paths go to stdout."""
    count = len(options.pictures) or options.count
    if count < 2:
        raise UsageError(f"A walk leads from picture to picture, so it needs at least 2, got {count}")
    if options.frames < 1:
        raise UsageError(f"--frames must be at least 1, got {options.frames}")
    if options.rate is not None and not 0 < options.rate <= 100:
        raise UsageError(f"--rate must be above 0 and at most 100 frames a second, got {options.rate:g}")

    from sfumato.apps import film, given
    from sfumato.core.request import Video, Walk

    if options.mp4:
        film.video_library()
    asked = Asked.open(options, Walk)
    keys = given.read_all(options.pictures, asked) if options.pictures else None
    request = Walk(
        seed=options.seed,
        count=count,
        frames=options.frames,
        way=options.way,
        loop=options.loop,
        label=options.label,
        truncation=options.truncation,
        steps=options.steps,
        images=keys,
    )
    with asked.bar("walking") as report:
        video = asked.answer(request, report)
    assert isinstance(video, Video)
    rate = options.rate or video.rate
    settings = asked.settings(request, video.pixels) | {"rate": rate}
    if options.pictures:
        settings["pictures"] = [str(path) for path in options.pictures]
    made = film.Film(
        pixels=video.pixels[0].float().cpu(),
        rate=rate,
        settings=settings,
        rows=film.stills(count, options.frames, loop=options.loop),
        notes=video.notes,
    )
    name = f"walk-{options.pictures[0].stem}" if options.pictures else f"walk-{options.seed:06d}"
    paths = made.save(options.out / f"{name}.gif", mp4=options.mp4)
    what = f"{len(made)} frames over {count} pictures, {len(made) / rate:.1f} s long,"
    return asked.tell(what, paths, made.notes, seeds=list(video.seeds), frames=len(made), rate=rate)
