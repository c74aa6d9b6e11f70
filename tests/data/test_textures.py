"""Styles and sights: the same number is the same picture, what is held out stays out, and labels are true."""

from __future__ import annotations

import random

import pytest
import torch

from sfumato.data import open_data, sights
from sfumato.data.shapes.scene import SHAPES
from sfumato.data.sights import Sights
from sfumato.data.textures import HELD, KINDS, STYLES, Textures, paint, style
from sfumato.errors import UsageError


@pytest.mark.parametrize("number", range(len(KINDS)))
def test_every_kind_paints_the_same_picture_again(number):
    before = torch.get_rng_state()
    x = paint(number, 21, 34)
    assert torch.equal(torch.get_rng_state(), before)
    assert x.shape == (3, 21, 34)
    assert -1 <= x.min() < x.max() <= 1
    assert torch.equal(paint(number, 21, 34), x)
    assert (paint(number, 21, 34, variant=1) - x).abs().mean() > 0.02
    assert (paint(number + len(KINDS), 21, 34) - x).abs().mean() > 0.05
    assert style(number).kind == list(KINDS)[number]


def test_a_larger_scale_shows_less_of_a_pattern():
    small, large = (paint(1, 64, 64, scale=scale) for scale in (1.0, 4.0))
    edges = [x.diff(dim=2).abs().mean() for x in (small, large)]
    assert edges[1] < edges[0] / 2


def test_held_out_styles_are_never_seen_in_training_and_show_every_kind():
    train, test = Textures("train", 16), open_data("textures", split="test", size=16)
    seen = train.batch(torch.tensor([0, STYLES - HELD - 1, STYLES - HELD]))["style"]
    held = test.batch(torch.arange(HELD))
    assert seen.tolist() == [0, STYLES - HELD - 1, 0]
    assert held["style"].tolist() == list(range(STYLES - HELD, STYLES))
    assert held["label"].unique().tolist() == list(range(len(KINDS)))
    assert torch.equal(held["label"], held["style"] % len(KINDS))
    again = test.batch(torch.tensor([7, HELD + 7]))
    assert torch.equal(again["image"][0], held["image"][7])
    assert again["style"][0] == again["style"][1]
    assert not torch.equal(*again["image"])
    assert train.facts.fingerprint != test.facts.fingerprint


def test_half_of_sights_are_textures_a_third_shapes_the_rest_photographs():
    data = open_data("sights", split="test", size=32, needs=frozenset({"image", "label"}))
    batch = data.batch(torch.arange(60))
    names = [data.facts.classes[label] for label in batch["label"].tolist()]
    for k, known in enumerate((KINDS, SHAPES, KINDS, SHAPES, ("photograph",), KINDS)):
        assert set(names[k::6]) <= set(known)
        assert len(set(names[k::6])) > 2 or k == 4
    assert batch["image"].shape == (60, 3, 32, 32)
    assert -1 <= batch["image"].min() < batch["image"].max() <= 1
    assert torch.equal(data.batch(torch.tensor([41]))["image"][0], batch["image"][41])


def test_sights_of_training_show_no_style_that_is_held_out(monkeypatch):
    seen: dict[str, list[int]] = {"train": [], "test": []}
    for split, numbers in seen.items():
        plain = sights.paint
        monkeypatch.setattr(
            sights, "paint", lambda n, *a, plain=plain, to=numbers, **k: to.append(n) or plain(n, *a, **k)
        )
        Sights(split, 16).batch(torch.arange(36))
        monkeypatch.undo()
    held = range(STYLES - HELD, STYLES)
    assert all(number in held for number in seen["test"])
    assert not any(number in held for number in seen["train"])
    assert len(set(seen["train"])) == len(seen["train"]) > 18


def test_shaken_colours_keep_what_is_where():
    x = paint(0, 24, 24)
    changed = [sights.shaken(x, random.Random(k)) for k in range(12)]
    assert all((y - x).abs().mean() > 0.02 for y in changed)
    assert all(-1 <= y.min() <= y.max() <= 1 for y in changed)
    edges = x.diff(dim=2).abs().sum(0) > 1e-6
    assert all(not (y.diff(dim=2).abs().sum(0) > 1e-6)[~edges].any() for y in changed)


def test_what_there_is_not_is_refused():
    with pytest.raises(UsageError, match="numbered from 0, got -1"):
        style(-1)
    with pytest.raises(UsageError, match="not 0 x 8 at 1"):
        paint(0, 0, 8)
    with pytest.raises(UsageError, match="16 to 4096 pixels a side, not 8"):
        Textures(size=8)
    with pytest.raises(UsageError, match="no split 'held'"):
        Textures("held")
    with pytest.raises(UsageError, match="16 to 256 pixels a side, not 8"):
        Sights(size=8)
    for data in (Textures(size=16, length=5), Sights(size=16, length=5)):
        assert len(data) == 5
        with pytest.raises(IndexError, match=r"0 to 4, got \[5\]"):
            data.batch(torch.tensor([5]))
