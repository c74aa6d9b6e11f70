"""Layouts as files, and the errors that say what is wrong with one."""

from __future__ import annotations

import json

import pytest

from sfumato.data.boxes import Box, check_boxes, read_boxes
from sfumato.errors import DataError, UsageError

GOOD = {"label": "red circle", "box": [0.1, 0, 0.5, 1]}


def test_a_layout_is_read(tmp_path):
    file = tmp_path / "boxes.json"
    file.write_text(json.dumps([GOOD, {"label": "blue star", "box": [0, 0.25, 0.5, 0.75]}]))
    assert read_boxes(file) == (Box("red circle", 0.1, 0, 0.5, 1), Box("blue star", 0, 0.25, 0.5, 0.75))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("[", "is not JSON"),
        ("{}", "must hold a list of boxes"),
        ("[]", "must hold a list of boxes"),
        ('["red circle"]', "Box 1 in .* must have a label and a box"),
        (json.dumps([GOOD, {"label": "red circle"}]), "Box 2 in .* must have a label and a box"),
        (json.dumps([GOOD | {"size": 3}]), "and nothing else"),
        (json.dumps([GOOD | {"box": [0, 1]}]), "must have four numbers"),
        (json.dumps([GOOD | {"box": [0, 1, "a", 2]}]), "must have four numbers"),
    ],
)
def test_what_is_no_layout_is_refused(tmp_path, text, match):
    file = tmp_path / "boxes.json"
    file.write_text(text)
    with pytest.raises(DataError, match=match):
        read_boxes(file)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(DataError, match="There is no file"):
        read_boxes(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("boxes", "match"),
    [
        ((), "places 1 to 2 things, got 0"),
        ((Box("red circle", 0, 0, 1, 1),) * 3, "places 1 to 2 things, got 3"),
        ((Box("red circel", 0, 0, 1, 1),), "knows no 'red circel'; did you mean 'red circle'"),
        ((Box("red circle", 0.5, 0, 0.5, 1),), "left < right"),
        ((Box("red circle", 0, 0.2, 1, 1.1),), "bottom <= 1"),
        ((Box("red circle", float("nan"), 0.2, 1, 1),), "left < right"),
    ],
)
def test_boxes_that_cannot_be_are_refused(boxes, match):
    with pytest.raises(UsageError, match=match):
        check_boxes(boxes, ("red circle", "blue star"), 2)
