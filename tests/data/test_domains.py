"""Two domains of pictures: each is all of its kind, and no picture of one has a partner in the other."""

from __future__ import annotations

import pytest
import torch

from sfumato.data.domains import Seasons, ShapeDomains, plain_to_striped, summer, warm_to_cool, winter
from sfumato.data.shapes.scene import COLOURS, TEXTURES
from sfumato.data.shapes.single import in_a_scene
from sfumato.errors import UsageError
from sfumato.metrics.oracle import evaluation_oracle

ROWS = torch.arange(24)


def test_one_side_is_plain_and_the_other_striped():
    data = plain_to_striped("test")
    batch, oracle = data.batch(ROWS), evaluation_oracle()
    for side, texture in (("a", "solid"), ("b", "striped")):
        read = oracle.read(in_a_scene(batch[side]))
        assert (read.number == 1).float().mean() > 0.95
        assert (read.texture[:, 0] == TEXTURES.index(texture)).float().mean() > 0.95


def test_one_side_is_warm_and_the_other_cool():
    data = warm_to_cool()
    for side, names in (("a", COLOURS[:4]), ("b", COLOURS[4:])):
        scenes = data.scenes(torch.arange(500), side)
        assert {COLOURS[c] for c in scenes.colour[scenes.shape >= 0].tolist()} == set(names)


@pytest.mark.parametrize("kind", ["plain-to-striped", "warm-to-cool"])
def test_no_scene_is_on_both_sides(kind):
    data = ShapeDomains(kind, size=20)
    a, b = data.scenes(ROWS, "a"), data.scenes(ROWS, "b")
    assert not set(a.key.tolist()) & set(b.key.tolist())
    across = data.across(a, "b")
    for name in ("shape", "size", "place", "number", "background"):
        assert torch.equal(getattr(across, name), getattr(a, name))
    assert not torch.equal(across.texture, a.texture) or not torch.equal(across.colour, a.colour)
    assert torch.equal(data.batch(ROWS)["b"][5:6], data.batch(ROWS[5:6])["b"])
    assert data.facts.domains == tuple(kind.split("-to-"))


def test_seasons_are_crops_that_differ():
    data = Seasons(size=20, length=30)
    assert len(data) == 30
    batch = data.batch(torch.tensor([0, 29]))
    assert batch["a"].shape == batch["b"].shape == (2, 3, 20, 20)
    assert data.facts.domains == ("summer", "winter")
    assert data.facts.classes == ()


def test_summer_is_warmer_and_more_colourful_than_winter():
    x = torch.rand(8, 3, 9, 7) * 2 - 1
    warmth, colour = (lambda y: (y[:, 0] - y[:, 2]).mean()), (lambda y: y.std(1).mean())
    assert warmth(summer(x)) > warmth(x) > warmth(winter(x))
    assert colour(summer(x)) > colour(x)
    assert colour(summer(x)) > colour(winter(x))
    green = torch.tensor([-0.5, 0.3, -0.5]).view(1, 3, 1, 1)
    assert winter(green).mean() > 0.5  # snow


def test_what_there_is_not_is_refused():
    with pytest.raises(UsageError, match="There are no domains 'plain'"):
        ShapeDomains("plain")
    with pytest.raises(UsageError, match="has no split 'held'"):
        warm_to_cool("held")
    with pytest.raises(IndexError, match="holds examples 0 to 1999"):
        warm_to_cool("test").batch(torch.tensor([2000]))
