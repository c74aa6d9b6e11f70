"""Shapes in corners: read back without fault, in words that never say where."""

from __future__ import annotations

import pytest
import torch

from sfumato.data import open_data
from sfumato.data.shapes.corner import CORNERS, CornerShape, completed
from sfumato.data.shapes.reading import read, satisfies
from sfumato.data.shapes.scene import COLOURS, HELD_OUT, PLACES, SHAPES
from sfumato.errors import UsageError
from sfumato.metrics.oracle import evaluation_oracle


@pytest.mark.parametrize("levels", [{"short": 1.0}, {"full": 1.0}])
def test_pictures_are_read_back_and_captions_say_all_but_the_place(levels):
    data = CornerShape("test", 32, length=200, levels=levels)
    batch, scenes = data.batch(torch.arange(200)), data.scenes(torch.arange(200))
    assert (len(data), data.facts.name, batch["image"].shape) == (200, "corner-shape", (200, 3, 32, 32))
    wanted = [read(text) for text in batch["caption"]]
    assert all(one.objects[0].place is None for one in wanted)
    assert not any(place in text.split() for text in batch["caption"] for place in PLACES)
    assert satisfies(scenes, wanted)["all"].all()
    said = torch.tensor([one.background is not None for one in wanted]).float().mean()
    assert said == 1 if "full" in levels else 0.1 < said < 0.4

    whole = completed(batch["image"])
    assert whole.shape == (200, 3, 48, 48)
    assert torch.equal(whole[:, :, :32, :32], batch["image"])
    found = evaluation_oracle().read(whole)
    for name in ("shape", "colour", "size", "place"):
        assert (getattr(found, name)[:, 0] == getattr(scenes, name)[:, 0]).float().mean() > 0.99, name


def test_every_corner_is_as_likely_whatever_stands_there():
    scenes = CornerShape("train", 32).scenes(torch.arange(4000))
    place, colour = scenes.place[:, 0], scenes.colour[:, 0]
    for corner in CORNERS:
        assert (place == corner).float().mean().item() == pytest.approx(0.25, abs=0.03)
        for kind in range(len(COLOURS)):
            share = (place[colour == kind] == corner).float().mean().item()
            assert share == pytest.approx(0.25, abs=0.09)
    assert (scenes.texture[:, 0] == 0).all()


def test_pairs_of_training_and_held_out_pairs_do_not_meet():
    wanted = {(COLOURS.index(c), SHAPES.index(s)) for c, s in HELD_OUT}
    shown = {}
    for split in ("train", "held"):
        scenes = CornerShape(split, 32).scenes(torch.arange(400))
        shown[split] = set(zip(scenes.colour[:, 0].tolist(), scenes.shape[:, 0].tolist(), strict=True))
    assert shown["held"] == wanted
    assert shown["train"].isdisjoint(wanted)


def test_it_is_found_by_its_name_and_wants_an_even_size():
    small = open_data("corner-shape", size=16, needs=frozenset({"image", "caption"}))
    assert small.batch(torch.tensor([0, 7]))["image"].shape == (2, 3, 16, 16)
    assert small.facts.fingerprint != CornerShape("train", 32).facts.fingerprint
    for size in (31, 10):
        with pytest.raises(UsageError, match=f"an even number of pixels a side, 12 or more, got {size}"):
            CornerShape("train", size)
