"""The verb ``read``: pages are cut and turned as they should be, and everything read is told."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

import sfumato
from sfumato import config as plain
from sfumato.apps.cli import main
from sfumato.apps.load import load
from sfumato.apps.pages import Ask, drawn, read_page
from sfumato.core.checkpoint import RunFolder
from sfumato.core.recipe import Recipe
from sfumato.core.request import Read, Text
from sfumato.data import open_data
from sfumato.data.words import Words
from sfumato.images import read_settings, save_png, to_pil, to_tensor
from sfumato.metrics.text_errors import TextErrors
from sfumato.nn.tps import TPSConfig
from sfumato.nn.word_reader import ReaderConfig
from sfumato.nn.word_resnet import WordResNetConfig
from sfumato.systems.reading.htr import AttentionHTR, HTRConfig
from tests import pages
from tests.pages import Lines

FAST = ("--precision", "fp32", "--device", "cpu")
TINY = HTRConfig(
    ReaderConfig(
        tps=TPSConfig(points=6, width=2, hidden=5, upright=True),
        resnet=WordResNetConfig(16, (1, 1, 1, 1)),
        hidden=6,
    ),
    characters="abcdefgh",
    longest=6,
)
LINES = (("the", "quick", "fox"), ("jumps", "over", "a", "lazy"), ("dog", "again"))


def page(lines: Lines = LINES) -> Tensor:
    """A drawn page."""
    return pages.page(lines)[0]


def asking(one: Callable[[Tensor], tuple[str, float]]) -> Ask:
    """A reader that says this of each picture."""

    def ask(x: Tensor) -> Text:
        said = [one(picture[0]) for picture in x]
        return Text(tuple(text for text, _ in said), tuple(sure for _, sure in said))

    return ask


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A reader that has learned nothing."""
    torch.manual_seed(0)
    system = AttentionHTR(TINY)
    folder = RunFolder.create(
        tmp_path_factory.mktemp("runs") / "htr",
        Recipe("htr", plain.to_dict(system.config), data="words", size=32),
    )
    folder.write_model(system.state_dict())
    folder.unlock()
    return folder.path


# --- pages -------------------------------------------------------------------------------------------


def test_a_page_is_read_line_by_line():
    done: list[float] = []
    found = read_page(asking(lambda x: (f"w{x.shape[1]}", 0.5)), page(), told=done.append)
    assert [len(line) for line in found.lines] == [3, 4, 2]
    assert found.text == "\n".join(" ".join(word.text for word in line) for line in found.lines)
    assert all(word.text == f"w{word.box.right - word.box.left}" for word in found.words)
    assert found.confidence == 0.5
    assert done == [k / 9 for k in range(1, 10)]
    assert not found.upside_down


def test_what_stands_upside_down_is_turned():
    words = (("lily", "billiard"), ("dull", "halt"))

    @asking
    def ask(x: Tensor) -> tuple[str, float]:
        """Sure of what is written where l and t reach up: more ink below the middle of its height."""
        profile = (x < 0).float().sum(1)
        profile = profile[profile > 0]
        half = len(profile) // 2
        return "x", 0.9 if profile[half:].sum() > profile[:half].sum() else 0.1

    right = read_page(ask, page(words), told=lambda _: None)
    wrong = read_page(ask, page(words).flip(1, 2), told=lambda _: None)
    assert not right.upside_down
    assert wrong.upside_down
    assert [w.box for w in wrong.words] == [w.box for w in right.words]
    assert torch.equal(wrong.pixels, right.pixels)


def test_dark_paper_and_a_page_askew_make_no_difference():
    ask = asking(lambda x: ("light" if float(x[0, 0]) > 0 else "dark", 0.5))
    found = read_page(ask, -page(), told=lambda _: None)
    assert {word.text for word in found.words} == {"light"}
    tilted = to_tensor(to_pil(page()).rotate(3, expand=True, fillcolor=229), 1)
    found = read_page(ask, tilted, told=lambda _: None)
    assert found.risen == pytest.approx(3, abs=0.5)
    assert [len(line) for line in found.lines] == [3, 4, 2]


def test_an_empty_page_has_no_words_and_asks_nobody():
    def ask(x: Tensor) -> Text:
        raise AssertionError("there is nothing to ask")

    for one_word in (False, True):
        found = read_page(ask, torch.full((1, 40, 90), 0.7), one_word=one_word, told=lambda _: None)
        assert (found.words, found.text, found.confidence, found.lines) == ((), "", 0.0, ())


# --- the verb ----------------------------------------------------------------------------------------


def test_read_tells_text_places_and_confidence(run, tmp_path, capsys):
    save_png(to_pil(page()), tmp_path / "scans" / "page.png")
    save_png(to_pil(torch.ones(1, 50, 70)), tmp_path / "scans" / "empty.png")
    (tmp_path / "scans" / "broken.jpg").write_bytes(b"no picture")
    table = tmp_path / "tables" / "words.csv"
    args = [
        "read",
        str(tmp_path / "scans"),
        "--model",
        str(run),
        "--csv",
        str(table),
        "--out",
        str(tmp_path / "out"),
    ]
    assert main([*args, "--draw", "--json", *FAST]) == 0
    said = capsys.readouterr()
    told = json.loads(said.out)
    empty, full = told["pictures"]
    assert (Path(empty["file"]).name, empty["text"], empty["confidence"], empty["words"]) == (
        "empty.png",
        "",
        0,
        [],
    )
    assert len(full["words"]) == 9
    assert full["text"].count("\n") == 2
    assert full["confidence"] == pytest.approx(sum(w["confidence"] for w in full["words"]) / 9, abs=1e-3)
    assert "empty.png' has no writing that can be told from its paper; its text is empty" in said.err
    assert "left out: Cannot read picture" in said.err
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["line"], row["word"]) for row in rows][:4] == [
        ("1", "1"),
        ("1", "2"),
        ("1", "3"),
        ("2", "4"),
    ]
    assert [row["text"] for row in rows] == [word["text"] for word in full["words"]]
    assert int(rows[0]["left"]) < int(rows[0]["right"])
    assert told["files"] == [
        str(table),
        str(tmp_path / "out" / "empty.png"),
        str(tmp_path / "out" / "page.png"),
    ]
    assert read_settings(tmp_path / "out" / "page.png")["text"] == full["text"]
    assert main([*args[:-1], str(table), *FAST]) == 0, "where nothing is drawn, no folder is needed"
    with Image.open(tmp_path / "out" / "page.png") as picture:
        assert picture.size == (960, 240)


def test_read_shows_a_table_and_reads_words_whole_and_rgb(run, tmp_path, capsys):
    words = Words("test").batch(torch.arange(2))["image"]
    save_png(to_pil(words[0]).convert("RGB"), tmp_path / "a.png")
    save_png(to_pil(torch.zeros(1, 30, 40)), tmp_path / "empty.png")
    files = [str(tmp_path / "a.png"), str(tmp_path / "empty.png")]
    assert main(["read", *files, "--model", str(run), "--word", "--beam", "3", *FAST]) == 0
    said = capsys.readouterr()
    head, first, second = said.out.splitlines()
    assert head.split() == ["picture", "line", "text", "confidence"]
    assert first.split()[:2] == ["a.png", "1"]
    assert second.split() == ["empty.png"]
    assert "1 word in 2 pictures" in said.err


def test_read_follows_the_cameras_orientation(run, tmp_path, capsys):
    def texts(file: Path) -> list[int]:
        assert main(["read", str(file), "--model", str(run), "--json", *FAST]) == 0
        return [word["left"] for word in json.loads(capsys.readouterr().out)["pictures"][0]["words"]]

    upright, turned = to_pil(page()), Image.Exif()
    turned[0x0112] = 6
    upright.save(tmp_path / "upright.png")
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=turned)
    assert len(texts(tmp_path / "upright.png")) == 9
    assert texts(tmp_path / "turned.png") == texts(tmp_path / "upright.png")


def test_read_refuses_what_cannot_be(run, tmp_path, capsys):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    broken, model = str(tmp_path / "broken.png"), ["--model", str(run)]
    for args, code, words in (
        ([broken, *model, "--beam", "0"], 2, "--beam must be at least 1, got 0"),
        ([*model], 2, "Which pictures? Give files"),
        ([broken, *model], 65, "Cannot read picture"),
        ([str(tmp_path), *model], 65, "None of the 1 pictures can be read: left out"),
        ([str(tmp_path / "none.png"), *model], 65, "There is no picture and no folder"),
    ):
        assert main(["read", *args]) == code
        assert words in capsys.readouterr().err


def test_texts_come_back_from_python_too(run):
    x = Words("test").batch(torch.arange(3))["image"]
    found = sfumato.ask(Read(images=x, count=3), run, precision="fp32", quiet=True)
    assert isinstance(found, Text)
    assert len(found.texts) == 3


def test_what_was_read_is_drawn_over_its_place():
    found = read_page(asking(lambda _: ("word", 0.5)), page(), told=lambda _: None)
    before, after = (to_tensor(image) for image in (to_pil(found.pixels).convert("RGB"), drawn(found)))
    changed = (before - after).abs().amax(0) > 0.1
    for word in found.words:
        box = word.box
        assert changed[box.top, box.left : box.right].all()
        assert changed[box.top : box.bottom, box.right - 1].all()
    assert changed.float().mean() < 0.2


# --- the reader that comes along ---------------------------------------------------------------------


@pytest.mark.parametrize("turned", [False, True])
def test_the_shipped_reader_reads_a_page_either_way_up(tmp_path, capsys, turned):
    drawn = page(pages.LINES)
    save_png(to_pil(drawn.flip(1, 2) if turned else drawn), tmp_path / "scan.png")
    assert main(["read", str(tmp_path / "scan.png"), "--json", *FAST]) == 0
    said = capsys.readouterr()
    told = json.loads(said.out)
    assert told["model"] == "reader"
    [found] = told["pictures"]
    assert found["upside_down"] == turned
    assert ("was upside down: it has been turned" in said.err) == turned
    true = "\n".join(" ".join(words) for words in pages.LINES)
    assert TextErrors.of([found["text"]], [true]).cer <= 0.1, found["text"]


# --- learning from one's own words -------------------------------------------------------------------


def test_one_goes_on_from_a_reader_with_ones_own_words(run, tmp_path, capsys):
    assert main(["data", "words", "--files", str(tmp_path / "words"), "--count", "6", "--size", "32"]) == 0
    texts = [file.read_text().strip() for file in sorted((tmp_path / "words").glob("*.txt"))]
    data = open_data(str(tmp_path / "words"), needs=frozenset({"image", "text"}))
    assert data.batch(torch.arange(6))["text"] == texts
    settings = ["--network.tps.points", "6", "--network.tps.width", "2", "--network.tps.hidden", "5"]
    settings += ["--network.resnet.features", "16", "--network.resnet.blocks", "1", "1", "1", "1"]
    settings += ["--network.hidden", "6", "--network.tps.align-corners", "--longest", "12"]
    args = [
        "train",
        "htr",
        "--data",
        str(tmp_path / "words"),
        "--base",
        str(run),
        "--out",
        str(tmp_path / "mine"),
    ]
    assert main([*args, "--steps", "1", "--batch", "2", "-q", *settings, *FAST[2:]]) == 0
    mine = load(tmp_path / "mine", precision="fp32")
    assert mine.letters.characters == "".join(sorted(set("".join(texts))))
    base = load(run, precision="fp32")
    near = (mine.network.features.conv4_2.weight - base.network.features.conv4_2.weight).abs().max()
    assert 0 < near < 0.05, "one step away"
    assert "sfumato read ./pictures --model" in (tmp_path / "mine" / "README.md").read_text()


def test_evaluate_tells_error_rates_and_all_that_was_read(run, tmp_path, capsys):
    args = ["evaluate", str(run), "--count", "20", "--json", "--out", str(tmp_path / "report"), *FAST]
    assert main(args) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["metric"] for row in told["rows"]] == [
        "Character error rate",
        "Word error rate",
        "Pictures read without error",
    ]
    assert all(row["n"] == 20 and row["control"] is not None for row in told["rows"])
    with (tmp_path / "report" / "words.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 20
    edits, letters = sum(int(row["edits"]) for row in rows), sum(len(row["text"]) for row in rows)
    assert told["rows"][0]["value"] == pytest.approx(edits / letters)
    test = Words("test").batch(torch.tensor([int(row["number"]) for row in rows]))
    assert [row["text"] for row in rows] == test["text"]
