"""Pairs of drawings and pictures: every source says what it should, and nothing of the cloth."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import avg_pool2d

from sfumato.data import open_data
from sfumato.data.pairs import SOURCES, WEAVE, ShapePairs, edges_to_shapes, heights, labels, on_cloth
from sfumato.data.shapes.render import FAR, distances, palette, render
from sfumato.data.shapes.scene import BACKGROUNDS, COLOURS, draw
from sfumato.errors import DataError, UsageError
from sfumato.metrics.oracle import evaluation_oracle

ROWS = torch.arange(24)


def test_distances_cover_what_is_painted():
    scenes = draw(3, ROWS)
    away = distances(scenes, 36, 60)
    assert (away[scenes.shape < 0] == FAR).all()
    cover = (0.5 - away).clamp(0, 1).sum(1)
    ground = palette(BACKGROUNDS)[scenes.background][:, :, None, None]
    painted = (render(scenes, 36, 60) - ground).abs().amax(1)
    assert not painted[cover == 0].any()
    assert painted[cover == 1].min() > 0.05


def test_the_ground_is_cloth_and_begins_anywhere():
    scenes = draw(4, torch.arange(64))
    added = on_cloth(scenes, 48) - render(scenes, 48)
    inside = (distances(scenes, 48, 48).amin(1) < -0.5)[:, None].expand_as(added)
    assert not added[inside].any()
    grey = scenes.background == BACKGROUNDS.index("grey")
    corner = added[grey, 0, :4, :4]  # which some object may cover
    bare = corner[corner.abs().flatten(1).amin(1) > 0.1]
    assert (bare.abs() - WEAVE).abs().max() < 1e-6
    begun = {tuple(c.flatten().sign().tolist()) for c in bare}
    assert len(begun) > 4
    assert avg_pool2d(added[grey], 4)[:, :, 0, 5].abs().max() < WEAVE  # threads cancel


def test_the_oracle_reads_the_pictures():
    data = edges_to_shapes("test")
    scenes, read = data.scenes(ROWS), evaluation_oracle().read(data.batch(ROWS)["image"])
    assert (read.number == scenes.number).float().mean() > 0.95
    assert (read.background == scenes.background).float().mean() > 0.95


def test_drawings_are_lines_in_the_object_s_colour_on_tinted_paper():
    data = edges_to_shapes("test", 64)
    scenes, source = data.scenes(ROWS), data.batch(ROWS)["source"]
    away = distances(scenes, 64, 64)
    paper = (1 + palette(BACKGROUNDS)[scenes.background]) / 2
    bare = (away.amin(1) > 2)[:, None]
    assert ((source - paper[:, :, None, None]) * bare).abs().max() < 1e-6
    for i in range(len(ROWS)):
        for k in range(int(scenes.number[i])):
            drawn = source[i].flatten(1)[:, away[i, k].flatten().abs() < 0.1]
            assert torch.equal(drawn, palette(COLOURS)[scenes.colour[i, k]][:, None].expand_as(drawn))
            inside = source[i].flatten(1)[:, away[i, k].flatten() < -1.2]
            if scenes.texture[i, k] == 0:
                torch.testing.assert_close(inside, paper[i][:, None].expand_as(inside))


def test_maps_have_a_code_for_every_kind():
    scenes = draw(5, torch.arange(200))
    map_ = labels(scenes, 32)
    codes = torch.unique(map_.movedim(1, -1).reshape(-1, 3), dim=0)
    there = scenes.shape >= 0
    kinds = {*(scenes.texture * 8 + scenes.colour)[there].tolist(), *(24 + scenes.background).tolist()}
    assert len(codes) == len(kinds)


def test_heights_rise_from_the_outline():
    scenes = draw(6, ROWS)
    map_, away = heights(scenes, 40), distances(scenes, 40, 40).amin(1, keepdim=True)
    assert torch.equal(map_[:, :1] > -1, away < 0)
    order = away[0].flatten().argsort()
    assert (map_[0, 0].flatten()[order].diff() <= 0).all()


@pytest.mark.parametrize("name", SOURCES)
def test_pairs_are_pure_functions_of_their_number(name):
    data = open_data(name, size=36, needs=frozenset({"source", "image"}))
    batch, later = data.batch(ROWS), data.batch(ROWS[7:9])
    assert data.facts.domains == tuple(name.split("-to-"))
    for field in ("source", "image"):
        assert batch[field].shape == (len(ROWS), 3, 36, 36)
        assert -1 <= batch[field].min() < batch[field].max() <= 1
        assert torch.equal(batch[field][7:9], later[field])
    assert not torch.equal(ShapePairs(name, "test", 36).batch(ROWS)["image"], batch["image"])
    assert ShapePairs(name, "test", 36).facts.fingerprint != data.facts.fingerprint
    with pytest.raises(IndexError, match="holds examples 0 to 19999"):
        data.batch(torch.tensor([20_000]))


def test_what_there_is_not_is_refused():
    with pytest.raises(UsageError, match="no pairs 'edges-to-shape'; did you mean 'edges-to-shapes'"):
        ShapePairs("edges-to-shape")
    with pytest.raises(UsageError, match="has no split 'held'"):
        edges_to_shapes("held")
    with pytest.raises(UsageError, match="Shapes need 12 pixels a side, got 8"):
        edges_to_shapes(size=8)
    with pytest.raises(DataError, match="but no source; choose one that has, such as 'edges-to-shapes'"):
        open_data("shapes", needs=frozenset({"source", "image"}))
    with pytest.raises(DataError, match="but no a and b; choose one that has, such as 'plain-to-striped'"):
        open_data("shapes", needs=frozenset({"a", "b"}))
