"""The verb ``stylize``: pictures painted anew in the style of others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tyro.conf import Suppress

from sfumato.apps.ask import Asked
from sfumato.apps.remake import SIDE, Remade, Remaking, remake
from sfumato.apps.talk import counted, write
from sfumato.errors import UsageError

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from sfumato.core.request import Stylize

METHODS = {"gatys": "gatys", "fast": "faststyle", "adain": "adain"}
"""The system behind each method."""


@dataclass(frozen=True, kw_only=True)
class Options(Remaking):
    """Paint pictures anew in the style of others.

    Example: sfumato stylize --content photo.jpg --style painting.jpg --size 512 --out painted

    The method gatys searches each picture anew, in a minute or so, and takes any style; adain takes any style
    in one pass; fast has learned one style. Writes a PNG for each picture, with its settings, and sheet.png,
    which shows content, style and result; a video, named as a file, becomes an MP4 (extra "video") frame by
    frame. Settings of gatys itself may follow: --optimiser adam.
    """

    content: tuple[Path, ...] = ()
    """What to paint: files, or folders of JPEG, PNG or WebP files; may also stand without --content."""
    style: tuple[Path, ...] = ()
    """Pictures to take the style from, as files."""
    weights: tuple[float, ...] = ()
    """How much each style counts, in any unit; by default all the same."""
    masks: tuple[Path, ...] = ()
    """For adain, one picture for each style: white where it applies, black where it does not."""
    method: Literal["gatys", "fast", "adain"] = "gatys"
    """How to paint, unless --model says so."""
    features: Path | None = None
    """For gatys, the network to look through: a run of vgg, or a weight file of VGG-16 or VGG-19."""
    size: int = 512
    """Longer side to which content is scaled down; smaller pictures stay as they are."""
    strength: float = 1.0
    """How far to go: 0 keeps the picture."""
    keep_colour: bool = False
    """Leave the colours as they are."""
    style_scale: float = 1.0
    """Size of the style's strokes, as a multiple of what they are."""
    start: Literal["content", "noise"] = "content"
    """Where gatys sets out from."""
    steps: int | None = None
    """Closures of gatys; by default 200."""
    look_every: float = 5.0
    """Seconds between two looks at the picture on its way, in preview.png in --out; 0 for none."""
    settings: Suppress[tuple[str, ...]] = ()
    """Of the method itself."""


def main(options: Options) -> int:
    """Load, paint, write; paths go to stdout."""
    if options.size < 1:
        raise UsageError(f"--size must be at least 1, got {options.size}")
    options = replace(options, pictures=(*options.pictures, *options.content))
    from sfumato.apps import footage, given
    from sfumato.apps.preview import previewing
    from sfumato.core.request import Stylize

    films = [one.path for one in given.listed(options.pictures) if footage.is_video(one.path)]
    options = replace(options, pictures=tuple(path for path in options.pictures if path not in films))
    asked = painter(options)
    styles = tuple(_style(path, asked.system.channels) for path in options.style)

    def request_of(images: Tensor, first: int = 0) -> Stylize:
        return Stylize(
            seed=options.seed + first,
            count=len(images),
            images=images,
            styles=styles,
            weights=options.weights,
            masks=_masks(options.masks, images),
            strength=options.strength,
            keep_colour=options.keep_colour,
            style_scale=options.style_scale,
            start=options.start,
            steps=options.steps,
        )

    made = Remade()
    for source in films:
        _film(source, options, asked, request_of, made)
    if not options.pictures:
        return asked.tell(counted(len(films), "video"), made.paths, made.notes)
    with previewing(options.out, options.look_every) as look:
        stills = remake(
            asked,
            options,
            lambda part: request_of(part.pixels, part.first),
            size=options.size,
            read=given.read_within,
            doing="painting",
            heads=("content", "style", "result") if styles else ("content", "result"),
            shown=lambda before, after: shown(before, styles, after),
            look=look,
            told=told(options),
        )
    what = " and ".join(
        counted(count, kind)
        for count, kind in ((len(films), "video"), (len(stills.settings), "picture"))
        if count
    )
    return asked.tell(what, made.paths + stills.paths, made.notes + stills.notes, seeds=stills.seeds)


def _film(
    source: Path, options: Options, asked: Asked, request_of: Callable[[Tensor], Stylize], made: Remade
) -> None:
    """Paint a video, each frame for itself."""
    from sfumato.apps import footage
    from sfumato.apps.pictures import free
    from sfumato.apps.sample import silent
    from sfumato.core.request import Images

    def painted(frames: Tensor) -> Tensor:
        answer = asked.answer(request_of(frames), silent)
        assert isinstance(answer, Images)
        return answer.pixels

    first = footage.first_frame(source, options.size)
    settings = asked.settings(request_of(first), first) | told(options) | {"file": str(source)}
    path = free(options.out / f"{source.stem}.mp4", settings)
    with asked.bar(f"painting {source.name}") as report:
        made.notes += footage.change(source, path, painted, settings, report, side=options.size)
    made.paths.append(path)


def painter(options: Options) -> Asked:
    """The model that paints: the one named, or the one of the method that comes along."""
    from sfumato.apps import facts
    from sfumato.apps.load import stands
    from sfumato.core.request import Stylize
    from sfumato.registry import SYSTEMS

    system = METHODS[options.method]
    searching = not options.model and system in SYSTEMS and stands(system)
    if not searching and (options.features is not None or options.settings):
        what = "--features" if options.features is not None else f"'{options.settings[0]}'"
        raise UsageError(
            f"{what} belongs to the method gatys; leave it out, or leave out --method and --model"
        )
    if searching:
        return Asked.upon(options, system, options.features, options.settings, f"stylize --method {system}")
    if options.model:
        return Asked.open(options, Stylize)
    models = (name for name, at in facts.models().items() if facts.read_config(at)["system"] == system)
    if (name := next(models, "")) == "":
        raise UsageError(
            f"No model of the method {options.method} comes along; train one (sfumato train {system} --out "
            "RUN) and give it as --model RUN, or use --method gatys"
        )
    return Asked.open(replace(options, model=name), Stylize)


def _style(path: Path, channels: int) -> Tensor:
    from sfumato import images

    return images.to_tensor(images.open_image(path.expanduser()), channels)


def _masks(paths: Sequence[Path], pixels: Tensor) -> Tensor | None:
    """Masks at the size of the pictures, 1 where they are white."""
    if not paths:
        return None
    import torch

    from sfumato import images

    height, width = pixels.shape[2:]
    scaled = (images.open_image(path.expanduser()).resize((width, height)) for path in paths)
    return torch.stack([(images.to_tensor(mask, 1) + 1) / 2 for mask in scaled])


def shown(before: Tensor, styles: Sequence[Tensor], after: Tensor) -> list[Image]:
    """The picture given, the styles above each other in one square, and the one made of them."""
    from PIL import Image as Pillow

    from sfumato import images

    cells = [images.to_pil(before), images.to_pil(after)]
    if styles:
        across = int(len(styles) ** 0.5 + 0.999)
        side = SIDE // across
        square = Pillow.new("RGB", (across * side, across * side), "white")
        for k, style in enumerate(styles):
            square.paste(
                images.fit(images.to_pil(style).convert("RGB"), side, side),
                (k % across * side, k // across * side),
            )
        cells.insert(1, square)
    return cells


def told(options: Options) -> dict[str, object]:
    """What of the options stands in the pictures, besides the request."""
    said: dict[str, object] = {"styles": [str(path) for path in options.style], "size": options.size}
    if not options.model:
        said["method"] = options.method
    if options.features is not None:
        said["features"] = str(options.features)
    if options.masks:
        said["masks"] = [str(path) for path in options.masks]
    if options.settings:
        said["settings"] = list(options.settings)
    return said


def help_on_settings(given: Sequence[str]) -> None:
    """After the verb's own help, if more was asked than that: the settings of the method gatys."""
    if "--method" not in given:
        write("\nSettings of the method gatys: sfumato stylize --method gatys --help\n")
        return
    import tyro

    from sfumato.apps.verbs import MARKERS
    from sfumato.systems.style.gatys import GatysConfig

    write("\nSettings of the method gatys.\n")
    tyro.cli(GatysConfig, args=["--help"], prog="sfumato stylize --method gatys", config=MARKERS)
