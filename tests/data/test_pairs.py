"""Pairs of drawings and pictures: every source says what it should, and nothing of the cloth."""

from __future__ import annotations

import pytest
import torch

from sfumato.data import open_data
from sfumato.data.pairs import SOURCES, WEAVE, ShapePairs, edges_to_shapes, heights, labels, on_cloth
from sfumato.data.shapes.render import FAR, distances, palette, render
from sfumato.data.shapes.scene import BACKGROUNDS, COLOURS, draw
from sfumato.data.shapes.single import distance, in_a_scene, one_object, paint
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
    scenes = one_object(4, torch.arange(64))
    added = on_cloth(scenes, 36) - paint(scenes, 36)
    assert not added[(distance(scenes, 36) < -0.5).expand_as(added)].any()
    grey = scenes.background == BACKGROUNDS.index("grey")
    corner = added[grey, 0, :4, :4]  # which some object may cover
    bare = corner[corner.abs().flatten(1).amin(1) > 0.1]
    assert (bare.abs() - WEAVE).abs().max() < 1e-6
    begun = {tuple(c.flatten().sign().tolist()) for c in bare}
    assert len(begun) > 4
    assert bare.mean((1, 2)).abs().max() < 1e-6  # threads cancel


def test_the_oracle_reads_the_pictures():
    data = edges_to_shapes("test")
    scenes, read = data.scenes(ROWS), evaluation_oracle().read(in_a_scene(data.batch(ROWS)["image"]))
    assert (read.number == 1).float().mean() > 0.95
    for name in ("shape", "colour", "texture"):
        assert (getattr(read, name)[:, 0] == getattr(scenes, name)[:, 0]).float().mean() > 0.9


def test_drawings_are_lines_in_the_object_s_colour_on_tinted_paper():
    data = edges_to_shapes("test", 36)
    scenes, source = data.scenes(ROWS), data.batch(ROWS)["source"]
    away = distance(scenes, 36)
    paper = ((1 + palette(BACKGROUNDS)[scenes.background]) / 2)[:, :, None, None].expand_as(source)
    assert ((source - paper) * (away > 2)).abs().max() < 1e-6
    ink = palette(COLOURS)[scenes.colour[:, 0]][:, :, None, None]
    assert ((source - ink) * (away.abs() < 0.1)).abs().max() < 1e-6
    solid = (scenes.texture[:, 0] == 0)[:, None, None, None]
    assert ((source - paper) * (solid & (away < -1.2))).abs().max() < 1e-6


def test_maps_have_a_code_for_every_kind():
    scenes = one_object(5, torch.arange(300))
    codes = torch.unique(labels(scenes, 24).movedim(1, -1).reshape(-1, 3), dim=0)
    kinds = {*(scenes.texture * 8 + scenes.colour)[:, 0].tolist(), *(24 + scenes.background).tolist()}
    assert len(codes) == len(kinds)


def test_heights_rise_from_the_outline():
    scenes = one_object(6, ROWS)
    map_, away = heights(scenes, 20), distance(scenes, 20)
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
