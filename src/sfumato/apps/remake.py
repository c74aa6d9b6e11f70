"""What the verbs share that turn given pictures into others: read, ask, write, show both side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from tyro.conf import Positional

from sfumato.apps.ask import Asked, Asking
from sfumato.apps.talk import counted
from sfumato.errors import UsageError

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from sfumato.apps.given import Part, Reader
    from sfumato.apps.sample import Look, Report
    from sfumato.apps.sheet import Cell
    from sfumato.core.request import Images, Request

SHOWN = 24
"""Pictures on the sheet; all are written."""
FEW = 4
"""So many are shown one below the other; more stand in several columns."""
ACROSS = 6
"""Most cells in a row of the sheet."""
SIDE = 192
"""Pixels of a cell."""


@dataclass(frozen=True, kw_only=True)
class Remaking(Asking):
    """Options of every verb that starts from pictures."""

    pictures: Annotated[Positional[tuple[Path, ...]], tyro.conf.arg(metavar="[PICTURE ...]")] = ()
    """Files, or folders of JPEG, PNG or WebP files."""


@dataclass(frozen=True, kw_only=True)
class Resizing(Remaking):
    """Options of verbs whose systems learned pictures of one size."""

    size: int | None = None
    """Height and width to which pictures are scaled and cropped; by default those the model learned from."""
    whole: bool = False
    """Leave pictures as large as they are, for systems that take any size."""


@dataclass
class Remade:
    """What came of it, as it is being written."""

    paths: list[Path] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    latents: list[Tensor] = field(default_factory=list)
    settings: list[dict[str, Any]] = field(default_factory=list)
    rows: list[list[Cell | None]] = field(default_factory=list)
    """For the sheet: a given picture and what it became."""


def side_by_side(before: Tensor, after: Tensor) -> list[Image]:
    """The picture given, and the one made of it."""
    from sfumato import images

    return [images.to_pil(before), images.to_pil(after)]


def size_of(options: Resizing, asked: Asked) -> int | None:
    """To which side pictures are scaled; None leaves them as they are."""
    if options.whole and options.size is not None:
        raise UsageError("--whole leaves pictures as they are, and --size scales them; give one of the two")
    if options.size is not None and options.size < 1:
        raise UsageError(f"--size must be at least 1, got {options.size}")
    if options.whole or options.size is not None:
        return options.size
    if asked.size is None:
        raise UsageError("This model does not say at which size it learned; give --size, or --whole")
    return asked.size


def remake(
    asked: Asked,
    options: Remaking,
    request_for: Callable[[Part], Request],
    *,
    size: int | None,
    doing: str,
    heads: Sequence[str] = ("before", "after"),
    shown: Callable[[Tensor, Tensor], Sequence[Image]] = side_by_side,
    side: int = SIDE,
    read: Reader | None = None,
    look: Look | None = None,
    told: Mapping[str, Any] | None = None,
) -> Remade:
    """Ask for every picture, write one PNG each as it comes, and in the end sheet.png.

    ``read`` brings pictures to the size, if it is not to be a square; ``look`` sees what there is to see on
    the way; what is ``told`` stands among the settings.
    """
    from sfumato.apps import given
    from sfumato.core.request import Images

    listed, made = given.listed(options.pictures), Remade()
    with asked.bar(doing) as report:
        for part in given.parts(
            listed, asked.system.channels, size, made.notes, read=read or given.read_square
        ):
            done = part_of(report, part.first, len(part.given), len(listed))
            answer = asked.answer(request_for(part), done, look)
            assert isinstance(answer, Images)
            _write(asked, options.out, request_for, part, answer, made, dict(told or {}))
            for one, before, after in zip(part.given, part.pixels, answer.pixels, strict=True):
                if len(made.rows) < SHOWN:
                    made.rows.append(_row(str(one.name), shown(before, after.float().cpu())))
    made.paths.append(_sheet(made, options.out, doing, heads, side))
    return made


def part_of(report: Report, first: int, count: int, whole: int) -> Report:
    """Report progress with ``count`` pictures after ``first`` as progress with all."""
    return lambda done: report((first + done * count) / whole)


def _write(
    asked: Asked,
    out: Path,
    request_for: Callable[[Part], Request],
    part: Part,
    answer: Images,
    made: Remade,
    told: dict[str, Any],
) -> None:
    from dataclasses import replace

    from sfumato import images
    from sfumato.apps.pictures import free

    pixels = answer.pixels.float().cpu()
    for i, one in enumerate(part.given):
        alone = replace(part, first=part.first + i, given=(one,), pixels=part.pixels[i : i + 1])
        settings = asked.settings(request_for(alone), pixels) | {"file": str(one.path), **told}
        path = free(out / one.name.with_name(f"{one.name.name}.png"), settings)
        images.save_png(images.to_pil(pixels[i]), path, settings)
        made.paths.append(path)
        made.settings.append(settings)
    made.seeds += answer.seeds
    made.notes += answer.notes
    if answer.latents is not None:
        made.latents.append(answer.latents.float().cpu())


def _row(name: str, shown: Sequence[Image]) -> list[Cell | None]:
    from sfumato.apps.sheet import Cell

    return [Cell(image, "", name if i == 0 else "") for i, image in enumerate(shown)]


def _sheet(made: Remade, out: Path, doing: str, heads: Sequence[str], side: int) -> Path:
    """Rows of the sheet, several beside each other if there are many."""
    from sfumato.apps import sheet
    from sfumato.apps.pictures import free, shared

    across = 1 if len(made.rows) <= FEW else max(1, ACROSS // len(heads))
    rows = [
        [cell for row in made.rows[start : start + across] for cell in row]
        for start in range(0, len(made.rows), across)
    ]
    title = f"{doing.capitalize()} {counted(len(made.settings), 'picture')}"
    settings = shared(tuple(made.settings)) | {"pictures": [path.name for path in made.paths], "title": title}
    path = free(out / "sheet.png", settings)
    sheet.write_table(
        rows, path, title, heads=[*heads] * min(across, len(rows[0])), side=side, settings=settings
    )
    return path
