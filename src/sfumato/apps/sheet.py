"""Contact sheets: pictures with their captions, as one PNG and as one web page that needs no other file."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from sfumato import images
from sfumato.apps.pictures import data_url
from sfumato.core import durable

SIDE = 192
"""Pixels of a picture on the sheet; small pictures are enlarged without blurring."""
MARGIN, GAP, TEXT, LINE = 28, 18, 15, 20
LINES = 6
"""Lines of a caption on the drawn sheet; the page shows all."""
INK, PALE, PAPER, FRAME = (34, 34, 38), (110, 110, 118), (255, 255, 255), (224, 224, 228)


@dataclass(frozen=True)
class Cell:
    """A picture with what it was to show."""

    image: Image.Image
    caption: str
    small: str = ""
    """A second, paler line: the seed, for example."""


def write_png(cells: Sequence[Cell], path: Path, title: str, columns: int = 4) -> None:
    """Draw the sheet as a picture."""
    font, big = ImageFont.load_default(TEXT), ImageFont.load_default(24)
    lines = [textwrap.wrap(cell.caption, 24)[:LINES] for cell in cells]
    words = LINE * (max((len(line) for line in lines), default=0) + any(cell.small for cell in cells))
    columns = min(columns, len(cells))
    rows = -(-len(cells) // columns)
    width = 2 * MARGIN + columns * SIDE + (columns - 1) * GAP
    top = MARGIN + 44
    sheet = Image.new("RGB", (width, top + rows * (SIDE + 8 + words + GAP) + MARGIN - GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN - 6), title, INK, big)
    for i, (cell, wrapped) in enumerate(zip(cells, lines, strict=True)):
        x = MARGIN + i % columns * (SIDE + GAP)
        y = top + i // columns * (SIDE + 8 + words + GAP)
        picture = enlarged(cell.image)
        left, upper = x + (SIDE - picture.width) // 2, y + (SIDE - picture.height) // 2
        sheet.paste(picture, (left, upper))
        frame = (left - 1, upper - 1, left + picture.width, upper + picture.height)
        draw.rectangle(frame, outline=FRAME)
        for k, line in enumerate(wrapped):
            draw.text((x, y + SIDE + 6 + k * LINE), line, INK, font)
        draw.text((x, y + SIDE + 6 + len(wrapped) * LINE), cell.small, PALE, font)
    images.save_png(sheet, path, {"title": title})


def enlarged(image: Image.Image) -> Image.Image:
    """A picture scaled to the side of a cell: whole pixels for small ones, smooth for large ones."""
    scale = SIDE / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    method = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BICUBIC
    return image.convert("RGB").resize(size, method)


PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
  :root {{ color-scheme: light dark; }}
  body {{ font: 16px/1.45 system-ui, sans-serif; max-width: 66rem; margin: 2rem auto; padding: 0 1rem; }}
  h1 {{ font-weight: 600; font-size: 1.6rem; margin: 0 0 .3rem; }}
  p {{ margin: .2rem 0 1rem; }}
  main {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: 1.4rem; }}
  figure {{ margin: 0; }}
  img {{ width: 100%; image-rendering: pixelated; border-radius: 4px; display: block; }}
  figcaption {{ margin-top: .4rem; }}
  small {{ color: gray; display: block; }}
  code {{ overflow-wrap: anywhere; }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{lead}</p>
<main>
{figures}
</main>
<p><small>{foot}</small></p>
</body>
</html>
"""


def write_html(cells: Sequence[Cell], path: Path, title: str, lead: str, foot: str = "") -> None:
    """Write the sheet as a page; captions are text, whatever they hold."""
    figures = "\n".join(
        f'<figure><img alt="{html.escape(cell.caption)}" src="{data_url(cell.image)}">'
        f"<figcaption>{html.escape(cell.caption)}<small>{html.escape(cell.small)}</small></figcaption></figure>"
        for cell in cells
    )
    told = {"title": html.escape(title), "lead": html.escape(lead), "foot": html.escape(foot)}
    path.parent.mkdir(parents=True, exist_ok=True)
    durable.write_text(path, PAGE.format(figures=figures, **told))
