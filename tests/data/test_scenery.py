"""Scenes with maps and boxes: both agree with the picture they belong to."""

from __future__ import annotations

import pytest
import torch

from sfumato.data import open_data
from sfumato.data.scenery import THINGS, Scenery, around
from sfumato.data.shapes.scene import COLOURS, SHAPES
from sfumato.errors import DataError

DATA = Scenery("test", 60)
BATCH, SCENES = DATA.batch(torch.arange(40)), DATA.scenes(torch.arange(40))


def test_it_is_in_the_table_and_splits_differ():
    train = open_data("labels-to-scenes", size=60, needs=frozenset({"source", "image", "boxes"}))
    assert train.facts.things == THINGS
    assert (train.batch(torch.arange(3))["image"] - BATCH["image"][:3]).abs().max() > 0.5


def test_systems_that_need_boxes_are_told_where_they_are():
    with pytest.raises(DataError, match="no boxes; choose one that has, such as 'labels-to-scenes'"):
        open_data("shapes", needs=frozenset({"boxes"}))


def test_pixels_of_one_label_have_one_colour_up_to_texture():
    for image, source, background in zip(BATCH["image"], BATCH["source"], SCENES.background, strict=True):
        bare = (source == source[:, :1, :1]).all(0)
        ground = image[:, bare]
        # Antialiased pixels of objects are outside of them by less than half.
        assert ((ground - image[:, :1, 0]).abs().amax(0) < 0.02).float().mean() > 0.93, background


def test_every_pair_of_colour_and_texture_and_every_ground_has_its_own_label():
    train = Scenery("train", 24).batch(torch.arange(200))["source"]
    assert len(train.movedim(1, 3).flatten(0, 2).unique(dim=0)) == 29


def test_boxes_are_around_the_labels():
    for boxes, source, scene in zip(BATCH["boxes"], BATCH["source"], range(40), strict=True):
        inside = (source != source[:, :1, :1]).any(0)
        number = int(SCENES.number[scene])
        assert (boxes[:, 0] > 0).tolist() == [k < number for k in range(3)]
        assert (boxes[number:] == 0).all()
        whole = around(inside)
        assert boxes[:number, 1:3].amin(0).tolist() == whole[:2].tolist()
        assert boxes[:number, 3:].amax(0).tolist() == whole[2:].tolist()
        for k, row in enumerate(boxes[:number]):
            colour, shape = COLOURS[SCENES.colour[scene, k]], SHAPES[SCENES.shape[scene, k]]
            assert THINGS[int(row[0]) - 1] == f"{colour} {shape}"


def test_a_box_is_the_smallest_that_holds_all():
    inside = torch.zeros(2, 5, 10, dtype=torch.bool)
    inside[0, 1, 3] = inside[0, 3, 7] = True
    assert around(inside).tolist() == [pytest.approx([0.3, 0.2, 0.8, 0.8]), [0, 0, 0, 0]]


def test_what_is_not_there_is_an_error():
    with pytest.raises(IndexError, match="holds examples 0 to 1999"):
        DATA.batch(torch.tensor([2000]))
