"""What is shown: sheets, reports on data, evaluations, exports, and durations in words."""

from __future__ import annotations

import json
import shutil
from html.parser import HTMLParser

import pytest
import torch
from PIL import Image

from sfumato.apps import facts
from sfumato.apps.bar import Bar, duration
from sfumato.apps.cli import main
from sfumato.apps.sheet import SIDE, Cell, enlarged, write_html, write_png
from sfumato.apps.talk import Talk
from sfumato.errors import DataError
from sfumato.images import to_pil

CELLS = [
    Cell(
        to_pil(torch.rand(3, 9, 7)), 'a <b>bold</b> & "quoted" caption, rather longer than one line', "seed 1"
    ),
    Cell(to_pil(torch.rand(1, 300, 400)), "", ""),
    Cell(to_pil(torch.rand(3, 5, 5)), "short", "seed 3"),
]


class Page(HTMLParser):
    """Collects what a browser would load and show."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_a_page_is_whole_needs_nothing_else_and_shows_captions_as_they_are(tmp_path):
    write_html(CELLS, tmp_path / "deep" / "sheet.html", "A <title>", "lead & more", "foot")
    page = Page((tmp_path / "deep" / "sheet.html").read_text())
    assert page.open == []
    assert len(page.sources) == 3
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert CELLS[0].caption in page.texts
    assert "A <title>" in page.texts


def test_a_sheet_holds_every_picture(tmp_path):
    write_png(CELLS, tmp_path / "sheet.png", "Three pictures", columns=2)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 2 * SIDE
        assert sheet.height > 2 * SIDE
    assert enlarged(CELLS[0].image).size == (149, 192)
    assert enlarged(CELLS[1].image).size == (192, 144)


def test_data_shows_a_dataset(tmp_path, capsys):
    for name in ("sheet.png", "sheet.html"):
        assert main(["data", "digits", "--out", str(tmp_path / name), "--count", "5", "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["examples"], told["sheet"]) == (1200, str(tmp_path / name))
        assert (tmp_path / name).exists()


def test_data_reports_on_a_folder_and_names_what_is_unreadable(tmp_path, capsys):
    for name, size in (("a", (7, 5)), ("b", (9, 4)), ("c", (6, 6))):
        Image.new("RGB", size, "red").save(tmp_path / f"{name}.png")
    (tmp_path / "a.txt").write_text("a caption")
    for i in range(12):
        Image.new("RGB", (8, 8)).save(tmp_path / f"more{i:02d}.png")
    (tmp_path / "broken.jpg").write_bytes(b"<html>not a picture</html>")
    assert main(["data", str(tmp_path), "--out", str(tmp_path / "sheets" / "sheet.png")]) == 0
    out = capsys.readouterr().out
    for words in (
        "15 readable",
        "1 with, 14 without",
        "1 unreadable:",
        "broken.jpg: it is a web page",
        "--json names all",
    ):
        assert words in out
    assert main(["data", str(tmp_path / "none")]) == 65


def test_evaluate_writes_table_json_page_and_card(run, tmp_path, capsys):
    own = shutil.copytree(run, tmp_path / "run")
    assert main(["evaluate", str(own), "--count", "40", "--steps", "2", "--solver", "ddim", "-q"]) == 0
    said = capsys.readouterr()
    assert "Accuracy of labels" in said.out
    assert "Precision (pixels)" in said.out
    told = json.loads((own / "evaluation" / "report.json").read_text())
    assert told["asked"]["count"] == 40
    assert {"metric", "value", "n", "space", "spread", "real", "control"} <= told["rows"][0].keys()
    assert "Nearest-neighbour ratio" in (own / "evaluation" / "report.html").read_text()
    assert "| Accuracy of labels |" in (own / "README.md").read_text()


def test_too_few_pictures_are_told_before_they_are_made(run, tmp_path, capsys):
    assert main(["evaluate", str(run), "--count", "5", "--out", str(tmp_path / "report")]) == 2
    assert "5 pictures would say too little; give --count 10 or more" in capsys.readouterr().err


def test_export_refuses_a_folder_in_use(run, tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    assert main(["export", str(run), str(tmp_path)]) == 2
    assert "is not empty; export into a new folder" in capsys.readouterr().err


def test_verify_names_what_is_damaged(run, tmp_path, capsys):
    own = shutil.copytree(run, tmp_path / "run")
    state = next((own / "checkpoints").glob("*/state.json"))
    state.write_text(state.read_text() + " ")
    assert main(["verify", str(own)]) == 65
    assert "state.json has" in capsys.readouterr().out


def test_demo_makes_a_sheet_and_a_page(run, tmp_path, capsys):
    assert main(["demo", "--model", str(run), "--steps", "2", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out == [str(tmp_path / "sheet.png"), str(tmp_path / "sheet.html")]
    assert len(Page((tmp_path / "sheet.html").read_text()).sources) == 8


def test_bars_are_lines_where_nothing_can_move(capsys, monkeypatch):
    monkeypatch.setattr("sfumato.apps.bar.PATIENCE", 0)
    with Bar("working", Talk()) as bar:
        for i in range(101):
            bar.update(i / 100, "busy")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[0].startswith("working: 10%, 0.")
    assert lines[0].endswith(", busy")
    with Bar("working", Talk(quiet=True)) as bar:
        bar.update(1.0)
    assert capsys.readouterr().err == ""


def test_durations_are_said_as_people_say_them():
    assert [duration(s) for s in (0.04, 59.94, 61.0, 3599.0, 7260.0)] == [
        "0.0 s",
        "59.9 s",
        "1 min 01 s",
        "59 min 59 s",
        "2 h 01 min",
    ]


def test_folders_that_are_no_runs_are_named(tmp_path):
    with pytest.raises(DataError, match=r"is not a run: it has no config\.json"):
        facts.read_config(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(DataError, match="is not JSON"):
        facts.read_config(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(DataError, match="names no system"):
        facts.read_config(tmp_path)
