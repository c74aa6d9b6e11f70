"""The verb ``letters``: a text in a font that a system has learned, or on the way from font to font."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from tyro.conf import Positional

from sfumato.apps.ask import Asked, Asking
from sfumato.errors import DataError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.apps.sample import Report
    from sfumato.data.glyphs.files import Font

MOST = 100
"""Characters of a text."""
HEIGHT = 128
"""Pixels of a line, or more: smaller ones are enlarged."""
STILLS = 5
"""Most lines that show a way from font to font."""
NAMES = 150
"""Pixels beside the lines for the names of fonts."""


@dataclass(frozen=True, kw_only=True)
class Options(Asking):
    """Write a text in fonts that a system has learned.

    Example: sfumato letters "Sfumato" --font italic slab

    One font gives one PNG; several give a film (GIF) in which each turns into the next, and its stills (PNG);
    none gives one PNG with a line for every font the model knows.
    """

    text: Annotated[Positional[str], tyro.conf.arg(metavar="[TEXT]")] = ""
    """What to write, in one line."""
    font: tuple[str, ...] = ()
    """Fonts by name or by number; by default all that the model knows."""
    source: str = ""
    """The font file to start from, if it lies no longer where it lay in training."""
    frames: int = 12
    """Steps from one font to the next."""
    loop: bool = False
    """Return to the first font in the end."""
    rate: float = 12.0
    """Frames a second."""
    gap: float = 0.08
    """Between letters, in heights of the line."""
    mp4: bool = False
    """Also write an MP4; needs the extra "video"."""


def main(options: Options) -> int:
    """Load, write, save; paths go to stdout."""
    text = " ".join(options.text.split())
    _check(options, text)
    from sfumato.apps import film
    from sfumato.core.request import Letters

    if options.mp4:
        film.video_library()
    asked = Asked.open(options, Letters)
    given = sources(asked, text, options.source)
    if len(options.font) > 1:
        return _film(asked, options, text, given)
    return _lines(asked, options, text, given)


def _check(options: Options, text: str) -> None:
    if not text:
        raise UsageError('Write what? Give a text, as in: sfumato letters "Sfumato"')
    if len(text) > MOST:
        raise UsageError(f"A line holds at most {MOST} characters, got {len(text)}; write several")
    if options.frames < 1:
        raise UsageError(f"--frames must be at least 1, got {options.frames}")
    if not 0 < options.rate <= 100:
        raise UsageError(f"--rate must be above 0 and at most 100 frames a second, got {options.rate:g}")
    if not 0 <= options.gap <= 1:
        raise UsageError(f"--gap must be from 0 to 1, got {options.gap:g}")


def sources(asked: Asked, text: str, source: str = "") -> Tensor:
    """The characters of a text, without spaces, in the font from which a model starts: (n, 1, h, w)."""
    if asked.size is None:
        raise UsageError(f"'{asked.source.model}' does not say which fonts it learned; give a run")
    font = _font(asked, source)
    levels = font.draw("".join(text.split()), asked.size)
    return levels[:, None].float().div(127.5).sub(1)


def _font(asked: Asked, source: str) -> Font:
    from sfumato.apps.load import folder_of
    from sfumato.core.checkpoint import RunFolder
    from sfumato.data import settings_of
    from sfumato.data.glyphs.files import is_stroke_font, open_font

    if source:
        return open_font(source)
    _, settings = settings_of(RunFolder.open(folder_of(asked.source.model)).recipe.data)
    (known,) = settings.get("source", ("regular",))
    if not is_stroke_font(known) and not Path(known.partition("#")[0]).is_file():
        raise DataError(
            f"The font that it starts from, '{known}', is not there; say where with --source FONT"
        )
    return open_font(known)


def _drawn(asked: Asked, given: Tensor, report: Report, **how: Any) -> Tensor:
    """The characters, as often as there are mixtures of fonts to draw them in."""
    from sfumato.core.request import Images, Letters

    answer = asked.answer(Letters(images=given, count=len(given), **how), report)
    assert isinstance(answer, Images)
    return answer.pixels.float().cpu()


def _lines(asked: Asked, options: Options, text: str, given: Tensor) -> int:
    """One line in a font, or one in every font."""
    from sfumato import images
    from sfumato.apps.pictures import free, slug
    from sfumato.core.request import Letters
    from sfumato.data.glyphs.line import even, line

    fonts = options.font or tuple(asked.system.config.fonts)
    with asked.bar("writing") as report:
        each = tuple(font for font in fonts for _ in given)
        drawn = _drawn(asked, given.repeat(len(fonts), 1, 1, 1), report, font=each)
    lines = [line(text, part, options.gap) for part in drawn.split(len(given))]
    request = Letters(seed=options.seed, count=len(given), images=given, font=fonts)
    settings = asked.settings(request, drawn) | {"text": text, "gap": options.gap}
    name = f"letters{slug(text)}" + (f"-{slug(fonts[0])[1:]}" if options.font else "")
    path = free(options.out / f"{name}.png", settings)
    shown = larger(even(lines))
    picture = images.to_pil(shown[0]) if options.font else named(shown, fonts)
    images.save_png(picture, path, settings)
    what = f"'{text}' in {fonts[0] if options.font else f'{len(fonts)} fonts'}"
    return asked.tell(what, [path], fonts=list(fonts))


def _film(asked: Asked, options: Options, text: str, given: Tensor) -> int:
    """A film that leads from font to font."""
    from sfumato.apps import film
    from sfumato.apps.pictures import slug
    from sfumato.core.request import Letters
    from sfumato.data.glyphs.line import even, line

    fonts, frames = options.font, options.frames
    ends = [*fonts[1:], fonts[0]] if options.loop else list(fonts[1:])
    steps = [(a, b, k / frames) for a, b in zip(fonts, ends, strict=False) for k in range(frames)]
    if not options.loop:
        steps.append((fonts[-2], fonts[-1], 1.0))
    first, second, share = (tuple(step[i] for step in steps for _ in given) for i in range(3))
    with asked.bar("writing") as report:
        drawn = _drawn(
            asked, given.repeat(len(steps), 1, 1, 1), report, font=first, towards=second, share=share
        )
    lines = even([line(text, part, options.gap) for part in drawn.split(len(given))])
    request = Letters(seed=options.seed, count=len(given), images=given, font=fonts)
    settings = asked.settings(request, drawn) | {
        "text": text,
        "gap": options.gap,
        "frames": frames,
        "loop": options.loop,
        "rate": options.rate,
    }
    shown = film.stills(len(fonts), frames, loop=options.loop, most=STILLS)
    rows = tuple((i,) for row in shown for i in row)
    made = film.Film(pixels=larger(lines), rate=options.rate, settings=settings, rows=rows)
    paths = made.save(options.out / f"letters{slug(text)}-film.gif", mp4=options.mp4)
    what = f"'{text}' over {len(fonts)} fonts, {len(made)} frames,"
    return asked.tell(what, paths, fonts=list(fonts), frames=len(made), rate=options.rate)


def larger(lines: Tensor) -> Tensor:
    """Lines enlarged smoothly until they are ``HEIGHT`` pixels high."""
    from torch.nn.functional import interpolate

    times = -(-HEIGHT // lines.shape[2])
    return interpolate(lines, scale_factor=times, mode="bicubic").clamp(-1, 1) if times > 1 else lines


def named(lines: Tensor, names: tuple[str, ...]) -> Any:
    """Lines one below the other, each beside its name."""
    from PIL import Image, ImageDraw, ImageFont

    from sfumato import images

    text = images.grid(lines, 1, pad=0)
    sheet = Image.new("L", (NAMES + text.width, text.height), "white")
    sheet.paste(text.convert("L"), (NAMES, 0))
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(16)
    for i, name in enumerate(names):
        pen.text((12, (i + 0.5) * lines.shape[2]), name[:18], 110, font, anchor="lm")
    return sheet
