"""Font files: what they have, what they lack, and the datasets that fonts make."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
import torch
from PIL import ImageFont

from sfumato.data import is_registered, open_data, settings_of, with_settings
from sfumato.data.glyphs.files import FontFile, StrokeFont, open_font
from sfumato.data.glyphs.line import even, line
from sfumato.data.glyphs.pairs import Drawn, FontDomains, FontPairs, agreed, common_chinese, held_out
from sfumato.data.glyphs.sfnt import characters_of
from sfumato.data.glyphs.skeletons import ALPHABET, LATIN
from sfumato.errors import DataError, UsageError


@pytest.fixture(scope="module")
def font(tmp_path_factory) -> Path:
    """The font that comes with Pillow, as a file."""
    path = tmp_path_factory.mktemp("fonts") / "aileron.ttf"
    path.write_bytes(ImageFont.load_default(20).path.getvalue())
    return path


@pytest.fixture(scope="module")
def collection(font) -> Path:
    """The same font twice over, as a collection."""
    data = bytearray(font.read_bytes())
    head = struct.pack(">4sIIII", b"ttcf", 0x00010000, 2, 20, 20)
    for k in range(struct.unpack_from(">H", data, 4)[0]):
        at = 12 + 16 * k + 8
        struct.pack_into(">I", data, at, struct.unpack_from(">I", data, at)[0] + len(head))
    path = font.with_name("both.ttc")
    path.write_bytes(head + data)
    return path


def cmap(platform: int, encoding: int, table: bytes) -> bytes:
    """A font file that holds nothing but this table of characters."""
    directory = struct.pack(">IHHHH4sIII", 0x00010000, 1, 0, 0, 0, b"cmap", 0, 28, 12 + len(table))
    return directory + struct.pack(">HHHHI", 0, 1, platform, encoding, 12) + table


# --- characters of a file ----------------------------------------------------------------------------


def test_ranges_by_offset_and_by_list():
    ends, starts, deltas, offsets = (0x42, 0x63, 0xFFFF), (0x41, 0x61, 0xFFFF), (-0x41 + 1, 5, 1), (0, 4, 0)
    table = struct.pack(">HHHHHHH", 4, 0, 0, 6, 0, 0, 0)
    table += struct.pack(">3H", *ends) + b"\0\0" + struct.pack(">3H", *starts)
    table += struct.pack(">3h", *deltas) + struct.pack(">3H", *offsets) + struct.pack(">3H", 9, 0, 7)
    assert characters_of(cmap(3, 1, table)) == {0x41, 0x42, 0x61, 0x63}


def test_groups_and_trimmed_tables():
    groups = struct.pack(">HHIII", 12, 0, 0, 0, 2) + struct.pack(
        ">6I", 0x4E00, 0x4E02, 5, 0x20000, 0x20001, 0
    )
    assert characters_of(cmap(3, 10, groups)) == {0x4E00, 0x4E01, 0x4E02, 0x20001}
    assert characters_of(cmap(0, 3, struct.pack(">HHHHH3H", 6, 0, 0, 0x30, 3, 4, 0, 6))) == {0x30, 0x32}


def test_what_is_no_table_says_nothing():
    assert characters_of(b"") is None
    assert characters_of(b"no font at all, whatever it is called") is None
    assert characters_of(cmap(1, 0, b"\0\0")) is None
    broken = struct.pack(">HHIII", 12, 0, 0, 0, 1) + struct.pack(">3I", 9, 3, 1)
    assert characters_of(cmap(3, 10, broken)) is None


def test_a_file_has_what_its_table_says(font, collection):
    known = FontFile(str(font)).known
    assert set(map(ord, LATIN)) <= known
    assert ord("永") not in known
    assert FontFile(f"{collection}#1").known == known


# --- drawing -----------------------------------------------------------------------------------------


def test_characters_are_drawn_black_on_white_and_inside(font):
    drawn = open_font(str(font)).draw("Hxg", 40)
    assert drawn.shape == (3, 40, 40)
    assert drawn.dtype == torch.uint8
    assert drawn.amin((1, 2)).max() < 60
    assert drawn[:, [0, -1]].min() == 255
    low = [int((row < 128).any(1).nonzero().max()) for row in drawn]
    assert low[0] == low[1] < low[2], "they stand on one line, below which g reaches"


def test_a_face_of_a_collection_is_chosen_by_number(font, collection):
    assert torch.equal(FontFile(f"{collection}#1").draw("a", 32), FontFile(str(font)).draw("a", 32))
    with pytest.raises(DataError, match="cannot be read as a font"):
        FontFile(f"{collection}#2")
    with pytest.raises(UsageError, match="A face of a font file has a number"):
        FontFile(f"{collection}#bold")


def test_what_a_font_lacks_is_named(font):
    given = open_font(str(font))
    assert given.lacking("a永b永\U0001f600") == "永\U0001f600"
    with pytest.raises(DataError, match="The font 'aileron' has no '永'; leave that out, or choose another"):
        given.draw("a永", 32)
    assert StrokeFont("bold").lacking("aé") == "é"


def test_without_a_table_the_sign_for_what_is_missing_tells(font, monkeypatch):
    given = open_font(str(font))
    monkeypatch.setitem(given.__dict__, "known", None)
    assert given.lacking("aB永\U0001f600 ") == "永\U0001f600 "


def test_what_is_no_font_is_refused(tmp_path):
    (tmp_path / "notes.ttf").write_text("no font")
    with pytest.raises(DataError, match=r"notes.ttf' cannot be read as a font \(.*\); give a .ttf"):
        open_font(str(tmp_path / "notes.ttf"))
    with pytest.raises(DataError, match=r"There is no font file '.*missing\.ttf'"):
        open_font(str(tmp_path / "missing.ttf"))
    with pytest.raises(UsageError, match="A font needs a name"):
        open_font("")
    with pytest.raises(UsageError, match="There is no stroke font 'bolt'; did you mean 'bold'"):
        StrokeFont("bolt")


# --- pairs -------------------------------------------------------------------------------------------


def test_pairs_are_one_character_in_two_fonts():
    data = FontPairs("test", 24, targets=("bold", "7"), characters="abcdefgh")
    batch = data.batch(torch.arange(len(data)))
    bold, source = StrokeFont("bold"), StrokeFont("regular")
    for i, (label, character) in enumerate(zip(batch["label"], batch["character"], strict=True)):
        letter = data.characters[int(character)]
        target = bold if label == 0 else StrokeFont("7")
        for field, drawing in (("source", source), ("image", target)):
            given = ((batch[field][i, 0] + 1) * 127.5).round().to(torch.uint8)
            assert torch.equal(given, drawing.draw(letter, 24)[0])
    assert data.facts.classes == ("bold", "7")


def test_held_out_characters_are_others_of_every_font():
    train, test = (FontPairs(split) for split in ("train", "test"))
    pairs = [{tuple(row) for row in data._rows.tolist()} for data in (train, test)]
    assert not pairs[0] & pairs[1]
    assert len(pairs[0] | pairs[1]) == 8 * 62
    held = held_out(8, 62, 0.25)
    assert (held.sum(1) == 16).all()
    assert len(held.unique(dim=0)) == 8
    assert held.any(0).float().mean() > 0.8, "every character is held out in some fonts and seen in others"
    assert not held.all(0).any()


def test_file_and_pen_go_together(font):
    where = with_settings("font-files", {"source": [str(font)], "target": ["bold", str(font)]})
    data = open_data(where, size=24, needs=frozenset({"source", "image", "label"}))
    assert data.facts.classes == ("bold", "aileron")
    assert data.characters == LATIN
    assert data.facts.domains == ("aileron", "fonts")
    assert torch.equal(data.batch(torch.tensor([60]))["source"], data.batch(torch.tensor([60]))["image"])
    assert torch.equal(data.sources("Az"), torch.stack([*data.sources("A"), *data.sources("z")]))


def test_small_memory_changes_nothing():
    fonts, rows = (StrokeFont("bold"), StrokeFont("light")), torch.tensor([0, 1, 1, 0])
    characters = torch.tensor([2, 0, 1, 2])
    kept, fresh = Drawn(fonts, "xyz", 16), Drawn(fonts, "xyz", 16, memory=10)
    assert torch.equal(kept(rows, characters), fresh(rows, characters))
    assert torch.equal(kept(rows, characters), fresh(rows, characters))


def test_the_characters_that_all_fonts_have_are_agreed_upon(font, caplog):
    assert agreed([StrokeFont("bold"), StrokeFont("3")]) == ALPHABET
    assert agreed([StrokeFont("bold"), open_font(str(font))]) == LATIN
    assert agreed([StrokeFont("bold")], "abcabcd") == "abcd"
    with pytest.raises(DataError, match="The font 'aileron' has no '永'"):
        agreed([open_font(str(font))], "abcd永")
    with pytest.raises(DataError, match="learned from 4 characters or more, got 2"):
        agreed([StrokeFont("bold")], "ab")


def test_fonts_that_share_nothing_are_refused(monkeypatch):
    bold = StrokeFont("bold")
    monkeypatch.setattr(bold, "lacking", lambda text: text)
    with pytest.raises(DataError, match="The fonts 'bold' and 'light' share neither letters nor Chinese"):
        agreed([bold, StrokeFont("light")])


def test_left_out_characters_are_told(monkeypatch, caplog):
    bold = StrokeFont("bold")
    monkeypatch.setattr(bold, "lacking", lambda text: "".join(c for c in text if c in "xQ" or ord(c) > 300))
    assert agreed([bold, StrokeFont("light")]) == "".join(c for c in LATIN if c not in "xQ")
    assert "the font 'bold' has no 'Q', 'x': left out" in caplog.text


def test_the_common_chinese_characters():
    characters = common_chinese()
    assert (len(characters), len(set(characters))) == (3755, 3755)
    assert (characters[0], characters[-1]) == ("啊", "座")


def test_unpaired_characters_are_never_the_same():
    train, test = (FontDomains(split, 16) for split in ("train", "test"))
    assert not set(train._places[0].tolist()) & set(train._places[1].tolist())
    assert not set(train._places.flatten().tolist()) & set(test._places.flatten().tolist())
    batch = train.batch(torch.tensor([5]))
    a, b = (train.characters[int(train._places[side, 5])] for side in (0, 1))
    for field, font_of, letter in (("a", "regular", a), ("b", "slab", b)):
        given = ((batch[field][0, 0] + 1) * 127.5).round().to(torch.uint8)
        assert torch.equal(given, StrokeFont(font_of).draw(letter, 16)[0])
    assert train.facts.domains == ("regular", "slab")


def test_two_fonts_of_one_name_are_told_apart():
    assert FontDomains(source=("bold",), target=("bold",), size=16).facts.domains == ("bold", "bold-2")


def test_fonts_that_are_not_said_are_asked_for():
    with pytest.raises(UsageError, match=r"Which fonts\? Say --source FONT and --target FONT"):
        open_data("font-files")
    with pytest.raises(UsageError, match="'font-files' takes one source font, got 0"):
        open_data("font-files:target=bold")
    with pytest.raises(UsageError, match="'fonts-unpaired' takes one target font, got 2"):
        open_data("fonts-unpaired:target=bold&target=light")
    with pytest.raises(UsageError, match="Glyphs need 8 pixels a side, got 5"):
        open_data("fonts", size=5)
    with pytest.raises(IndexError, match="'fonts' holds examples 0 to"):
        open_data("fonts", size=16).batch(torch.tensor([9999]))


# --- settings in a dataset's name --------------------------------------------------------------------


def test_settings_go_into_a_name_and_come_back():
    settings = {"source": ("/a & b/c#1.ttf#2",), "target": ("bold", "x=y.otf"), "characters": ("永é&%",)}
    name = with_settings("font-files", settings)
    assert settings_of(name) == ("font-files", settings)
    assert is_registered(name)
    assert settings_of("digits") == ("digits", {})
    assert not is_registered("digits:size=8")
    assert not is_registered("fontfiles:source=a")


def test_wrong_settings_are_refused():
    with pytest.raises(
        UsageError, match="Dataset 'font-files' has no setting 'sauce'; did you mean 'source'"
    ):
        open_data("font-files:sauce=bold")
    with pytest.raises(UsageError, match="must look like source=VALUE&target=VALUE&characters=VALUE"):
        open_data("font-files:bold")


# --- a line ------------------------------------------------------------------------------------------


def test_letters_are_as_wide_as_their_ink_and_spaces_have_a_width():
    glyphs = torch.ones(3, 1, 20, 20)
    for picture, width in zip(glyphs, (2, 7, 4), strict=True):
        picture[:, 5:15, 6 : 6 + width] = -1
    one = line("ab c", glyphs, gap=0.1)
    assert one.shape == (1, 20, 3 + 2 + 2 + 7 + 2 + 6 + 4 + 3)
    dark = (one[0] < 0).any(0).int()
    assert dark.tolist() == [0] * 3 + [1] * 2 + [0] * 2 + [1] * 7 + [0] * 8 + [1] * 4 + [0] * 3
    square = line("永", glyphs[:1])
    assert square.shape[2] == 6 + 18


def test_lines_of_different_length_stand_in_the_middle():
    both = even([torch.zeros(1, 4, 5), torch.zeros(1, 4, 9)])
    assert both.shape == (2, 1, 4, 9)
    assert both[0, 0, 0].tolist() == [1, 1, 0, 0, 0, 0, 0, 1, 1]
