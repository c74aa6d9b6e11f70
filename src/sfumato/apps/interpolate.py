"""The verb ``interpolate``: a film that turns pictures into one another by what they show."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tyro.conf import Positional

from sfumato.apps.ask import Asked, Asking
from sfumato.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Options(Asking):
    """Turn pictures into one another by what they show, as a film.

    Example: sfumato interpolate out/000000.png out/000001.png --frames 8

    Writes a GIF and a strip of stills (PNG), both with the settings inside; --stills adds a PNG of every
    frame, --mp4 an MP4. Every frame is a picture of its own: between a red circle and a blue star may lie a
    purple one.
    """

    pictures: Annotated[Positional[tuple[Path, ...]], tyro.conf.arg(metavar="[PICTURE ...]")] = ()
    """Two or more, in their order; or a folder of them."""
    frames: int = 8
    """Steps from one picture to the next."""
    noise: Literal["between", "fixed"] = "between"
    """The noise on the way: between those that make the pictures, so that they are met, or one for all."""
    steps: int | None = None
    """How many steps the solver takes; by default the system's own."""
    guidance: float | None = None
    """How strongly to follow what is to be seen; by default not at all, so that the pictures are met."""
    rate: float | None = None
    """Frames a second; by default the system's own."""
    stills: bool = False
    """Also write every frame as a PNG."""
    mp4: bool = False
    """Also write an MP4; needs the extra "video"."""


def main(options: Options) -> int:
    """Load, interpolate, write; paths go to stdout."""
    if options.frames < 1:
        raise UsageError(f"--frames must be at least 1, got {options.frames}")
    if options.rate is not None and not 0 < options.rate <= 100:
        raise UsageError(f"--rate must be above 0 and at most 100 frames a second, got {options.rate:g}")

    from sfumato.apps import film, given
    from sfumato.core.request import Interpolate, Video

    listed = given.listed(options.pictures)
    if len(listed) < 2:
        raise UsageError("One picture turns into another, so give at least 2, got 1")
    if options.mp4:
        film.video_library()
    asked = Asked.open(options, Interpolate)
    keys = given.read_all(options.pictures, asked)
    request = Interpolate(
        seed=options.seed,
        count=len(keys),
        images=keys,
        frames=options.frames,
        noise=options.noise,
        steps=options.steps,
        guidance=options.guidance,
    )
    with asked.bar("interpolating") as report:
        video = asked.answer(request, report)
    assert isinstance(video, Video)
    rate = options.rate or video.rate
    settings = asked.settings(request, video.pixels)
    settings |= {"rate": rate, "pictures": [str(path) for path in options.pictures]}
    made = film.Film(
        pixels=video.pixels[0].float().cpu(),
        rate=rate,
        settings=settings,
        rows=film.stills(len(keys), options.frames, loop=False),
        notes=video.notes,
    )
    path = options.out / f"interpolate-{listed[0].path.stem}.gif"
    paths = made.save(path, mp4=options.mp4)
    if options.stills:
        paths += stills(made.pixels, paths[0].with_suffix(""), settings)
    what = f"{len(made)} frames over {len(keys)} pictures, {len(made) / rate:.1f} s long,"
    return asked.tell(what, paths, made.notes, seeds=list(video.seeds), frames=len(made), rate=rate)


def stills(pixels: Tensor, folder: Path, settings: dict[str, Any]) -> list[Path]:
    """Every frame as a PNG, numbered, in a folder that is named like the film."""
    from sfumato import images

    paths = [folder / f"{i:04d}.png" for i in range(len(pixels))]
    for i, (path, frame) in enumerate(zip(paths, pixels, strict=True)):
        images.save_png(images.to_pil(frame), path, settings | {"frame": i})
    return paths
