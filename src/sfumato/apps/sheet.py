"""Contact sheets: pictures with their captions, as one PNG and as one web page that needs no other file."""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from sfumato import images
from sfumato.apps.pictures import data_url
from sfumato.core import durable
from sfumato.metrics.page import STYLE

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
    """Draw the sheet as a picture, ``columns`` cells a row."""
    columns = min(columns, len(cells))
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    write_table(rows, path, title)


def write_table(
    rows: Sequence[Sequence[Cell | None]],
    path: Path,
    title: str,
    *,
    heads: Sequence[str] = (),
    side: int = SIDE,
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Draw rows of cells (None stays empty) under a title and, if given, a head for each column."""
    font, big = ImageFont.load_default(TEXT), ImageFont.load_default(24)
    wrapped = [[_lines(cell, side) for cell in row] for row in rows]
    heights = [side + GAP + 8 + LINE * max(map(len, row)) for row in wrapped]
    top = MARGIN + 44 + (LINE + 4 if heads else 0)
    columns = max(map(len, rows))
    width = max(columns * (side + GAP) - GAP, math.ceil(big.getlength(title)))
    sheet = Image.new("RGB", (2 * MARGIN + width, top + sum(heights) - GAP + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN - 6), title, INK, big)
    for column, head in enumerate(heads):
        draw.text((MARGIN + column * (side + GAP), MARGIN + 38), head, PALE, font)
    for r, row in enumerate(rows):
        y = top + sum(heights[:r])
        for column, cell in enumerate(row):
            if cell is not None:
                _draw(draw, sheet, cell, wrapped[r][column], (MARGIN + column * (side + GAP), y), side)
    images.save_png(sheet, path, {"title": title, **(settings or {})})


def _lines(cell: Cell | None, side: int) -> list[tuple[str, tuple[int, int, int]]]:
    """What is written below a cell, and how dark."""
    if cell is None:
        return []
    words = textwrap.wrap(cell.caption, side // 8)[:LINES]
    return [(line, INK) for line in words] + ([(cell.small, PALE)] if cell.small else [])


def _draw(
    draw: ImageDraw.ImageDraw,
    sheet: Image.Image,
    cell: Cell,
    lines: Sequence[tuple[str, tuple[int, int, int]]],
    place: tuple[int, int],
    side: int,
) -> None:
    (x, y), picture, font = place, enlarged(cell.image, side), ImageFont.load_default(TEXT)
    left, upper = x + (side - picture.width) // 2, y + (side - picture.height) // 2
    sheet.paste(picture, (left, upper))
    draw.rectangle((left - 1, upper - 1, left + picture.width, upper + picture.height), outline=FRAME)
    for k, (line, ink) in enumerate(lines):
        draw.text((x, y + side + 6 + k * LINE), line, ink, font)


def enlarged(image: Image.Image, side: int = SIDE) -> Image.Image:
    """A picture scaled to the side of a cell: whole pixels for small ones, smooth for large ones."""
    scale = side / max(image.size)
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
{style}
main {{ max-width: 66rem; }}
.cells {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: 1.25rem;
  margin: 1.5rem 0; }}
figure {{ margin: 0; padding: .6rem; }} .cells img {{ width: 100%; display: block; }}
figcaption {{ color: var(--ink); font-size: 1rem; line-height: 1.4; }}
small {{ color: var(--soft); display: block; }}
</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p class="soft">{lead}</p>
<div class="cells">
{figures}
</div>
<p><small>{foot}</small></p>
</main>
</body>
</html>
"""


def write_html(cells: Sequence[Cell], path: Path, title: str, lead: str, foot: str = "") -> None:
    """Write the sheet as a page; captions are text, whatever they hold."""
    figures = "\n".join(
        f'<figure class="card"><img alt="{html.escape(cell.caption)}" src="{data_url(cell.image)}">'
        f"<figcaption>{html.escape(cell.caption)}<small>{html.escape(cell.small)}</small></figcaption></figure>"
        for cell in cells
    )
    told = {"title": html.escape(title), "lead": html.escape(lead), "foot": html.escape(foot)}
    path.parent.mkdir(parents=True, exist_ok=True)
    durable.write_text(path, PAGE.format(style=STYLE, figures=figures, **told))
