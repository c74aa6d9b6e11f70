"""One shape a picture: every pair occurs, nothing is textured, and oracles read it in a scene."""

from __future__ import annotations

import pytest
import torch

from sfumato.data import open_data
from sfumato.data.shapes.single import CENTRE, SingleShapes, in_a_scene
from sfumato.errors import UsageError
from sfumato.metrics.oracle import evaluation_oracle


@pytest.mark.parametrize("size", [16, 32])
def test_an_oracle_reads_what_the_labels_say(size):
    data = SingleShapes("test", size)
    batch = data.batch(torch.arange(24))
    assert batch["image"].shape == (24, 3, size, size)
    there, shape, colour, *_ = evaluation_oracle().cells(in_a_scene(batch["image"]), (CENTRE,))
    assert (there[:, 0].argmax(1) == 1).all()
    assert torch.equal(shape[:, 0].argmax(1), batch["label"])
    assert torch.equal(colour[:, 0].argmax(1), batch["colour"])


def test_every_pair_occurs_alone_and_plain():
    data = open_data("single-shapes", size=16, needs=frozenset({"image", "label"}))
    scenes = data.scenes(torch.arange(2000))
    assert (scenes.number == 1).all()
    assert (scenes.place[:, 0] == CENTRE).all()
    assert (scenes.texture[:, 0] == 0).all()
    pairs = scenes.colour[:, 0] * 6 + scenes.shape[:, 0]
    assert len(pairs.unique()) == 48
    other = SingleShapes("test", 16)
    assert other.facts.fingerprint != data.facts.fingerprint
    assert not torch.equal(other.scenes(torch.arange(9)).key, scenes.key[:9])


def test_a_scene_around_a_picture():
    pixels = torch.full((2, 3, 6, 10), -0.5)
    pixels[1] = 0.25
    pixels[:, :, 2:4, 3:7] = 1.0
    framed = in_a_scene(pixels)
    assert framed.shape == (2, 3, 18, 30)
    assert torch.equal(framed[:, :, 6:12, 10:20], pixels)
    assert (framed[0, :, :6] == -0.5).all()
    assert (framed[1, :, :, 20:] == 0.25).all()


def test_too_small():
    with pytest.raises(UsageError, match="12 pixels a side, got 8"):
        SingleShapes(size=8)
