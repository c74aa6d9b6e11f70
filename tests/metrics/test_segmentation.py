"""Segmentation by colour, against what scenes are known to hold."""

from __future__ import annotations

import pytest
import torch

from sfumato.data.scenery import Scenery, around
from sfumato.data.shapes.render import distances
from sfumato.metrics.segmentation import box_iou, ground_of, mean_iou, objects, segmented

DATA = Scenery("test", 64)
ROWS = torch.arange(60)
BATCH, SCENES = DATA.batch(ROWS), DATA.scenes(ROWS)


def truth() -> torch.Tensor:
    inside, found = distances(SCENES, 64, 64) < 0, torch.zeros(60, 64, 64, dtype=torch.long)
    for slot in range(3):
        found = torch.where(inside[:, slot], 1 + SCENES.colour[:, slot, None, None], found)
    return found


def test_true_pictures_are_segmented_as_they_are():
    found, ground = segmented(BATCH["image"])
    assert torch.equal(ground, SCENES.background)
    assert torch.equal(ground_of(BATCH["image"]), ground)
    assert mean_iou(found, truth(), 9) >= 0.9
    assert mean_iou(found.roll(1, 0), truth(), 9) <= 0.25


def test_boxes_of_objects_are_found():
    wanted, found = BATCH["boxes"], around(objects(segmented(BATCH["image"])[0]))
    overlap = box_iou(wanted[:, :, None, 1:], found[:, None]).amax(2)
    assert overlap[wanted[..., 0] > 0].mean() >= 0.9
    assert (overlap[wanted[..., 0] == 0] == 0).all()


def test_noise_and_plain_grounds_hold_nothing():
    plain = BATCH["image"][:4, :, :1, :1].expand(-1, -1, 33, 48)
    noise = 0.03 * torch.randn(4, 3, 33, 48, generator=torch.Generator().manual_seed(0))
    assert not segmented(plain + noise)[0].any()


def test_overlaps_are_those_of_geometry():
    box = torch.tensor([0.0, 0.0, 0.5, 1.0])
    others = torch.tensor([[0.0, 0.0, 0.5, 1.0], [0.25, 0.0, 0.75, 1.0], [0.5, 0, 1, 1], [0, 0, 0, 0]])
    assert box_iou(box.expand(4, 4), others).tolist() == pytest.approx([1, 1 / 3, 0, 0])


def test_classes_that_do_not_occur_do_not_count():
    true = torch.tensor([[[0, 0, 1, 1]]])
    assert mean_iou(torch.tensor([[[0, 1, 1, 1]]]), true, 5) == pytest.approx((1 / 2 + 2 / 3) / 2)
