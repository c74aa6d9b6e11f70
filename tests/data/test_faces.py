"""The face world: what is drawn, what the pictures show where, and the dataset's promises."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch

from sfumato.core.rng import mix
from sfumato.data.dataset import Dataset
from sfumato.data.faces import (
    ATTRIBUTES,
    DIRECTIONS,
    KINDS,
    LONGEST,
    VOCABULARY,
    Faces,
    caption,
    draw,
    render,
)
from sfumato.data.faces.palette import RGB, colours
from sfumato.data.faces.scene import BUILD, Portraits
from sfumato.data.text import WordTokenizer, words
from sfumato.errors import UsageError

SIDE = 64


def plain(count: int = 6, **attributes: str) -> Portraits:
    """People who look straight ahead, undistorted, with nothing in front of their faces."""
    straight = replace(
        draw(3, torch.arange(count)), directions=torch.zeros(count, 4), build=torch.zeros(count, len(BUILD))
    )
    return straight.changed(
        **{"glasses": "none", "shadow": "none", "mood": "calm", "style": "bun"} | attributes
    )


def at(pixels: torch.Tensor, x: float, y: float) -> torch.Tensor:
    """Colours from 0 to 1 at a place from -1 to 1."""
    height, width = pixels.shape[2:]
    return (pixels[:, :, int((y + 1) / 2 * height), int((x + 1) / 2 * width)] + 1) / 2


def nearest(seen: torch.Tensor, attribute: str) -> torch.Tensor:
    return torch.cdist(seen, colours(attribute)).argmin(1)


def test_a_portrait_depends_on_its_number_alone():
    some, one = draw(5, torch.tensor([8, 3, 900])), draw(5, torch.tensor([3]))
    assert all(torch.equal(getattr(some, f.name)[1:2], getattr(one, f.name)) for f in fields(Portraits))
    assert not torch.equal(draw(6, torch.tensor([3])).key, one.key)


def test_every_kind_is_as_frequent_as_meant():
    people = draw(0, torch.arange(6000))
    for name, kinds in KINDS.items():
        share = torch.bincount(getattr(people, name), minlength=len(kinds)) / len(people)
        first = {"glasses": 0.5, "shadow": 0.4, "lips": 0.4}.get(name, 1 / len(kinds))
        expected = torch.tensor([first] + [(1 - first) / (len(kinds) - 1)] * (len(kinds) - 1))
        assert (share - expected).abs().max() < 0.03, name
    assert people.table.shape == (6000, len(ATTRIBUTES))
    assert people.directions.abs().max() <= 1
    assert (people.directions.mean(0).abs() < 0.05).all()
    # No attribute tells another: what a reader reports of one, it saw.
    together = torch.corrcoef(torch.cat([people.table.float(), people.directions, people.build], 1).T)
    assert (together - torch.eye(len(together))).abs().max() < 0.06


def test_colours_stand_where_they_belong():
    people = plain(60)
    seen = render(people, SIDE)
    for attribute, x, y in (("background", -0.9, -0.2), ("clothes", -0.55, 0.92), ("hair", 0.0, -0.55)):
        assert torch.equal(nearest(at(seen, x, y), attribute), getattr(people, attribute)), attribute
    forehead = nearest(at(seen, 0.0, -0.2), "skin")
    assert (forehead == people.skin).float().mean() > 0.95
    painted = plain(40, shadow="blue")
    lid = at(render(painted, 128), 0.21, -0.19)
    assert (nearest(lid, "shadow") == KINDS["shadow"].index("blue")).all()


def test_eyes_look_where_they_are_told():
    people = plain(1, eyes="blue")
    dark = {}
    for name, (x, y) in {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}.items():
        looking = replace(people, directions=torch.tensor([[float(x), float(y), 0.0, 0.0]]))
        eye = render(looking, 256)[0, :, 107:145, 137:173].mean(0)  # the eye on the right of the picture
        pupil = (eye < -0.6)[8:].nonzero().float().mean(0)
        dark[name] = pupil.tolist()
    assert dark["right"][1] - dark["left"][1] > 8
    assert dark["down"][0] - dark["up"][0] > 3
    assert abs(dark["right"][0] - dark["left"][0]) < 2


def test_a_change_stays_where_it_belongs():
    people = plain(20, lips="plain", clothes="white")
    before = render(people, SIDE)
    places = {"glasses": ("round", 20, 42), "lips": ("plum", 35, 52), "clothes": ("red", 44, 64)}
    for attribute, (value, first, last) in places.items():
        rows, change = slice(first, last), {attribute: value}
        moved = (render(people.changed(**change), SIDE) - before).abs().amax((1, 3))
        assert moved[:, rows].amax(1).min() > 0.05
        moved[:, rows] = 0
        assert moved.max() < 1e-6, change
    whole = people.changed(background="slate")
    assert torch.equal(render(whole, SIDE)[:, :, 40, 32], before[:, :, 40, 32])


@pytest.mark.parametrize(("height", "width"), [(64, 64), (48, 71), (33, 32)])
def test_pictures_are_clean_and_the_same_in_any_company(height, width):
    people = draw(1, torch.arange(70))
    pixels = render(people, height, width)
    assert pixels.shape == (70, 3, height, width)
    assert pixels.abs().max() <= 1.15
    assert (render(people[41:42], height, width)[0] - pixels[41]).abs().max() <= 1e-5


def test_a_chin_that_would_vanish_far_below_does_no_harm():
    rare = draw(mix(11, "portraits"), torch.tensor([10_903]))  # it had a NaN once
    assert render(rare, SIDE).isfinite().all()


def test_a_small_picture_is_a_large_one_seen_from_afar():
    people = draw(2, torch.arange(16))
    far = torch.nn.functional.avg_pool2d(render(people, 256), 8)
    assert (render(people, 32) - far).abs().mean() < 0.035


def test_captions_say_what_is_there():
    people = draw(0, torch.arange(800))
    texts = caption(people)
    assert texts == caption(people)
    assert texts != caption(people, seed=1)
    for name in ("hair", "mood"):
        assert all(
            KINDS[name][value] in text for value, text in zip(getattr(people, name), texts, strict=True)
        )
    for value, text in zip(people.glasses.tolist(), texts, strict=True):
        assert ("glasses" in text) == (value > 0)
        assert value == 0 or f"{KINDS['glasses'][value]} glasses" in text
    looks_left = torch.tensor(["looking left" in text for text in texts])
    assert (people.directions[looks_left, 0] < -0.5).all()
    assert looks_left.float().mean() > 0.1
    assert max(len(words(text)) for text in texts) <= LONGEST
    assert int(WordTokenizer(VOCABULARY, LONGEST).encode(texts).dropped.sum()) == 0


def test_it_is_a_dataset_whose_examples_do_not_change():
    data = Faces(size=32)
    assert isinstance(data, Dataset)
    rows = torch.tensor([5, 49_999, 0])
    batch = data.batch(rows)
    assert batch["image"].shape == (3, 3, 32, 32)
    assert batch["image"].abs().max() <= 1
    assert batch["directions"].shape == (3, len(DIRECTIONS))
    again = data.batch(rows.flip(0))
    assert (again["image"].flip(0) - batch["image"]).abs().max() == 0
    assert torch.equal(again["attributes"].flip(0), batch["attributes"])
    assert set(batch) == data.facts.fields
    assert data.facts.words == VOCABULARY
    keys = [set(Faces(split).portraits(torch.arange(3000)).key.tolist()) for split in ("train", "test")]
    assert not keys[0] & keys[1]


def test_the_fingerprint_changes_with_every_setting():
    variants = [Faces(), Faces("test"), Faces(size=32), Faces(length=7), Faces(seed=1)]
    assert len({data.facts.fingerprint for data in variants}) == len(variants)
    assert Faces().facts == Faces().facts
    assert len(Faces()) == 50_000
    assert all(RGB[name].keys() == set(KINDS[name]) for name in RGB)


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda: Faces("tset"), "no split 'tset'; did you mean 'test'"),
        (lambda: Faces(size=16), "24 pixels a side, got 16"),
        (lambda: render(draw(0, torch.arange(1)), 64, 8), "24 pixels a side, got 64 x 8"),
        (lambda: draw(0, torch.arange(1)).changed(hare="red"), "no attribute 'hare'; did you mean 'hair'"),
        (lambda: draw(0, torch.arange(1)).changed(hair="rad"), "is 'rad'; did you mean 'red'"),
    ],
)  # fmt: skip
def test_bad_settings_are_refused(attempt, message):
    with pytest.raises(UsageError, match=message):
        attempt()


def test_numbers_beyond_the_end_are_refused():
    with pytest.raises(IndexError, match="examples 0 to 9, got"):
        Faces(length=10).batch(torch.tensor([10]))
