"""A user's folder of pictures: what is read, what is skipped, and what is said about it."""

from __future__ import annotations

import io
import json
import os
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sfumato.data import open_data
from sfumato.data.folder import Folder
from sfumato.data.report import report
from sfumato.errors import DataError, UsageError
from sfumato.images import fit, open_image, to_tensor


def picture(seed: int, height: int = 20, width: int = 26) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def packed(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def fill(folder: Path, names: list[str], **captions: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        kind = {".jpg": "JPEG", ".webp": "WEBP"}.get(Path(name).suffix.lower(), "PNG")
        (folder / name).write_bytes(packed(picture(i), kind))
    for stem, text in captions.items():
        (folder / f"{stem}.txt").write_text(text)
    return folder


def bomb(width: int = 30_000, height: int = 30_000) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + b"\0\0\0\x09IDAT"
    return b"\x89PNG\r\n\x1a\n" + data + bytes(9)


def everything(data: Folder) -> torch.Tensor:
    return data.batch(torch.arange(len(data)))["image"]


# Pictures


def test_pictures_come_in_the_order_of_their_names(tmp_path):
    fill(tmp_path, ["b.png", "a.JPG", "sub/c.webp", "Z.jpeg"])
    data = Folder(size=12, path=tmp_path)
    expected = [
        to_tensor(fit(open_image(tmp_path / n), 12, 12)) for n in ("Z.jpeg", "a.JPG", "b.png", "sub/c.webp")
    ]
    assert torch.equal(everything(data), torch.stack(expected))
    assert data.facts.name == tmp_path.name
    assert (data.facts.channels, data.facts.height, data.facts.width) == (3, 12, 12)
    assert data.facts.fields == {"image"}
    assert data.facts.classes == data.facts.words == ()
    one = data.batch(torch.tensor([2, 0, 2]))["image"]
    assert torch.equal(one, torch.stack([expected[2], expected[0], expected[2]]))
    with pytest.raises(IndexError, match="examples 0 to 3"):
        data.batch(torch.tensor([4]))


def test_grey_and_odd_pictures_become_colour_squares(tmp_path):
    picture(0).convert("L").save(tmp_path / "grey.png")
    picture(1, 1, 1).save(tmp_path / "dot.png")
    picture(2, 300, 7).save(tmp_path / "tall.png")
    assert everything(Folder(size=9, path=tmp_path)).shape == (3, 3, 9, 9)


def test_kept_and_streamed_pictures_are_the_same(tmp_path):
    fill(tmp_path, [f"{i}.jpg" for i in range(7)])
    kept, streamed = Folder(size=10, path=tmp_path), Folder(size=10, path=tmp_path, memory=0)
    for _ in range(2):
        assert torch.equal(everything(kept), everything(streamed))
    for path in tmp_path.iterdir():
        path.unlink()
    assert len(everything(kept)) == 7
    with pytest.raises(DataError, match="there is no such file"):
        everything(streamed)


def test_kept_pictures_are_fast(tmp_path):
    data = Folder(size=32, path=fill(tmp_path, [f"{i}.jpg" for i in range(20)]))
    everything(data)
    times = []
    for _ in range(20):
        start = time.perf_counter()
        data.batch(torch.arange(128) % 20)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.004


def test_hidden_files_pipes_and_circles_are_passed_over(tmp_path):
    fill(tmp_path, ["a.png", ".b.png", "._c.png", "__MACOSX/d.png", ".cache/e.png", "sub/f.png"])
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "sub" / "again").symlink_to(tmp_path, target_is_directory=True)
    elsewhere = fill(tmp_path.with_name(tmp_path.name + "-elsewhere"), ["g.png"])
    (tmp_path / "linked").symlink_to(elsewhere, target_is_directory=True)
    assert len(Folder(size=8, path=tmp_path)) == 3
    assert len(Folder(size=8, path=f"{tmp_path}/")) == 3


def test_fingerprint_changes_with_the_data(tmp_path):
    fill(tmp_path, ["a.png", "b.png"])
    first = Folder(size=8, path=tmp_path).facts.fingerprint
    assert first == Folder(size=8, path=tmp_path).facts.fingerprint
    assert first != Folder(size=9, path=tmp_path).facts.fingerprint
    (tmp_path / "a.txt").write_text("a dot")
    captioned = Folder(size=8, path=tmp_path).facts.fingerprint
    os.utime(tmp_path / "a.png", (0, 0))
    touched = Folder(size=8, path=tmp_path).facts.fingerprint
    (tmp_path / "b.png").rename(tmp_path / "c.png")
    assert len({first, captioned, touched, Folder(size=8, path=tmp_path).facts.fingerprint}) == 4


# Unreadable pictures (R9)


def spoiled(folder: Path, count: int = 200) -> set[str]:
    """200 pictures, of which 5 % are bad and some more only unusual."""
    fill(folder, [f"{i:03}.{('jpg', 'png', 'webp')[i % 3]}" for i in range(count)])
    jpeg, png = packed(picture(1, 200, 200), "JPEG", quality=95), packed(picture(1, 200, 200), "PNG")
    webp = packed(picture(1, 200, 200), "WEBP", lossless=True)
    broken = bytearray(png)
    broken[len(png) // 2] ^= 1
    bad = {
        "000.jpg": b"",
        "003.jpg": b"<html><body>Not found</body></html>",
        "006.jpg": jpeg[: len(jpeg) // 2],
        "007.png": png[: len(png) // 2],
        "008.webp": webp[: len(webp) // 2],
        "010.png": bomb(),
        "013.png": bytes(broken),
        "015.jpg": packed(picture(3).convert("P"), "GIF"),
        "016.png": b"\x89PNG\r\n\x1a\n",
    }
    unusual = {
        "030.jpg": png,
        "033.jpg": packed(picture(2).convert("CMYK"), "JPEG"),
        "034.png": packed(Image.fromarray(np.full((9, 8), 40_000, np.uint16)), "PNG"),
        "037.png": packed(picture(2).convert("RGBA"), "PNG"),
        "038.webp": packed(picture(2), "WEBP", save_all=True, append_images=[picture(3)]),
        "040.png": packed(picture(2, 1, 1), "PNG"),
    }
    for name, content in (bad | unusual).items():
        (folder / name).write_bytes(content)
    (folder / "198.jpg").unlink()
    (folder / "198.jpg").symlink_to(folder / "nothing.jpg")
    return {*bad, "198.jpg"}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bad_pictures_are_skipped_reported_and_remembered(tmp_path, caplog):
    bad = spoiled(tmp_path)
    data = Folder(size=16, path=tmp_path)
    assert 190 <= len(data) < 200
    images = everything(data)
    assert torch.isfinite(images).all()
    reasons = {item.file: item.reason for item in data.unreadable}
    assert set(reasons) == bad
    assert reasons["000.jpg"] == "the file is empty"
    assert "web page" in reasons["003.jpg"]
    assert "truncated" in reasons["006.jpg"]
    assert "bomb" in reasons["010.png"]
    assert "there is no such file" in reasons["198.jpg"]
    assert sum("skipped" in record.message for record in caplog.records) == len(bad)

    found = report(tmp_path)
    assert {item.file: item.reason for item in found.unreadable} == reasons
    assert found.pictures == 200 - len(bad)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_what_replaces_a_bad_picture_does_not_depend_on_history(tmp_path):
    spoiled(tmp_path)
    whole = everything(Folder(size=8, path=tmp_path))
    single, streamed = Folder(size=8, path=tmp_path), Folder(size=8, path=tmp_path, memory=0)
    for i in reversed(range(len(whole))):
        assert torch.equal(single.batch(torch.tensor([i]))["image"][0], whole[i]), i
    assert torch.equal(everything(streamed), whole)
    assert streamed.unreadable == single.unreadable


def test_replacement_brings_its_own_caption_and_label(tmp_path):
    fill(tmp_path, [f"{name}.png" for name in ("x/a", "x/b", "y/c", "y/d")])
    for name in ("x/a", "x/b", "y/c", "y/d"):
        (tmp_path / f"{name}.txt").write_text(name)
    content = (tmp_path / "x" / "b.png").read_bytes()
    (tmp_path / "x" / "b.png").write_bytes(content[: len(content) // 2])
    batch = Folder(size=8, path=tmp_path, max_bad=0.3).batch(torch.arange(4))
    assert batch["caption"] == ["x/a", "y/c", "y/c", "y/d"]
    assert batch["label"].tolist() == [0, 1, 1, 1]
    assert torch.equal(batch["image"][1], batch["image"][2])


def test_too_many_bad_pictures_stop_the_run(tmp_path):
    fill(tmp_path, [f"{i:02}.png" for i in range(20)])
    for i in range(3):
        (tmp_path / f"{i:02}.png").write_bytes(b"")
    with pytest.raises(
        DataError, match=r"3 of 20 pictures .* more than the 10% allowed: '00.png' \(the file is empty\)"
    ):
        Folder(size=8, path=tmp_path)
    assert len(Folder(size=8, path=tmp_path, max_bad=0.15)) == 17


def test_too_many_bad_pictures_found_late_stop_the_run(tmp_path):
    fill(tmp_path, [f"{i:02}.png" for i in range(20)])
    for i in range(3):
        content = (tmp_path / f"{i:02}.png").read_bytes()
        (tmp_path / f"{i:02}.png").write_bytes(content[: len(content) // 2])
    data = Folder(size=8, path=tmp_path)
    assert len(data) == 20
    data.batch(torch.arange(10, 20))
    with pytest.raises(DataError, match=r"3 of 20 pictures .* cannot be read.*`sfumato data .*` lists all"):
        data.batch(torch.arange(3))


def test_nothing_readable(tmp_path):
    fill(tmp_path, ["a.png", "b.png"])
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=r"No picture in .* can be read"):
        Folder(size=8, path=tmp_path, max_bad=1.0).batch(torch.tensor([0]))


# Captions and classes


def test_captions_beside_pictures(tmp_path):
    fill(tmp_path, ["a.jpg", "b.c.jpg"], **{"a": "A red  circle.\n", "b.c": "\ufeffein Löwe"})
    data = Folder(size=8, path=tmp_path)
    assert data.batch(torch.tensor([1, 0]))["caption"] == ["ein Löwe", "A red circle."]
    assert data.facts.fields == {"image", "caption"}
    assert set(data.facts.words) == {"a", "red", "circle", ".", "ein", "löwe"}


def test_captions_of_metadata(tmp_path):
    fill(tmp_path, ["a.jpg", "deep/b.png", "deep/c.png"], a="from the text file")
    rows = [{"file_name": "a.jpg", "text": "from metadata"}, {"file_name": "deep/b.png", "text": "b", "x": 1}]
    lines = "\n".join(json.dumps(row) for row in rows)
    (tmp_path / "metadata.jsonl").write_text(lines + "\n\n" + '{"file_name": "gone.png", "text": "?"}\n')
    (tmp_path / "deep" / "metadata.jsonl").write_text('{"file_name": "./c.png", "text": "sea"}')
    data = Folder(size=8, path=tmp_path)
    assert data.batch(torch.arange(3))["caption"] == ["from the text file", "b", "sea"]
    assert report(tmp_path).strays == ("gone.png",)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "is not JSON"),
        ("[1]", "has no file_name"),
        ('{"file": "a.jpg", "text": "x"}', "has no file_name"),
        ('{"file_name": 3, "text": "x"}', "has no file_name"),
        ('{"file_name": "a.jpg", "text": 3}', "has a text that is not a string"),
        ('{"file_name": "b.jpg", "text": "again"}', "names 'b.jpg' again"),
    ],
)
def test_malformed_metadata_names_the_line(tmp_path, line, reason):
    fill(tmp_path, ["a.jpg", "b.jpg"])
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "b.jpg", "text": "x"}\n\n' + line)
    with pytest.raises(DataError, match=rf"Line 3 of '.*metadata\.jsonl' {reason}"):
        Folder(size=8, path=tmp_path)


def test_captions_in_another_encoding(tmp_path):
    fill(tmp_path, ["a.jpg"])
    (tmp_path / "a.txt").write_bytes("Löwe".encode("latin-1"))
    with pytest.raises(DataError, match=r"a\.txt' is not UTF-8 text \(byte 1\); save it as UTF-8"):
        Folder(size=8, path=tmp_path)


def test_missing_captions_are_named_where_needed(tmp_path):
    fill(tmp_path, [f"{i}.jpg" for i in range(9)], **{"3": "three", "4": " \n"})
    assert open_data(str(tmp_path), size=8).facts.fields == {"image"}
    with pytest.raises(
        DataError,
        match=r"8 of 9 in .* have none, such as '0.jpg', '1.jpg', '2.jpg', '4.jpg', '5.jpg'; .*\('0.txt'\)",
    ):
        open_data(str(tmp_path), size=8, needs=frozenset({"image", "caption"}))


def test_classes_are_subfolders(tmp_path):
    fill(tmp_path, ["dog/a.png", "cat/b.png", "cat/deep/c.png"])
    data = Folder(size=8, path=tmp_path)
    assert data.facts.classes == ("cat", "dog")
    assert data.batch(torch.arange(3))["label"].tolist() == [0, 0, 1]
    assert open_data(str(tmp_path), size=8, needs=frozenset({"label"})).facts.fields == {"image", "label"}


@pytest.mark.parametrize(
    "names", [["a.png", "cat/b.png", "dog/c.png"], ["only/a.png", "only/b.png"], ["a.png"]]
)
def test_no_classes(tmp_path, names):
    fill(tmp_path, names)
    with pytest.raises(
        DataError, match=r"needs a class, but .* sort all its pictures into two or more subfolders"
    ):
        open_data(str(tmp_path), size=8, needs=frozenset({"label"}))


def test_captions_and_classes_together(tmp_path):
    fill(tmp_path, ["cat/a.png", "dog/b.png"])
    for name in ("cat/a", "dog/b"):
        (tmp_path / f"{name}.txt").write_text(f"a {name[:3]}")
    batch = Folder(size=8, path=tmp_path).batch(torch.tensor([1, 0]))
    assert batch["caption"] == ["a dog", "a cat"]
    assert batch["label"].tolist() == [1, 0]


# Splits


def test_divided_folder(tmp_path):
    fill(tmp_path, ["train/cat/a.png", "train/dog/b.png", "train/cat/c.png", "validation/dog/d.png"])
    train, test = Folder("train", 8, path=tmp_path), Folder("test", 8, path=tmp_path)
    assert (len(train), len(test)) == (3, 1)
    assert train.facts.classes == test.facts.classes == ("cat", "dog")
    assert test.batch(torch.tensor([0]))["label"].tolist() == [1]
    found = report(tmp_path)
    assert found.splits == {"train": 3, "test": 1}
    assert found.classes == {"cat": 2, "dog": 2}


def test_undivided_folder_serves_whole(tmp_path):
    fill(tmp_path, ["a.png", "b.png", "c.png"])
    assert len(Folder("train", 8, path=tmp_path)) == len(Folder("test", 8, path=tmp_path)) == 3
    with pytest.raises(UsageError, match="no split 'held'"):
        Folder("held", 8, path=tmp_path)


def test_split_that_is_not_there(tmp_path):
    fill(tmp_path, ["train/a.png", "train/b.png"])
    with pytest.raises(DataError, match="has no pictures for 'test'; add a subfolder 'test'"):
        Folder("test", 8, path=tmp_path)


# Folders that are none


def test_empty_folder(tmp_path):
    with pytest.raises(DataError, match=r"folder '.*' is empty; put pictures"):
        Folder(size=8, path=tmp_path)


def test_folder_without_pictures(tmp_path):
    for name in ("a.heic", "b.heic", "c.pdf", "README"):
        (tmp_path / name).write_text("x")
    with pytest.raises(
        DataError, match=r"holds no pictures \(.jpg.*\), only 2 .heic, 1 no suffix, 1 .pdf; convert"
    ):
        Folder(size=8, path=tmp_path)


def test_file_or_nothing_in_place_of_a_folder(tmp_path):
    (tmp_path / "a.png").write_bytes(packed(picture(0), "PNG"))
    with pytest.raises(DataError, match=r"a\.png' is a file; give the path of the folder"):
        open_data(str(tmp_path / "a.png"))
    with pytest.raises(DataError, match="There is no folder"):
        Folder(size=8, path=tmp_path / "none")
    with pytest.raises(UsageError, match="at least 1 pixel a side, not 0"):
        Folder(size=0, path=tmp_path)


# The report


def test_report_counts(tmp_path):
    fill(tmp_path, ["a.jpg", "b.png", "c.webp"], a="a", b="b")
    picture(7, 40, 50).save(tmp_path / "d.png")
    (tmp_path / "notes.pdf").write_text("x")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "metadata.jsonl").write_text("")
    found = report(tmp_path)
    assert found.pictures == 4
    assert found.splits == {"all": 4}
    assert found.formats == {"PNG": 2, "JPEG": 1, "WEBP": 1}
    assert (found.smallest, found.median, found.largest) == ((20, 26), (20, 26), (40, 50))
    assert found.captioned == 2
    assert found.uncaptioned == ("c.webp", "d.png")
    assert found.classes == {}
    assert found.others == {".pdf": 1, ".txt": 1}
    assert found.bytes == sum((tmp_path / n).stat().st_size for n in ("a.jpg", "b.png", "c.webp", "d.png"))


def test_report_of_nothing_but_bad_pictures(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    found = report(tmp_path)
    assert found.pictures == 0
    assert found.largest == (0, 0)
    assert [item.file for item in found.unreadable] == ["a.png"]
