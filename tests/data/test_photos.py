"""Crops of photographs: deterministic, of both packages, and never shared by training and testing."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data as skimage_data
from sklearn.datasets import load_sample_image

from sfumato.data.photos import HELD_OUT, PHOTOS, Photos, open_photo, photographs
from sfumato.errors import MissingExtraError, UsageError


@pytest.fixture(scope="module")
def train() -> Photos:
    return Photos("train", 24)


def test_facts_and_shapes(train):
    batch = train.batch(torch.arange(40))
    assert batch["image"].shape == (40, 3, 24, 24)
    assert batch["image"].dtype == torch.float32
    assert -1 <= batch["image"].min() < -0.5
    assert 0.5 < batch["image"].max() <= 1
    assert train.facts.classes == tuple(PHOTOS)
    assert (len(train), len(Photos("test", 24)), len(Photos(length=7))) == (10_000, 1000, 7)
    assert len(set(batch["label"].tolist())) > 6


def test_crop_depends_on_its_number_alone(train):
    together = train.batch(torch.tensor([5, 9, 5]))
    again = Photos("train", 24).batch(torch.tensor([9]))
    assert torch.equal(together["image"][1], again["image"][0])
    assert torch.equal(together["image"][0], together["image"][2])
    assert not torch.equal(together["image"][0], together["image"][1])
    assert train.facts.fingerprint == Photos("train", 24).facts.fingerprint
    assert train.facts.fingerprint != Photos("train", 25).facts.fingerprint


def test_photographs_are_those_of_the_packages(train):
    whole = Photos("test", 24)._regions
    expected = {
        "astronaut": skimage_data.astronaut(),
        "cat": skimage_data.chelsea(),
        "coffee": skimage_data.coffee(),
        "retina": skimage_data.retina(),
        "flower": load_sample_image("flower.jpg"),
        "temple": load_sample_image("china.jpg"),
    }
    for name, pixels in expected.items():
        index = list(PHOTOS).index(name)
        halves = [np.asarray(region) for region in (train._regions[index], whole[index])]
        assert np.array_equal(np.concatenate(halves, 1), pixels), name


def test_the_photograph_with_a_profile_of_its_own_becomes_srgb():
    """Adobe RGB holds more colours: what looks the same has paler numbers there."""
    raw, ours = skimage_data.rocket().astype(float), np.asarray(open_photo("rocket")).astype(float)
    assert ours.shape == raw.shape
    assert 1 < np.abs(ours - raw).mean() < 15
    assert (ours.max(2) - ours.min(2)).mean() > (raw.max(2) - raw.min(2)).mean()


@pytest.mark.parametrize(("size", "border"), [(16, 140), (80, 120), (128, 100)])
def test_every_crop_lies_in_its_own_part(monkeypatch, size, border):
    """Painted red on the left and blue on the right, crops of neither split hold both colours."""
    painted = Image.new("RGB", (200, 150), "red")
    painted.paste("blue", (border, 0, 200, 150))
    monkeypatch.setattr("sfumato.data.photos.open_image", lambda path: painted)
    for split, channel in (("train", 0), ("test", 2)):
        image = Photos(split, size).batch(torch.arange(60))["image"]
        assert (image[:, channel] == 1).all()
        assert (image[:, 2 - channel] == -1).all()


def test_whole_photographs_are_held_out():
    names = {
        split: set(_names(photographs(split, 16).batch(torch.arange(80))["label"]))
        for split in ("train", "test")
    }
    assert names["test"] == set(HELD_OUT)
    assert names["train"] == set(PHOTOS) - set(HELD_OUT)
    assert photographs("test", 16).facts.name == "photographs"
    assert photographs("test", 16).facts.fingerprint != Photos("test", 16).facts.fingerprint
    cat = photographs("test", 16)._regions[0]
    assert np.array_equal(np.asarray(cat), np.asarray(open_photo("cat")))


def _names(labels: torch.Tensor) -> list[str]:
    return [list(PHOTOS)[label] for label in labels.tolist()]


@pytest.mark.parametrize("size", [1, 256])
def test_extreme_sizes(size):
    assert Photos("test", size).batch(torch.arange(5))["image"].shape == (5, 3, size, size)


def test_wrong_requests(train):
    with pytest.raises(UsageError, match="1 to 256 pixels a side, not 257"):
        Photos(size=257)
    with pytest.raises(UsageError, match="'photos' has no split 'trian'; did you mean 'train'"):
        Photos("trian")
    with pytest.raises(IndexError, match="Crop 10000 of 10000"):
        train.batch(torch.tensor([10_000]))


def test_without_the_packages(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'sfumato\[data\]'"):
        Photos()
