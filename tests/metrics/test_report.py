"""The report: rows with spread and controls, the gate of digits, captions, warnings, and the page."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch
from torch import Tensor

from sfumato.data.dataset import Facts, Subset
from sfumato.data.digits import Digits
from sfumato.data.shapes import Shapes
from sfumato.errors import DataError, UsageError
from sfumato.metrics.classifier import gaussian_control
from sfumato.metrics.features import Inception, Pixels
from sfumato.metrics.inception import InceptionV3
from sfumato.metrics.page import page
from sfumato.metrics.report import digits_gate, draw, evaluate
from sfumato.metrics.results import Report, Row


class Noise:
    """Pictures without labels or captions, 5 x 7 pixels in 3 channels."""

    def __init__(self, length: int, seed: int):
        facts = Facts("noise", channels=3, height=5, width=7, fields=frozenset({"image"}))
        self.facts, self._all = (
            facts,
            torch.rand(length, 3, 5, 7, generator=torch.Generator().manual_seed(seed)),
        )

    def __len__(self) -> int:
        return len(self._all)

    def batch(self, indices: Tensor) -> dict[str, Tensor]:
        return {"image": self._all[indices] * 2 - 1}


def rows_of(report: Report) -> dict[str, Row]:
    return {row.metric: row for row in report.rows}


@pytest.fixture(scope="module")
def gates() -> dict[str, dict[str, Row]]:
    held, train = draw(Digits("test"), 597), draw(Digits("train"), 1200)
    assert held.labels is not None
    control = gaussian_control(train.pixels, 600, seed=7)
    found = {
        "held": digits_gate(held.pixels, held.labels),
        "control": digits_gate(control, torch.arange(600) % 10),
        "copies": digits_gate(train.pixels[:600], train.labels[:600]),
    }
    return {name: {row.metric: row for row in rows} for name, rows in found.items()}


def test_real_digits_pass_the_gate(gates):
    assert all(row.passed is not False for row in gates["held"].values())
    limits = {row.metric: row.limit for row in gates["held"].values() if row.limit is not None}
    assert sorted(limits.values()) == [0.75, 0.8, 0.85, 0.97]


def test_the_gaussian_control_fails_where_it_must(gates):
    control = gates["control"]
    failed = {name for name, row in control.items() if row.passed is False}
    assert failed == {"Accuracy of labels", "Precision (pixels)", "Frechet distance (pixels)"}
    assert control["Accuracy of labels"].value == pytest.approx(0.1, abs=0.06)
    distance = control["Frechet distance (pixels)"]
    assert distance.real is not None
    assert distance.control is not None
    assert distance.real < 0.5 < 0.8 < distance.control


def test_copies_pass_everything_but_the_memorisation_guard(gates):
    failed = {name for name, row in gates["copies"].items() if row.passed is False}
    assert failed == {"Nearest-neighbour ratio (pixels)"}
    assert gates["copies"]["Nearest-neighbour ratio (pixels)"].value == 0


def test_digits_of_another_size_are_judged_alike(gates):
    held = draw(Digits("test", size=11), 597)
    rows = {row.metric: row for row in digits_gate(held.pixels, held.labels)}
    for name, row in gates["held"].items():
        assert rows[name].value == pytest.approx(row.value, abs=1e-4), name


def test_every_row_says_how_sure_it_is_and_what_to_compare_it_with():
    train, held = Noise(90, 0), Noise(40, 1)
    report = evaluate(held.batch(torch.arange(40))["image"], train, held=Noise(50, 2), model="noise")
    assert [row.metric for row in report.rows] == [
        "Frechet distance (pixels)",
        "Kernel distance (pixels)",
        "Precision (pixels)",
        "Recall (pixels)",
        "Nearest-neighbour ratio (pixels)",
    ]
    for row in report.rows:
        assert row.n == 40
        assert row.spread is not None
        assert row.spread_of
        assert row.real is not None
        assert row.control is not None
        assert row.passed is None
    assert report.warnings == (
        "pixels: 40 pictures cannot fix a covariance of 105 dimensions: the distance is biased upwards; "
        "use more than 105 pictures or a smaller feature space.",
    )


def test_without_held_out_pictures_it_still_judges():
    train = Noise(90, 0)
    report = evaluate(Noise(40, 1).batch(torch.arange(40))["image"], train)
    assert all(row.real is None for row in report.rows[:-1])
    assert report.rows[-1].value == pytest.approx(1, abs=0.1)
    copied = evaluate(train.batch(torch.arange(40))["image"], train)
    assert any("may repeat what it has seen" in text for text in copied.warnings)
    assert torch.equal(copied.pairs.generated, copied.pairs.training)


def test_captions_of_shapes_are_read_back():
    train, held = Shapes("train", 32, length=60), Shapes("test", 32, length=40)
    asked = draw(held, 40, seed=3)
    assert asked.captions is not None
    report = evaluate(asked.pixels, train, held=held, captions=asked.captions, spaces=(Pixels(8),))
    full = rows_of(report)["Captions met in full"]
    assert full.n == 40
    assert full.value > 0.8
    assert full.control is not None
    assert full.control < 0.3
    assert {"Right: shape", "Right: colour", "Right: background"} <= rows_of(report).keys()
    assert rows_of(report)["Frechet distance (pixels, averaged to 8 x 8)"].n == 40


def test_in_inception_and_only_there_it_is_fid():
    space = Inception(InceptionV3().eval())
    report = evaluate(Noise(10, 1).batch(torch.arange(10))["image"], Noise(10, 0), spaces=(space,))
    assert [row.metric for row in report.rows[:5]] == [
        "FID",
        "KID",
        "Precision (inception)",
        "Recall (inception)",
        "Inception score",
    ]
    assert "inception: 10 pictures cannot fix a covariance of 2048 dimensions" in report.warnings[0]


def test_the_same_seed_gives_the_same_report():
    pixels = Noise(40, 1).batch(torch.arange(40))["image"]
    reports = [evaluate(pixels, Noise(90, 0), held=Noise(50, 2), seed=5) for _ in range(2)]
    assert reports[0].to_json() == reports[1].to_json()


def test_drawing_takes_different_examples_with_their_labels():
    digits = Digits("test")
    some = draw(Subset(digits, range(20)), 15, seed=1)
    assert len(some.pixels) == 15
    assert some.captions is None
    found = {
        (tuple(x.flatten().tolist()), int(label)) for x, label in zip(some.pixels, some.labels, strict=True)
    }
    batch = digits.batch(torch.arange(20))
    known = {
        (tuple(x.flatten().tolist()), int(y)) for x, y in zip(batch["image"], batch["label"], strict=True)
    }
    assert len(found) == 15
    assert found <= known


@pytest.fixture(scope="module")
def gated() -> Report:
    held = draw(Digits("test"), 30)
    row = Row("A <b> & c", 0.5, 30, "pixels", "high", 0.1, "standard error", 1.0, 0.0, limit=0.6)
    report = evaluate(held.pixels, Digits("train"), held=Digits("test"), labels=held.labels, model="x <y>")
    return Report(report.model, report.data, (row, *report.rows), report.warnings, report.sheet, report.pairs)


def test_the_table_and_the_json_say_the_same(gated):
    head, *lines = gated.table()
    assert head == ("measure", "value", "real pictures", "control", "asked", "n")
    assert lines[0] == ("A <b> & c", "0.500 ± 0.100", "1.000", "0.000", ">= 0.600 FAILED", "30")
    data = json.loads(json.dumps(gated.to_json()))
    assert [row["metric"] for row in data["rows"]] == [line[0] for line in lines]
    assert data["rows"][0]["passed"] is False
    assert data["data"] == "digits"


class Tags(HTMLParser):
    """Keeps count of open tags."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.images.append(str(dict(attrs)["src"]))
            assert dict(attrs)["alt"]
        elif tag not in ("meta", "!doctype"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_stands_on_its_own(gated):
    text = page(gated)
    tags = Tags()
    tags.feed(text)
    assert not tags.open
    assert len(tags.images) == len(gated.sheet) + 2 * 8
    assert all(source.startswith("data:image/png;base64,") for source in tags.images)
    assert not re.search(r"https?:|<script|<link|@import|url\(", text)
    assert "x &lt;y&gt; on digits" in text
    assert "A &lt;b&gt; &amp; c" in text
    assert "prefers-color-scheme: dark" in text
    assert 'class="bad">failed' in text
    assert "cannot fix a covariance of 64 dimensions" in text


def test_answers_to_pictures_lie_beside_these(gated):
    assert "Pictures for pictures" not in page(gated)
    shown = (("given", gated.sheet[:3, :, :4]), ("made", gated.sheet[:3]))
    text = page(replace(gated, answers=shown))
    assert "From left to right: given, made." in text
    assert text.count('alt="given"') == text.count('alt="made"') == 3


def test_wrong_input_is_refused():
    train = Noise(90, 0)
    pixels = Noise(40, 1).batch(torch.arange(40))["image"]
    with pytest.raises(UsageError, match="4 generated and 90 real pictures say too little; give at least 10"):
        evaluate(pixels[:4], train)
    with pytest.raises(UsageError, match=r"are \(3, 5, 6\), those of 'noise' \(3, 5, 7\)"):
        evaluate(pixels[..., :6], train)
    with pytest.raises(UsageError, match="There are 39 captions for 40 pictures"):
        evaluate(pixels, train, captions=["a"] * 39)
    with pytest.raises(DataError, match="hold NaN or infinity"):
        evaluate(pixels / 0 * 0, train)
