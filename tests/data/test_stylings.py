"""Photographs and styles side by side: held-out ones apart, pieces of sheets, one picture of a style."""

from __future__ import annotations

import pytest
import torch

from sfumato.data.photos import photographs
from sfumato.data.style_picture import style_levels
from sfumato.data.stylings import Stylings
from sfumato.data.textures import paint
from sfumato.errors import DataError, UsageError
from sfumato.images import save_png, to_levels, to_pil


def test_photographs_and_pieces_of_styles():
    data = Stylings(size=24)
    indices = torch.tensor([3, 163, 9000])
    batch = data.batch(indices)
    assert data.facts.fields == {"a", "b"}
    assert data.facts.domains == ("photographs", "textures")
    assert torch.equal(batch["a"], photographs(size=24).batch(indices)["image"])
    assert batch["b"].shape == (3, 3, 24, 24)
    assert torch.equal(Stylings(size=24).batch(indices)["b"], batch["b"])
    sheet = (to_levels(to_pil(paint(3, 72, 72))) / 127.5 - 1).unfold(1, 24, 1).unfold(2, 24, 1)
    for piece in batch["b"][:2]:  # of the same style, 160 apart
        places = [(sheet - one.view(3, 1, 1, 24, 24)).abs().amax((0, 3, 4)) for one in (piece, piece.flip(2))]
        assert min(place.min() for place in places) < 1e-6
    assert not torch.equal(batch["b"][0], batch["b"][1])


def test_held_out_styles_and_photographs_are_others():
    train, test = Stylings(size=24), Stylings("test", size=24)
    assert not set(train.styles) & set(test.styles)
    assert len(test.styles) == 40
    assert train.facts.fingerprint != test.facts.fingerprint


def test_a_style_picture_keeps_its_proportions(tmp_path):
    file = tmp_path / "wide.png"
    save_png(to_pil(paint(5, 40, 160)), file)
    assert style_levels(str(file), 64, 3).shape == (3, 32, 128)
    assert style_levels(str(file), 64, 1).shape == (1, 32, 128)
    assert torch.equal(style_levels("texture:5", 40, 3), to_levels(to_pil(paint(5, 40, 40))))


def test_style_pictures_that_cannot_be(tmp_path):
    dot, line = tmp_path / "dot.png", tmp_path / "line.png"
    save_png(to_pil(torch.zeros(3, 1, 1)), dot)
    save_png(to_pil(torch.zeros(3, 20, 4000)), line)
    with pytest.raises(DataError, match="has 1 x 1 pixels, of which no style can be learned; give a picture"):
        style_levels(str(dot), 64, 3)
    with pytest.raises(DataError, match="is too long and narrow: 4000 x 20 pixels; give a part of it"):
        style_levels(str(line), 64, 3)
    with pytest.raises(UsageError, match=r"There is no style picture 'nowhere\.png'; give the path of one"):
        style_levels("nowhere.png", 64, 3)
    with pytest.raises(UsageError, match="Textures are numbered from 0, got 'texture:wood'; write such as"):
        style_levels("texture:wood", 64, 3)
    with pytest.raises(UsageError, match="learned at 16 to 4096 pixels a side, got 8; 256 is usual"):
        style_levels("texture:1", 8, 3)
