"""The verb ``layout``: pictures in which given things stand in given boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato.apps.ask import Asked, Asking
from sfumato.apps.talk import counted
from sfumato.errors import UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

    from sfumato.data.boxes import Box

SIDE = 192
"""Pixels of a picture on the sheet."""
LINE = (196, 30, 58)


@dataclass(frozen=True, kw_only=True)
class Options(Asking):
    """Make pictures in which given things stand in given boxes.

    Example: sfumato layout --boxes boxes.json --count 4 --model runs/layout

    The file holds a list such as [{"label": "red circle", "box": [0.1, 0.1, 0.4, 0.4]}], with left, top,
    right and bottom as shares of the picture's sides. Writes one PNG a picture, with its settings inside, and
    sheet.png, which shows the boxes alone and around what came of them.
    """

    boxes: Path | None = None
    """A JSON file that says what stands where."""
    count: int = 4
    """How many pictures."""
    steps: int | None = None
    """How many steps the solver takes; by default the system's own."""
    guidance: float | None = None
    """How closely to keep to the boxes; 1 switches guidance off."""


def main(options: Options) -> int:
    """Load, make, write; paths go to stdout."""
    if options.boxes is None:
        raise UsageError("What stands where? Give a file: sfumato layout --boxes boxes.json")
    if options.count < 1:
        raise UsageError(f"--count must be at least 1, got {options.count}")
    from sfumato.apps.sample import pictures_of
    from sfumato.core.request import Images, Layout
    from sfumato.data.boxes import read_boxes

    boxes = read_boxes(options.boxes)
    asked = Asked.open(options, Layout)
    request = Layout(
        seed=options.seed,
        count=options.count,
        layouts=(boxes,),
        steps=options.steps,
        guidance=options.guidance,
    )
    with asked.bar("making") as report:
        answer = asked.answer(request, report)
    assert isinstance(answer, Images)
    pictures = pictures_of(asked.system, request, asked.source, answer)
    said = {"boxes": [{"label": box.label, "box": list(box[1:])} for box in boxes]}
    settings = tuple(_without(told, "layouts") | said for told in pictures.settings)
    pictures = replace(pictures, settings=settings)
    paths = pictures.save(options.out)
    paths.append(_sheet(list(pictures), boxes, options.out, settings))
    return asked.tell(counted(len(pictures), "picture"), paths, pictures.notes, seeds=list(pictures.seeds))


def _without(settings: Any, name: str) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key != name}


def framed(picture: Image | None, boxes: Sequence[Box], side: int = SIDE) -> Image:
    """A picture, or white paper, enlarged, with boxes drawn around their things; on paper they are named."""
    from PIL import Image as pil
    from PIL import ImageDraw, ImageFont

    if picture is None:
        sheet = pil.new("RGB", (side, side), "white")
    else:
        sheet = picture.convert("RGB").resize((side, side), pil.Resampling.NEAREST)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(max(9, side // 18))
    for box in boxes:
        left, top, right, bottom = (round(share * (side - 1)) for share in box[1:])
        pen.rectangle((left, top, right, bottom), outline=LINE, width=max(1, side // 96))
        if picture is None:
            words = box.label.replace(" ", "\n")
            middle = (left + right) / 2, (top + bottom) / 2
            pen.multiline_text(middle, words, (34, 34, 38), font, anchor="mm", align="center")
    return sheet


def _sheet(made: Sequence[Image], boxes: Sequence[Box], out: Path, settings: Sequence[Any]) -> Path:
    """The boxes, then each picture, and below it the same with the boxes around its things."""
    from sfumato.apps import sheet
    from sfumato.apps.pictures import free, shared

    title = f"Layout of {counted(len(boxes), 'thing')}"
    told = shared(tuple(settings)) | {"title": title}
    path = free(out / "sheet.png", told)
    rows: list[list[sheet.Cell | None]] = [
        [sheet.Cell(framed(None, boxes), ""), *(sheet.Cell(image, "") for image in made)],
        [None, *(sheet.Cell(framed(image, boxes), "") for image in made)],
    ]
    sheet.write_table(rows, path, title, heads=["asked", *("made" for _ in made)], settings=told)
    return path
