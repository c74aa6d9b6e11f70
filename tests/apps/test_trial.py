"""Systems that answer pictures with pictures are shown, and measured, on examples of their own data."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

from sfumato.apps.cli import main
from sfumato.apps.evaluate import Tried, faithful
from sfumato.apps.trial import Targets, side_by_side, trial
from sfumato.apps.watch import preview
from sfumato.core.request import Edit, Reconstruct, Upscale
from sfumato.core.system import TrainConfig
from sfumato.core.trainer import Trainer
from sfumato.data import open_data
from sfumato.images import read_settings, to_levels, to_pil
from sfumato.registry import SYSTEMS

from .toy import Toy, ToyConfig, Translator, write_run


class Enlarger(Toy):
    """The toy, if it could only enlarge."""

    tasks = (Upscale,)


BATCH = {"image": torch.rand(3, 3, 9, 14) * 2 - 1, "source": torch.zeros(3, 3, 9, 14)}


def test_what_is_asked_follows_from_the_fields_of_the_data():
    tried = trial(Toy(ToyConfig()), BATCH, 5)
    assert isinstance(tried.request, Reconstruct)
    assert (tried.request.seed, tried.request.count, tried.wanted is BATCH["image"]) == (5, 3, True)
    tried = trial(Translator(ToyConfig()), BATCH, 0)
    assert tried.request.images is BATCH["source"]
    assert tried.wanted is BATCH["image"]
    apart = trial(Translator(ToyConfig()), {"a": BATCH["source"], "b": BATCH["image"]}, 0)
    assert apart.given is BATCH["source"]
    assert apart.wanted is None
    generator = type("Generator", (Toy,), {"tasks": ()})
    assert trial(generator(ToyConfig()), BATCH, 0) is None


def test_examples_are_made_smaller_as_pillow_does_it():
    tried = trial(Enlarger(ToyConfig()), BATCH, 0)
    assert tried.wanted.shape == (3, 3, 8, 12)
    whole = to_pil(tried.wanted[0])
    small = to_levels(whole.resize((3, 2), Image.Resampling.BICUBIC)).int()
    assert (((tried.given[0] + 1) * 127.5).round().int() - small).abs().max() <= 1
    large = to_levels(to_pil(tried.given[0]).resize((12, 8), Image.Resampling.BICUBIC)).int()
    assert (((tried.simple[0] + 1) * 127.5).round().int() - large).abs().max() <= 1


def test_given_made_and_wanted_lie_side_by_side():
    tried = trial(Enlarger(ToyConfig()), BATCH, 0)
    shown = side_by_side(tried, tried.simple)
    assert shown.shape == (9, 3, 8, 12)
    assert torch.equal(shown[3], interpolate(tried.given, (8, 12), mode="nearest")[1])
    assert torch.equal(shown[7], tried.simple[2])
    assert torch.equal(shown[8], tried.wanted[2])
    assert len(side_by_side(trial(Toy(ToyConfig()), BATCH, 0), BATCH["image"])) == 6


@pytest.mark.parametrize(
    ("kind", "data", "size", "columns", "each"),
    [
        (Translator, "edges-to-shapes", 32, 6, 3),
        (Translator, "plain-to-striped", 32, 4, 2),
        (Toy, "digits", 8, 4, 2),
    ],
)
def test_training_shows_what_becomes_of_examples(kind, data, size, columns, each):
    needs = frozenset({"source"} if "edges" in data else {"a", "b"} if "plain" in data else {"image"})
    opened = open_data(data, size=size, needs=needs)
    system = kind(ToyConfig(opened.facts.channels, size))
    trainer = Trainer(system, opened, TrainConfig(steps=1, batch=2), device=torch.device("cpu"))
    shown, count = preview(trainer, opened, 12)
    assert (len(shown), count) == (6 * each, columns)
    assert preview(trainer, opened, 0) is None


def test_answers_are_measured_beside_what_takes_no_learning():
    wanted = torch.rand(4, 1, 12, 12) - 0.5
    rows = faithful(Tried(wanted, wanted + 0.2, wanted, wanted + 0.02, torch.arange(4)))
    assert [row.metric for row in rows] == ["PSNR (dB)", "SSIM"]
    assert (rows[0].value, rows[0].control) == (pytest.approx(20.0), pytest.approx(40.0, abs=1e-3))
    assert rows[0].spread == pytest.approx(0.0, abs=1e-4)
    [row] = faithful(Tried(wanted, wanted[..., :5], wanted[..., :5], None, torch.arange(4)))
    assert row.control < 20
    assert faithful(Tried(wanted, wanted, None, None, torch.arange(4))) == []


def test_evaluating_an_autoencoder_measures_new_pictures_and_faithfulness(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(SYSTEMS, "toy", "tests.apps.toy:Toy")
    run = write_run(tmp_path / "toy", ToyConfig(channels=1, side=8), data="digits")
    assert main(["evaluate", str(run), "--count", "12", "--precision", "fp32", "--json"]) == 0
    rows = {row["metric"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    assert rows["PSNR (dB)"]["n"] == 12
    assert rows["PSNR (dB)"]["control"] > 0
    assert "Precision (pixels)" in rows


def test_targets_are_the_second_domain():
    opened = open_data("plain-to-striped", size=32, split="test")
    targets = Targets(opened)
    rows = torch.tensor([3, 1])
    assert torch.equal(targets.batch(rows)["image"], opened.batch(rows)["b"])
    assert (len(targets), targets.facts.fields) == (len(opened), frozenset({"image"}))
    assert replace(targets.facts, fields=opened.facts.fields) == opened.facts


def test_data_shows_both_pictures_of_a_pair_and_writes_them_as_files(tmp_path, capsys):
    args = ["data", "edges-to-shapes", "--count", "2", "--size", "32", "--files", str(tmp_path / "edges")]
    assert main([*args, "--out", str(tmp_path / "sheet.png"), "--split", "test"]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [str(tmp_path / "sheet.png"), str(tmp_path / "edges")]
    names = sorted(str(path.relative_to(tmp_path / "edges")) for path in (tmp_path / "edges").rglob("*.png"))
    assert names == ["image/000000.png", "image/001999.png", "source/000000.png", "source/001999.png"]
    opened = open_data("edges-to-shapes", size=32, split="test")
    with Image.open(tmp_path / "edges" / "image" / "001999.png") as picture:
        wanted = opened.batch(torch.tensor([1999]))["image"][0]
        assert torch.equal(to_levels(picture).int(), ((wanted + 1) * 127.5).round().int())
    assert read_settings(tmp_path / "sheet.png")["title"].startswith("edges-to-shapes")
    assert main(args) == 2
    assert "is not empty; give --files a new folder" in capsys.readouterr().err


def test_captions_are_written_beside_files(tmp_path):
    assert (
        main(["data", "shapes", "--count", "2", "--size", "32", "--files", str(tmp_path / "new"), "-q"]) == 0
    )
    assert open_data(str(tmp_path / "new"), size=32).facts.fields == frozenset({"image", "caption"})


def test_inpainting_is_tried_on_a_hole_in_the_middle():
    only = type("Inpainter", (Toy,), {"tasks": (Edit,)})
    tried = trial(only(ToyConfig()), BATCH, 2)
    assert isinstance(tried.request, Edit)
    assert tried.request.mask.sum((1, 2, 3)).tolist() == [5 * 8] * 3
    assert torch.equal(tried.given, BATCH["image"] * (1 - tried.request.mask))
    assert tried.wanted is BATCH["image"]
