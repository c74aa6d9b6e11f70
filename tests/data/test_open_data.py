"""Opening data by name or by folder."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from sfumato.data import open_data
from sfumato.errors import DataError, UsageError


def test_names():
    digits = open_data("digits", split="test", size=12)
    assert digits.facts.name == "digits"
    assert digits.batch(torch.tensor([0]))["image"].shape == (1, 1, 12, 12)
    assert open_data("photos").facts.width == 64


def test_folder_in_the_way(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    Image.new("RGB", (5, 5)).save(tmp_path / "digits" / "a.png")
    assert len(open_data("digits")) == 1200
    assert len(open_data("./digits")) == 1


def test_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    Image.new("RGB", (5, 5)).save(tmp_path / "a.png")
    assert open_data("~", size=4).facts.height == 4


def test_missing_fields():
    with pytest.raises(DataError, match="'digits' has image and label, but no caption; choose one that has"):
        open_data("digits", needs=frozenset({"image", "caption"}))


def test_unknown_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="neither a dataset nor a folder 'digit'; did you mean 'digits'"):
        open_data("digit")
    for name in ("./pictures", "a/b", "folder"):
        with pytest.raises(DataError, match=f"There is no folder '{name}'"):
            open_data(name)
