"""Fonts on the command line: learned from files, and texts written in them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image, ImageFont

from sfumato.apps.cli import main
from sfumato.core.checkpoint import RunFolder
from sfumato.data import settings_of
from sfumato.data.glyphs.skeletons import LATIN
from sfumato.images import read_settings

TINY = (
    *("--generator.width", "4", "--critic.first", "4", "--size", "16", "--batch", "4", "--steps", "1"),
    *("--precision", "fp32", "--previews", "0", "--quiet"),
)


@pytest.fixture(scope="module")
def pens(tmp_path_factory) -> Path:
    """A run that knows the eight stroke fonts, a step long."""
    out = tmp_path_factory.mktemp("runs") / "pens"
    assert main(["train", "zi2zi", "--out", str(out), *TINY]) == 0
    return out


@pytest.fixture(scope="module")
def font(tmp_path_factory) -> Path:
    """The font that comes with Pillow, as a file."""
    path = tmp_path_factory.mktemp("fonts") / "aileron & co.ttf"
    path.write_bytes(ImageFont.load_default(20).path.getvalue())
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory, font) -> Path:
    """A run from a font file to a stroke font and to itself."""
    out = tmp_path_factory.mktemp("runs") / "files"
    fonts = ["--source", str(font), "--target", "bold", str(font), "--characters", "abcdefgh"]
    assert main(["train", "zi2zi", *fonts, "--out", str(out), *TINY]) == 0
    return out


def test_font_files_choose_the_preset_and_are_remembered_whole(files, font):
    recipe = RunFolder.open(files).recipe
    assert recipe.preset == "calligraphy"
    expected = {"source": (str(font),), "target": ("bold", str(font)), "characters": ("abcdefgh",)}
    assert settings_of(recipe.data) == ("font-files", expected)
    assert recipe.config["fonts"] == ["bold", font.stem]
    assert "--data 'font-files:source=/" in (files / "README.md").read_text()


def test_a_run_from_files_goes_on(files, capsys):
    assert main(["train", "--resume", "--out", str(files), "--previews", "0", "--quiet"]) == 0
    assert "finished" not in capsys.readouterr().err


def test_unpaired_systems_learn_fonts_too(font, tmp_path):
    out = tmp_path / "run"
    small = ("--generator.width", "4", "--critic.width", "4", *TINY[4:])
    words = ["train", "cyclegan", "--source", "regular", "--target", str(font), "--out", str(out), *small]
    assert main(words) == 0
    recipe = RunFolder.open(out).recipe
    assert recipe.config["domains"] == ["regular", font.stem]
    assert recipe.config["channels"] == 1
    assert settings_of(recipe.data)[0] == "fonts-unpaired"


def test_a_text_in_every_font(pens, tmp_path, capsys):
    assert main(["letters", " Sfumato\n 7 ", "--model", str(pens), "--out", str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["fonts"] == ["light", "bold", "italic", "roman", "square", "narrow", "slab", "backhand"]
    settings = read_settings(tmp_path / "letters-sfumato-7.png")
    assert (settings["text"], settings["task"]) == ("Sfumato 7", "letters")
    with Image.open(tmp_path / "letters-sfumato-7.png") as picture:
        assert picture.height == 8 * 128


def test_a_text_in_one_font(pens, tmp_path):
    assert main(["letters", "ab", "--font", "2", "--model", str(pens), "--out", str(tmp_path)]) == 0
    with Image.open(tmp_path / "letters-ab-2.png") as picture:
        assert picture.height == 128


def test_a_film_leads_from_font_to_font(pens, tmp_path, capsys):
    words = ["letters", "ab", "--font", "bold", "3", "light", "--frames", "3", "--out", str(tmp_path)]
    assert main([*words, "--model", str(pens)]) == 0
    assert [Path(line).name for line in capsys.readouterr().out.split()] == [
        "letters-ab-film.gif",
        "letters-ab-film.png",
    ]
    with Image.open(tmp_path / "letters-ab-film.gif") as film:
        assert film.n_frames <= 7  # frames that are alike become one
    assert main([*words, "--loop", "--model", str(pens), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["frames"] == 9


def test_a_run_from_files_writes_what_its_source_has(files, font, tmp_path, capsys):
    words = ["letters", "Zebra", "--model", str(files), "--out", str(tmp_path)]
    assert main(words) == 0
    capsys.readouterr()
    kept = font.read_bytes()
    font.unlink()
    try:
        assert main(words) == 65
        error = capsys.readouterr().err
        assert f"The font that it starts from, '{font}', is not there; say where with --source FONT" in error
        assert main([*words, "--source", "regular"]) == 0
    finally:
        font.write_bytes(kept)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["letters"], 2, "Write what? Give a text"),
        (["letters", "  "], 2, "Write what? Give a text"),
        (["letters", "a" * 101], 2, "A line holds at most 100 characters, got 101"),
        (["letters", "a", "--frames", "0"], 2, "--frames must be at least 1, got 0"),
        (["letters", "a", "--rate", "0"], 2, "--rate must be above 0"),
        (["letters", "a", "--gap", "2"], 2, "--gap must be from 0 to 1, got 2"),
        (["letters", "aé永", "--model", "PENS"], 65, "The font 'regular' has no 'é', '永'; leave that out"),
        (
            ["letters", "a", "--font", "bolt", "--model", "PENS"],
            2,
            "Unknown font 'bolt'; did you mean 'bold'",
        ),
        (["letters", "a", "--source", "x.ttf", "--model", "PENS"], 65, "There is no font file 'x.ttf'"),
        (["letters", "a", "--source", __file__, "--model", "PENS"], 65, "cannot be read as a font"),
        (["train", "zi2zi", "--source", "bold"], 2, "give both --source FONT and --target FONT"),
        (["train", "zi2zi", "--target", "bold"], 2, "give both --source FONT and --target FONT"),
        (["train", "zi2zi", "--characters", "abcd"], 2, "give both --source FONT and --target FONT"),
        (["train", "zi2zi", "--source", "1", "--target", "2", "--data", "fonts"], 2, "give one of them"),
        (["train", "dcgan", "--source", "1", "--target", "2"], 2, "'dcgan' does not learn to turn one font"),
        (["train", "zi2zi", "paper"], 2, "Which fonts? Say --source FONT and --target FONT"),
        (["train", "zi2zi", "--source", "1", "--target", __file__], 65, "cannot be read as a font"),
    ],
)
def test_what_is_wrong_is_said(words, code, message, pens, capsys):
    assert main([str(pens) if word == "PENS" else word for word in words]) == code
    assert message in " ".join(capsys.readouterr().err.split())


def test_data_shows_fonts_and_words(tmp_path, capsys):
    where = "font-files:source=regular&target=bold&target=7&characters=" + LATIN[:9]
    assert main(["data", where, "--size", "16", "--out", str(tmp_path / "fonts.png"), "--count", "4"]) == 0
    assert "bold, 7" in capsys.readouterr().out
    assert main(["data", "words", "--out", str(tmp_path / "words.png"), "--count", "4"]) == 0
    with Image.open(tmp_path / "words.png") as sheet:
        assert sheet.width > 400
