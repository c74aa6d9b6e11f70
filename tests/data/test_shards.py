"""Shards: written the same every time, read where they stand, damage told; a data set to train on."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from sfumato.core.loader import Batches
from sfumato.data import open_data
from sfumato.data.jpeg import as_jpeg, without_notes
from sfumato.data.shards import Sample, Shards, held_out, is_shards, read_index, write_samples
from sfumato.data.tarred import members
from sfumato.errors import DataError, UsageError
from sfumato.images import PictureError, fit, open_image, to_tensor


def picture(seed: int, height: int = 20, width: int = 26) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def packed(image: Image.Image, kind: str = "JPEG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def shards(folder: Path, count: int = 60, each: int = 25) -> Path:
    folder.mkdir(exist_ok=True)
    for first in range(0, count, each):
        samples = [
            Sample(f"{i:06d}", packed(picture(i)), f"number {i}", {"n": i})
            for i in range(first, min(count, first + each))
        ]
        with (folder / f"{first // each:06d}.tar").open("wb") as file:
            assert write_samples(file, samples) == len(samples)
    return folder


def test_the_same_samples_give_the_same_bytes_which_others_can_read(tmp_path):
    once, again = shards(tmp_path / "a"), shards(tmp_path / "b")
    assert [p.read_bytes() for p in sorted(once.iterdir())] == [
        p.read_bytes() for p in sorted(again.iterdir())
    ]
    with tarfile.open(once / "000000.tar") as tar:
        assert tar.getnames()[:4] == ["000000.jpg", "000000.txt", "000000.json", "000001.jpg"]
        assert tar.extractfile("000002.txt").read() == b"number 2"


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_stand_where_pythons_reader_finds_them(tmp_path, kind):
    long = 1 if kind == tarfile.USTAR_FORMAT else 3
    with tarfile.open(tmp_path / "a.tar", "w", format=kind) as tar:
        for name in ("a.txt", "x" * 60 + "/" + "b" * 80 + ".jpg", "é/" + "c" * 60 * long + ".jpg", "empty"):
            info = tarfile.TarInfo(name)
            info.size = 0 if name == "empty" else len(name) * 9
            tar.addfile(info, io.BytesIO(b"0123456789abc" * 200))
        for link in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE):
            info = tarfile.TarInfo(f"link{link!r}")
            info.type, info.linkname = link, "/etc/passwd"
            tar.addfile(info)
    with tarfile.open(tmp_path / "a.tar") as tar:
        expected = [(m.name, m.offset_data, m.size, tar.extractfile(m).read()) for m in tar if m.isreg()]
    assert [(*member, bytes(content)) for member, content in members(tmp_path / "a.tar")] == expected


def test_damage_is_told(tmp_path):
    whole = (shards(tmp_path, 5) / "000000.tar").read_bytes()
    path = tmp_path / "000000.tar"
    for data, reason in (
        (b"", "it is empty"),
        (whole[:100], "it is cut off"),
        (whole[:2000], "it is cut off"),
        (whole[: whole.rindex(b"000004.json")], "it is cut off"),
        (whole[:3] + b"9" + whole[4:], "wrong checksum at byte 0"),
        (b"<html>" * 200, "wrong checksum|invalid literal"),
    ):
        path.write_bytes(data)
        with pytest.raises(DataError, match=f"Shard '.*000000.tar' is damaged .*(?:{reason})"):
            read_index(path)


def test_samples_of_other_makers(tmp_path):
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for name, data in {
            "./d/b.a.png": packed(picture(1), "PNG"),  # the key ends at the first dot
            "d/c.PNG": packed(picture(2), "PNG"),
            "d/c.txt": b" \xff a\n b ",
            "d/c.cls": b"3",
            "alone.txt": b"x",
            "../../e.jpg": packed(picture(3)),
        }.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    found = {entry.name: (entry.caption, entry.label) for entry in read_index(tmp_path / "0.tar")}
    assert found == {"0/d/c": ("\ufffd a b", 3), "0/../../e": (None, None)}


def test_pictures_are_those_of_a_folder(tmp_path):
    data = Shards(size=9, path=shards(tmp_path))
    numbers = [i for i in range(60) if not held_out(f"{i:06d}")]
    assert len(data) == len(numbers)
    assert data.facts.fields == {"image", "caption"}
    batch = data.batch(torch.tensor([3, 0, 30]))
    chosen = [numbers[k] for k in (3, 0, 30)]
    assert batch["caption"] == [f"number {i}" for i in chosen]
    expected = [to_tensor(fit(open_image(io.BytesIO(packed(picture(i)))), 9, 9)) for i in chosen]
    assert torch.equal(batch["image"], torch.stack(expected))
    assert torch.equal(
        Shards(size=9, path=tmp_path, memory=0).batch(torch.tensor([3]))["image"][0], expected[0]
    )


def test_training_and_testing_share_no_sample(tmp_path):
    shards(tmp_path, 150, 75)
    train, test = (Shards(split, 8, path=tmp_path) for split in ("train", "test"))
    captions = [set(data.batch(torch.arange(len(data)))["caption"]) for data in (train, test)]
    assert len(captions[0] | captions[1]) == 150
    assert not captions[0] & captions[1]
    assert 1 <= len(test) <= 9
    with pytest.raises(DataError, match=r"None of the 1 samples .* is for 'test'"):
        Shards("test", 8, path=shards(tmp_path / "one", 1))


def test_a_step_sees_the_same_samples_whenever_it_is_asked(tmp_path):
    data = Shards(size=8, path=shards(tmp_path))
    cpu = torch.device("cpu")
    batches = [Batches(data, batch=16, seed=4, rows=[range(16)], device=cpu) for _ in range(2)]
    onward = [batches[0].at(step).batches[0]["caption"] for step in range(9)]
    assert batches[1].at(8).batches[0]["caption"] == onward[8]
    assert len({tuple(captions) for captions in onward}) == 9


def test_data_is_opened_by_what_the_folder_holds(tmp_path):
    assert isinstance(open_data(str(shards(tmp_path)), size=8, needs=frozenset({"caption"})), Shards)
    assert is_shards(tmp_path)
    assert not is_shards(tmp_path / "000000.tar")
    with pytest.raises(DataError, match="have caption, image, but no label"):
        open_data(str(tmp_path), size=8, needs=frozenset({"label"}))
    bare = tmp_path / "bare"
    bare.mkdir()
    with tarfile.open(bare / "0.tar", "w") as tar:
        info = tarfile.TarInfo("a.jpg")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"abc"))
    with pytest.raises(DataError, match=r"'0/a' in .* has none \(key.txt\)"):
        open_data(str(bare), size=8, needs=frozenset({"caption"}))
    with pytest.raises(DataError, match="holds no shards"):
        Shards(path=tmp_path / "nowhere")
    with pytest.raises(DataError, match="cannot be read, more than the"):
        Shards(size=8, path=bare).batch(torch.tensor([0]))


# Pictures as JPEG files


def test_upright_jpegs_keep_every_bit_but_lose_their_notes():
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    plain = packed(picture(1), quality=80)
    noted = packed(picture(1), quality=80, exif=exif, comment=b"somewhere")
    assert b"a camera" in noted
    assert b"somewhere" in noted
    assert as_jpeg(noted) == (plain, 20, 26)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert profile in as_jpeg(packed(picture(1), icc_profile=profile))[0]  # colours would be others without


def test_what_must_be_turned_or_is_no_jpeg_is_encoded_anew():
    exif = Image.Exif()
    exif[0x0112] = 6
    data, height, width = as_jpeg(packed(picture(1), exif=exif, quality=95))
    assert (height, width) == (26, 20)
    turned = open_image(io.BytesIO(data))
    assert np.abs(np.asarray(turned).astype(int) - np.asarray(picture(1).rotate(-90, expand=True))).mean() < 4
    data, height, width = as_jpeg(packed(picture(2), "PNG"))
    assert (height, width) == (20, 26)
    assert np.abs(np.asarray(open_image(io.BytesIO(data))).astype(int) - np.asarray(picture(2))).mean() < 3
    assert as_jpeg(packed(picture(2).convert("RGBA"), "WEBP"))[1:] == (20, 26)


def test_shorter_sides_are_brought_down_and_never_up():
    data, height, width = as_jpeg(packed(picture(3, 40, 71)), 16)
    assert (height, width) == (16, 28) == open_image(io.BytesIO(data)).size[::-1]
    assert as_jpeg(packed(picture(3, 40, 71)), 50)[1:] == (40, 71)
    with pytest.raises(UsageError, match="at least 1 pixel"):
        as_jpeg(packed(picture(3)), 0)


def test_broken_jpegs_are_not_followed():
    whole = packed(picture(1))
    for data in (
        b"",
        whole[:30],
        b"\xff\xd8" + b"\xff\xe1\x00\x01" * 9,
        b"\xff\xd8\x00\x00\x00\x00",
        whole[:2],
    ):
        assert without_notes(data) is None
    with pytest.raises(PictureError):
        as_jpeg(whole[:30])
