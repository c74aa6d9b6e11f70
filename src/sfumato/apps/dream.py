"""The verb ``dream``: a network sees more of what it sees in pictures, or a film falls into them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import Suppress

from sfumato.apps.ask import Asked
from sfumato.apps.remake import Remaking, remake
from sfumato.apps.talk import counted, write
from sfumato.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.apps.given import Part
    from sfumato.apps.sample import Look
    from sfumato.core.request import Dream


@dataclass(frozen=True, kw_only=True)
class Options(Remaking):
    """Let a network dream upon pictures, or fall into them as a film.

    Example: sfumato dream photo.jpg --layers relu3_3 --octaves 4 --out dreams

    Writes one PNG a picture, with its settings inside, and sheet.png, which shows before and after; with
    --frames a GIF and a strip of stills for each. The system's own settings may follow: --step 3.
    """

    features: Path | None = None
    """The network that dreams: a run of vgg, or a weight file of VGG-16 or VGG-19."""
    layers: tuple[str, ...] = ()
    """Whose activity grows, such as relu2_1 relu3_3; by default the system's own."""
    channel: int | None = None
    """Of these layers alone."""
    label: str | None = None
    """A class to see, by name or number, in place of layers."""
    guide: Path | None = None
    """A picture whose features are sought."""
    octaves: int | None = None
    """Sizes at which it dreams; by default 4."""
    steps: int | None = None
    """At each size; by default 10."""
    jitter: int | None = None
    """Most pixels by which the picture is shifted at each step; by default 32."""
    size: int = 512
    """Longer side to which pictures are scaled down; smaller ones stay as they are."""
    frames: int = 0
    """Of a film that falls into each picture; 0 for pictures."""
    rate: float | None = None
    """Frames a second."""
    mp4: bool = False
    """Also write an MP4; needs the extra "video"."""
    look_every: float = 5.0
    """Seconds between two looks at the picture on its way, in preview.png in --out; 0 for none."""
    settings: Suppress[tuple[str, ...]] = ()
    """Of the system itself."""


def main(options: Options) -> int:
    """Load, dream, write; paths go to stdout."""
    if options.size < 1:
        raise UsageError(f"--size must be at least 1, got {options.size}")
    if options.rate is not None and not 0 < options.rate <= 100:
        raise UsageError(f"--rate must be above 0 and at most 100 frames a second, got {options.rate:g}")
    from sfumato.apps import film, given
    from sfumato.apps.preview import previewing

    given.listed(options.pictures)
    if options.mp4:
        film.video_library()
    asked = dreamer(options)
    guide = None if options.guide is None else given.read_within(options.guide.expanduser(), 3, options.size)

    with previewing(options.out, options.look_every) as look:
        if options.frames:
            return films(asked, options, guide, look)
        made = remake(
            asked,
            options,
            lambda part: request_for(part, options, guide),
            size=options.size,
            read=given.read_within,
            doing="dreaming",
            look=look,
            told=told(options),
        )
    return asked.tell(counted(len(made.settings), "picture"), made.paths, made.notes, seeds=made.seeds)


def dreamer(options: Options) -> Asked:
    """The model named, or a dreamer upon the network named or the one that comes along."""
    from sfumato.core.request import Dream

    if not options.model:
        return Asked.upon(options, "dream", options.features, options.settings, "dream")
    if options.features is not None or options.settings:
        what = "--features" if options.features is not None else f"'{options.settings[0]}'"
        raise UsageError(f"--model names the whole system, so {what} does not apply; leave one of them out")
    return Asked.open(options, Dream)


def request_for(part: Part, options: Options, guide: Tensor | None) -> Dream:
    """The request that a few pictures make."""
    from sfumato.core.request import Dream

    return Dream(
        seed=options.seed + part.first,
        count=len(part.given),
        images=part.pixels,
        layers=options.layers,
        channel=options.channel,
        label=options.label,
        guide=guide,
        octaves=options.octaves,
        steps=options.steps,
        jitter=options.jitter,
        frames=options.frames,
    )


def films(asked: Asked, options: Options, guide: Tensor | None, look: Look | None) -> int:
    """A film for each picture."""
    from dataclasses import replace

    from sfumato.apps import film, given
    from sfumato.apps.remake import part_of
    from sfumato.core.request import Video

    paths: list[Path] = []
    notes: list[str] = []
    listed = given.listed(options.pictures)
    with asked.bar("dreaming") as report:
        for part in given.parts(listed, asked.system.channels, options.size, notes, read=given.read_within):
            for i, one in enumerate(part.given):
                alone = replace(part, first=part.first + i, given=(one,), pixels=part.pixels[i : i + 1])
                request = request_for(alone, options, guide)
                video = asked.answer(request, part_of(report, alone.first, 1, len(listed)), look)
                assert isinstance(video, Video)
                rate = options.rate or video.rate
                settings = asked.settings(request, video.pixels) | {"rate": rate, "file": str(one.path)}
                made = film.Film(
                    pixels=video.pixels[0].float().cpu(),
                    rate=rate,
                    settings=settings | told(options),
                    rows=film.stills(2, max(1, options.frames - 1), loop=False)
                    if options.frames > 1
                    else ((0,),),
                )
                paths += made.save(options.out / one.name.with_name(f"{one.name.name}.gif"), mp4=options.mp4)
    what = f"{counted(len(listed), 'film')} of {counted(options.frames, 'frame')}"
    return asked.tell(what, paths, notes, frames=options.frames)


def told(options: Options) -> dict[str, object]:
    """What of the options stands in the pictures, besides the request."""
    said: dict[str, object] = {"size": options.size}
    for name in ("features", "guide"):
        if (path := getattr(options, name)) is not None:
            said[name] = str(path)
    if options.settings:
        said["settings"] = list(options.settings)
    return said


def help_on_settings(given: Sequence[str]) -> None:
    """After the verb's own help, if a picture was named: the settings of the system."""
    if len(given) < 2:
        write("\nSettings of the system: sfumato dream photo.jpg --help\n")
        return
    import tyro

    from sfumato.apps.verbs import MARKERS
    from sfumato.systems.style.dream import DreamConfig

    write("\nSettings of the system.\n")
    tyro.cli(DreamConfig, args=["--help"], prog="sfumato dream", config=MARKERS)
