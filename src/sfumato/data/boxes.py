"""Layouts: which thing stands in which box of a picture, as a file of JSON says it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sfumato.errors import DataError, UsageError, nearest

EXAMPLE = '[{"label": "red circle", "box": [0.1, 0.1, 0.4, 0.4]}]'


class Box(NamedTuple):
    """A thing, and the box it fills: shares of the picture's width and height, from the top left."""

    label: str
    left: float
    top: float
    right: float
    bottom: float


def read_boxes(path: Path) -> tuple[Box, ...]:
    """The layout in a file: a list of ``{"label": ..., "box": [left, top, right, bottom]}``.

    Raises ``DataError`` for a file that does not hold one.
    """
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"There is no file '{path}'; write one such as {EXAMPLE}") from error
    except ValueError as error:
        raise DataError(f"'{path}' is not JSON ({error}); write such as {EXAMPLE}") from error
    if not isinstance(said, list) or not said:
        raise DataError(f"'{path}' must hold a list of boxes, such as {EXAMPLE}")
    return tuple(_box(entry, i + 1, path) for i, entry in enumerate(said))


def _box(entry: Any, number: int, path: Path) -> Box:
    if not isinstance(entry, dict) or entry.keys() != {"label", "box"} or not isinstance(entry["label"], str):
        raise DataError(
            f"Box {number} in '{path}' must have a label and a box and nothing else, got {entry}; "
            f"write such as {EXAMPLE}"
        )
    sides = entry["box"]
    numbers = isinstance(sides, list) and len(sides) == 4
    if not numbers or not all(isinstance(side, int | float) and not isinstance(side, bool) for side in sides):
        raise DataError(
            f"Box {number} in '{path}' must have four numbers, left, top, right and bottom, got {sides}; "
            f"write such as {EXAMPLE}"
        )
    return Box(entry["label"], *map(float, sides))


def check_boxes(boxes: Sequence[Box], labels: Sequence[str], most: int) -> None:
    """Raise ``UsageError`` unless these are 1 to ``most`` boxes inside the picture, with known labels."""
    if not 1 <= len(boxes) <= most:
        raise UsageError(f"This model places 1 to {most} things, got {len(boxes)}; give so many boxes.")
    for box in boxes:
        if box.label not in labels:
            raise UsageError(f"This model knows no '{box.label}'{nearest(box.label, labels)}")
        if not (0 <= box.left < box.right <= 1 and 0 <= box.top < box.bottom <= 1):
            raise UsageError(
                f"The box of '{box.label}' must have 0 <= left < right <= 1 and 0 <= top < bottom <= 1, got "
                f"{list(box[1:])}; give shares of the picture's sides, from the top left."
            )
