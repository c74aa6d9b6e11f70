"""Crops of a folder's pictures: deterministic, of every picture, at many scales, whatever cannot be read."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from sfumato.data import open_data
from sfumato.data.crops import WITHIN, Crops
from sfumato.errors import DataError, UsageError


@pytest.fixture
def folder(tmp_path):
    """A red, a green and a blue picture; each grows lighter to the right."""
    for channel, size in enumerate([(40, 30), (300, 500), (9, 9)]):
        levels = np.zeros((size[1], size[0], 3), np.uint8)
        levels[..., channel] = np.linspace(100, 255, size[0], dtype=np.uint8)
        Image.fromarray(levels).save(tmp_path / f"{channel}.png")
    return tmp_path


def test_crop_depends_on_its_number_alone(folder):
    data = Crops("train", 16, folder=(str(folder),))
    together = data.batch(torch.tensor([5, 9, 5]))["image"]
    assert together.shape == (3, 3, 16, 16)
    assert torch.equal(together[0], together[2])
    assert torch.equal(
        together[1], Crops("train", 16, folder=(str(folder),)).batch(torch.tensor([9]))["image"][0]
    )
    forgetful = Crops("train", 16, folder=(str(folder),), memory=0)
    assert torch.equal(together, forgetful.batch(torch.tensor([5, 9, 5]))["image"])
    assert (len(data), len(Crops("test", 16, folder=(str(folder),)))) == (10_000, 1000)


def test_every_picture_at_many_scales_and_half_of_them_mirrored(folder):
    image = Crops("train", 16, folder=(str(folder),)).batch(torch.arange(300))["image"]
    means = image.mean((2, 3))
    counts = torch.bincount(means.argmax(1), minlength=3)
    assert counts.min() > 70
    rise = (image[:, :, :, -1] - image[:, :, :, 0]).sum((1, 2))
    assert 0.4 < (rise < 0).float().mean() < 0.6
    large = rise[means.argmax(1) == 1].abs()
    assert large.max() > 3 * large.min()
    test = Crops("test", 16, folder=(str(folder),)).batch(torch.arange(100))["image"]
    assert (test[:, :, :, -1] >= test[:, :, :, 0]).all()


def test_large_pictures_are_reduced_once_and_kept_within_memory(folder):
    data = Crops("train", 16, folder=(str(folder),))
    data.batch(torch.arange(60))
    assert data._reduced[1].size == (16 * WITHIN, 160)
    assert data._reduced[0].size == (40, 30)
    small = Crops("train", 16, folder=(str(folder),), memory=4000)
    small.batch(torch.arange(60))
    assert set(small._reduced) <= {0, 2}
    assert sum(3 * image.width * image.height for image in small._reduced.values()) <= 4000


def test_what_cannot_be_read_is_replaced_and_told(folder):
    for i in range(8):
        Image.new("RGB", (20, 20), "white").save(folder / f"w{i}.png")
    whole = (folder / "w0.png").read_bytes()
    (folder / "w0.png").write_bytes(whole[: len(whole) // 2])
    data = Crops("train", 8, folder=(str(folder),))
    assert data.batch(torch.arange(80))["image"].isfinite().all()
    assert [bad.file for bad in data.unreadable] == ["w0.png"]


def test_empty_squares_are_drawn_again(tmp_path):
    levels = np.full((200, 200, 3), 90, np.uint8)
    levels[:60, :60] = 200
    Image.fromarray(levels).save(tmp_path / "corner.png")
    image = Crops("train", 8, folder=(str(tmp_path),)).batch(torch.arange(100))["image"]
    assert (image.amax((1, 2, 3)) - image.amin((1, 2, 3)) > 0.06).float().mean() > 0.95
    Image.new("RGB", (200, 200), "grey").save(tmp_path / "corner.png")
    assert Crops("train", 8, folder=(str(tmp_path),)).batch(torch.arange(3))["image"].std() < 0.01


def test_by_name(folder):
    data = open_data(f"crops:folder={folder}", size=8, needs=frozenset({"image"}))
    assert data.facts.fields == {"image"}
    assert data.facts.name == folder.name
    with pytest.raises(DataError, match="no caption"):
        open_data(f"crops:folder={folder}", needs=frozenset({"caption"}))
    with pytest.raises(UsageError, match="as in crops:folder="):
        open_data("crops")
    with pytest.raises(UsageError, match="must look like folder=VALUE"):
        open_data(f"crops:{folder}")
    with pytest.raises(IndexError, match="Crop 10000 of 10000"):
        data.batch(torch.tensor([10_000]))
