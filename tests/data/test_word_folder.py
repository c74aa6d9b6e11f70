"""A user's pictures of words: where their texts come from, how they are framed, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from sfumato.data import open_data
from sfumato.data.folder import Folder
from sfumato.data.frame import RATIO, dark_on_light, framed, reframed
from sfumato.data.word_folder import WordFolder
from sfumato.errors import DataError, UsageError
from sfumato.images import to_tensor

NEEDS = frozenset({"image", "text"})


def picture(path: Path, width: int, height: int, tone: int = 230) -> Image.Image:
    image = Image.new("L", (width, height), tone)
    image.paste(30, (width // 4, height // 4, width // 2, height // 2))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return image


def test_texts_stand_in_gt_txt_beside_pictures_or_in_metadata(tmp_path):
    for name in ("a/1.png", "a/2.png", "b.png", "c.png"):
        picture(tmp_path / name, 60, 30)
    (tmp_path / "a" / "gt.txt").write_text("1.png\tHello\n\n2.png\ttwo  words \n", "utf-8")
    (tmp_path / "b.txt").write_text("beside")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "c.png", "text": "listed"}\n')
    data = open_data(str(tmp_path), size=32, needs=NEEDS)
    assert isinstance(data, WordFolder)
    assert data.batch(torch.arange(4))["text"] == ["Hello", "two words", "beside", "listed"]
    assert data.facts.characters == " Hbdeilorstw"
    assert (data.facts.channels, data.facts.height, data.facts.width) == (1, 32, 100)
    assert data.unreadable == ()
    assert Folder(path=tmp_path / "a").batch(torch.arange(2))["caption"] == ["Hello", "two words"]


def test_pictures_lie_in_the_middle_of_their_frame_in_proportion(tmp_path):
    image = picture(tmp_path / "tall.png", 24, 48)
    picture(tmp_path / "wide.png", 500, 20)
    (tmp_path / "gt.txt").write_text("tall.png\ta\nwide.png\tb\n")
    batch = WordFolder(path=tmp_path).batch(torch.tensor([0, 1, 0]))
    assert batch["image"].shape == (3, 1, 32, 100)
    wanted = torch.tensor([[1, 0.16], [0.125, 1], [1, 0.16]])
    assert torch.allclose(batch["extent"], wanted)
    assert torch.equal(batch["image"][0], batch["image"][2])
    small = framed(to_tensor(image, 1)[None], 32, 100).pixels[0]
    assert (batch["image"][0] - small).abs().max() <= 1 / 127.5
    assert small[0, :, :40].eq(small[0, 0, 0]).all(), "beside it lies its paper"


def test_framing_stretches_as_far_as_it_is_allowed():
    x = to_tensor(Image.new("L", (20, 32), 128), 1)[None]
    assert framed(x, 32, 100).extent.tolist() == [1, pytest.approx(0.2)]
    assert framed(x, 32, 100, 1.75).extent.tolist() == [1, pytest.approx(0.35)]
    assert framed(x, 32, 100, 0.0).extent.tolist() == [1, 1]
    wide = to_tensor(Image.new("L", (400, 32), 128), 1)[None]
    assert framed(wide, 32, 100, 2.0).extent.tolist() == [0.5, 1]


@pytest.mark.parametrize("stretch", [0.0, 1.7])
def test_what_lies_in_a_frame_can_be_stretched_later(stretch):
    x = torch.nn.functional.interpolate(torch.randn(1, 1, 3, 4), (32, 48), mode="bicubic").clamp(-1, 1)
    once = framed(x, 32, 100, stretch).pixels
    first = framed(x, 32, 100)
    twice = reframed(first.pixels, first.extent[None], stretch)
    inside = slice(20, 80)
    assert (once - twice)[..., inside].abs().max() < 0.1
    assert torch.equal(reframed(x, torch.ones(1, 2), stretch), x)


def test_ink_is_made_dark():
    x = torch.full((2, 1, 8, 9), 0.6)
    x[:, :, 3:5, 3:6] = -0.5
    assert torch.equal(dark_on_light(torch.cat([x, -x])), torch.cat([x, x]))
    assert RATIO * 32 == 100


def test_splits_are_subfolders(tmp_path):
    for split, text in (("train", "x"), ("test", "y")):
        picture(tmp_path / split / "a.png", 40, 20)
        (tmp_path / split / "gt.txt").write_text(f"a.png\t{text}\n")
    texts = [
        open_data(str(tmp_path), split=s, needs=NEEDS).batch(torch.arange(1))["text"]
        for s in ("train", "test")
    ]
    assert texts == [["x"], ["y"]]


def test_what_cannot_be_used_is_refused(tmp_path):
    picture(tmp_path / "a.png", 40, 20)
    with pytest.raises(
        DataError, match=r"1 of 1 in '.*' have none, such as 'a.png'; write it into a file gt.txt"
    ):
        WordFolder(path=tmp_path)
    (tmp_path / "gt.txt").write_text("a.png Hello\n")
    with pytest.raises(DataError, match=r"Line 1 of '.*gt.txt' has no tabulator between picture and text"):
        WordFolder(path=tmp_path)
    (tmp_path / "gt.txt").write_text("a.png\tHello\n")
    with pytest.raises(UsageError, match="at least 1 pixel a side, not 0"):
        WordFolder(path=tmp_path, size=0)
    (tmp_path / "b.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"1 of 2 pictures in '.*' cannot be read, more than the 10% allowed"):
        WordFolder(path=tmp_path)
    data = WordFolder(path=tmp_path, max_bad=0.5)
    assert [bad.file for bad in data.unreadable] == ["b.png"]
    assert len(data) == 1
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"a.png' is damaged .*; mend or remove it"):
        WordFolder(path=tmp_path, max_bad=0.5).batch(torch.arange(1))
    with pytest.raises(IndexError, match="examples 0 to 0"):
        data.batch(torch.tensor([1]))
