"""The verb physics: verdicts as text and JSON, animations and pictures that can be opened."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from sfumato.apps.cli import main
from sfumato.images import read_settings


def test_the_table_names_every_process(capsys):
    assert main(["physics", "list", "--json"]) == 0
    rows = {row["process"]: row for row in json.loads(capsys.readouterr().out)}
    assert len(rows) == 8
    assert rows["Yukawa"]["generative"] == "yes"
    assert rows["ideal wave"]["generative"] == "no"


def test_an_equation_is_judged_with_its_numbers(capsys):
    assert main(["physics", "check", "phi_tt + lap(phi) - m**2*phi", "--m", "3", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["generative"] == "yes"
    assert told["frequency"][0]["im"] == pytest.approx(-3)
    assert main(["physics", "check", "phi_tt - lap(phi)"]) == 0
    assert "generative: no; waves with k = 0.1 fade no faster" in capsys.readouterr().out


@pytest.mark.parametrize("process", ["flow", "yukawa"])
def test_particles_walk_in_an_animation(process, tmp_path, capsys):
    path = tmp_path / "walk.gif"
    arguments = ["--data", "points", "--process", process, "--steps", "2", "--particles", "260"]
    assert main(["physics", "play", *arguments, "--out", str(path)]) == 0
    assert capsys.readouterr().out.strip() == str(path)
    with Image.open(path) as film:
        assert film.n_frames >= 3
        assert json.loads(film.info["comment"])["process"] == process


def test_all_processes_stand_side_by_side(tmp_path):
    path = tmp_path / "field.png"
    arguments = ["--data", "points", "--steps", "3", "--particles", "256", "--solver", "euler"]
    assert main(["physics", "field", *arguments, "--out", str(path)]) == 0
    assert read_settings(path)["solver"] == "euler"
    with Image.open(path) as picture:
        assert picture.width > 600


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["check"], "needs an equation"),
        (["check", "phi_t - phi**2"], "not linear"),
        (["play", "phi_t"], "did you mean 'physics check'"),
        (["play", "--solver", "hein"], "did you mean 'heun'"),
        (["play", "--steps", "0"], "--steps must be at least 1"),
        (["play", "--process", "pfgm", "--solver", "ancestral", "--data", "points"], "no such noise"),
        (["play", "--process", "yukawa", "--particles", "9", "--data", "points"], "at least 256 particles"),
    ],
)
def test_misuse_is_told_in_words(args, words, capsys, tmp_path):
    assert main(["physics", *args, *(["--out", str(tmp_path / "x.gif")] if args[0] == "play" else [])]) == 2
    assert words in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize(("what", "suffix"), [("play", ".gif"), ("field", ".png")])
def test_a_file_is_named_as_what_it_is(what, suffix, tmp_path, capsys):
    assert main(["physics", what, "--out", str(tmp_path / "x.txt")]) == 2
    assert f"physics {what} writes a file that ends in {suffix}, got " in capsys.readouterr().err
