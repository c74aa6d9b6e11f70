"""A user's pictures of two kinds: how they may lie, and what is said when they do not match."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from sfumato.data import open_data
from sfumato.data.pair_folder import DomainFolder, PairFolder, sides
from sfumato.errors import DataError, UsageError
from sfumato.images import PictureError

PAIRED, UNPAIRED = frozenset({"source", "image"}), frozenset({"a", "b"})


def paint(path: Path, left: str, right: str | None = None, size: tuple[int, int] = (20, 20)) -> None:
    """A picture of one colour, or of two side by side."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", size if right is None else (2 * size[0], size[1]), left)
    if right is not None:
        image.paste(Image.new("RGB", size, right), (size[0], 0))
    image.save(path)


RED, BLUE = torch.tensor([1.0, -1.0, -1.0]), torch.tensor([-1.0, -1.0, 1.0])


def test_side_by_side(tmp_path):
    for i in range(3):
        paint(tmp_path / f"{i}.png", "red", "blue", (20, 21))
    data = open_data(str(tmp_path), size=8, needs=PAIRED)
    assert isinstance(data, PairFolder)
    assert (len(data), data.facts.fields, data.facts.domains) == (3, PAIRED, ("A", "B"))
    for _ in range(2):  # decoded, and remembered
        batch = data.batch(torch.tensor([2, 0]))
        assert batch["source"].shape == (2, 3, 8, 8)
        assert torch.equal(batch["source"][0, :, 4, 4], RED)
        assert torch.equal(batch["image"][0, :, 4, 4], BLUE)
    bare = PairFolder(size=8, path=tmp_path, memory=0)
    assert torch.equal(bare.batch(torch.tensor([1]))["image"], data.batch(torch.tensor([1]))["image"])
    with pytest.raises(IndexError, match="pairs 0 to 2"):
        data.batch(torch.tensor([3]))


@pytest.mark.parametrize("layout", ["{side}/{name}", "train{side}/{name}", "train/{side}/{name}"])
def test_by_name(tmp_path, layout):
    for name in ("one", "sub/two"):
        paint(tmp_path / layout.format(side="A", name=f"{name}.png"), "red")
        paint(tmp_path / layout.format(side="B", name=f"{name}.jpg"), "blue")
    data = PairFolder(size=8, path=tmp_path)
    assert len(data) == 2
    batch = data.batch(torch.arange(2))
    assert torch.equal(batch["source"][1, :, 4, 4], RED)
    assert (batch["image"][1, :, 4, 4] - BLUE).abs().max() < 0.05


def test_parts_of_the_authors_data_sets(tmp_path):
    for part, colour in (("train", "red"), ("test", "blue")):
        for side in "AB":
            paint(tmp_path / f"{part}{side}" / "0.png", colour)
    for kind in (PairFolder, DomainFolder):
        field = "image" if kind is PairFolder else "b"
        for split, colour in (("train", RED), ("test", BLUE)):
            assert torch.equal(
                kind(split, 4, path=tmp_path).batch(torch.tensor([0]))[field][0, :, 1, 1], colour
            )
    (tmp_path / "testB" / "0.png").unlink()
    (tmp_path / "testB").rmdir()
    with pytest.raises(DataError, match="lacks testA or testB and so has nothing for 'test'"):
        sides(tmp_path, "test")


def test_domains_need_no_partners(tmp_path):
    for i in range(5):
        paint(tmp_path / "A" / f"{i}.png", "red", size=(9, 30))
    for i in range(2):
        paint(tmp_path / "B" / f"other{i}.png", "blue")
    data = open_data(str(tmp_path), size=6, needs=UNPAIRED)
    assert isinstance(data, DomainFolder)
    assert (len(data), data.facts.fields, data.facts.domains) == (5, UNPAIRED, ("A", "B"))
    batch = data.batch(torch.arange(5))
    assert torch.equal(batch["a"][4, :, 3, 3], RED)
    assert torch.equal(batch["b"][4, :, 3, 3], BLUE)
    before = data.facts.fingerprint
    paint(tmp_path / "B" / "more.png", "green")
    assert DomainFolder(size=6, path=tmp_path).facts.fingerprint != before


def test_domains_skip_what_cannot_be_read_and_name_it(tmp_path):
    for i in range(4):
        paint(tmp_path / "A" / f"{i}.png", "red")
        paint(tmp_path / "B" / f"{i}.png", "blue")
    (tmp_path / "B" / "1.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"1 of 4 pictures .* more than the 10% allowed"):
        open_data(str(tmp_path), size=6, needs=UNPAIRED)
    data = open_data(str(tmp_path), size=6, needs=UNPAIRED, max_bad=0.25)
    assert [(item.file, item.reason) for item in data.unreadable] == [("B/1.png", "the file is empty")]


def test_what_does_not_match_is_named(tmp_path):
    paint(tmp_path / "A" / "one.png", "red")
    paint(tmp_path / "A" / "two.png", "red")
    paint(tmp_path / "B" / "one.png", "blue")
    paint(tmp_path / "B" / "three.png", "blue")
    message = (
        r"2 pictures in '.*' have no partner: 'three' \(only in B\), 'two' \(only in A\); pairs need equal"
    )
    with pytest.raises(DataError, match=message):
        PairFolder(path=tmp_path)
    (tmp_path / "A" / "two.png").unlink()
    (tmp_path / "B" / "three.png").unlink()
    paint(tmp_path / "B" / "one.jpg", "blue")
    with pytest.raises(DataError, match=r"holds 'one\.jpg' and 'one\.png', which both could be the partner"):
        PairFolder(path=tmp_path)
    (tmp_path / "B" / "one.jpg").unlink()
    paint(tmp_path / "B" / "one.png", "blue", size=(30, 20))
    with pytest.raises(DataError, match=r"is 20 x 20 pixels .width, height., its partner 30 x 20; pairs"):
        PairFolder(path=tmp_path)


def test_what_is_no_pair_is_told(tmp_path):
    paint(tmp_path / "holiday.png", "red", size=(40, 30))
    with pytest.raises(
        DataError, match=r"is 40 x 30 pixels .*, so it is no pair; put them into two subfolders A"
    ):
        open_data(str(tmp_path), needs=PAIRED)
    with pytest.raises(DataError, match="has no subfolders A and B; put pictures of one kind into A"):
        open_data(str(tmp_path), needs=UNPAIRED)
    with pytest.raises(DataError, match="There is no folder"):
        PairFolder(path=tmp_path / "nothing")
    with pytest.raises(UsageError, match="at least 1 pixel a side, not 0"):
        PairFolder(size=0, path=tmp_path)


def test_a_broken_picture_is_named(tmp_path):
    paint(tmp_path / "A" / "one.png", "red")
    paint(tmp_path / "B" / "one.png", "blue")
    whole = (tmp_path / "B" / "one.png").read_bytes()
    (tmp_path / "B" / "one.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PictureError, match=r"Cannot read picture '.*B/one.png'"):
        PairFolder(size=8, path=tmp_path).batch(torch.tensor([0]))
    (tmp_path / "B" / "one.png").write_bytes(b"")
    with pytest.raises(PictureError, match="the file is empty"):
        PairFolder(path=tmp_path)
