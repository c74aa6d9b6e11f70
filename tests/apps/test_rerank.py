"""The best of several: chosen by a judge, and made again without one."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

import sfumato
from sfumato.apps import facts
from sfumato.apps.cli import main
from sfumato.apps.load import load
from sfumato.apps.pictures import Pictures
from sfumato.apps.rerank import candidates
from sfumato.core.generate import Generate
from sfumato.images import read_settings, to_levels
from sfumato.registry import SYSTEMS

from .toy import write_run

FAST = ("--precision", "fp32", "--device", "cpu")


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(SYSTEMS, "toy", "tests.apps.toy:Toy")
    monkeypatch.setitem(SYSTEMS, "judge", "tests.apps.toy:Judge")


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[str, str]:
    """A toy that draws, and one that judges."""
    folder = tmp_path_factory.mktemp("runs")
    return str(write_run(folder / "toy")), str(write_run(folder / "judge", system="judge"))


def expected(run: str, seed: int, many: int, sign: int) -> tuple[int, torch.Tensor]:
    """The seed of the brightest (or darkest) of so many pictures, and that picture."""
    with torch.no_grad():
        *_, answer = load(run, precision="fp32", device="cpu").run(Generate(seed=seed, count=many))
    place = int((sign * answer.pixels.mean((1, 2, 3))).argmax())
    return seed + place, answer.pixels[place]


def test_the_best_of_several_is_kept_and_can_be_made_again(runs, tmp_path, capsys):
    run, judge = runs
    words = ["generate", "bright", "dark", "--count", "3", "--seed", "7", "--best-of", "5", "--judge", judge]
    assert main([*words, "--model", run, "--out", str(tmp_path / "a"), *FAST]) == 0
    said = capsys.readouterr()
    best = [expected(run, 7, 5, 1), expected(run, 12, 5, -1), expected(run, 17, 5, 1)]
    names = [f"{seed:06d}-{w}.png" for (seed, _), w in zip(best, ("bright", "dark", "bright"), strict=True)]
    assert [line.rpartition("/")[2] for line in said.out.splitlines()] == [*names, "grid.png"]
    assert "it is a toy judge" in said.err
    for (seed, pixels), name, sign in zip(best, names, (1, -1, 1), strict=True):
        told = read_settings(tmp_path / "a" / name)
        assert {"seed": seed, "best_of": 5, "judge": judge}.items() <= told.items()
        assert told["score"] == pytest.approx(sign * float(pixels.mean()), abs=1e-4)
        assert main(["generate", "--from", str(tmp_path / "a" / name), "--out", str(tmp_path / "b")]) == 0
        with Image.open(tmp_path / "a" / name) as first, Image.open(tmp_path / "b" / name) as again:
            assert torch.equal(to_levels(first), to_levels(again))


def test_it_is_there_for_notebooks_too(runs):
    run, judge = runs
    settings = {"model": run, "count": 2, "seed": 3, "precision": "fp32", "device": "cpu", "quiet": True}
    made = sfumato.generate("bright", best_of=4, judge=judge, **settings)
    best = [expected(run, 3, 4, 1), expected(run, 7, 4, 1)]
    assert made.seeds == tuple(seed for seed, _ in best)
    assert torch.allclose(made.pixels, torch.stack([pixels for _, pixels in best]), atol=1e-5)
    plain = sfumato.generate("bright", **settings)
    assert plain.seeds == (3, 4)
    assert made.pixels.mean() > plain.pixels.mean()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--best-of", "0"), "--best-of must be at least 1, got 0"),
        (("--judge", "x"), "A judge chooses among several pictures; say among how many with --best-of"),
        (("--best-of", "2", "--progressive"), "no history is kept; leave one of the two out"),
        (("--best-of", "2", "--judge", "{run}"), "Toy cannot clip; what it can: "),
        (("--best-of", "2", "--judge", "{judge}"), "closest to their words; give a prompt"),
        (("--best-of", "2"), "No model that comes along scores pictures; give one with --judge. "),
    ],
)
def test_what_cannot_be_chosen_is_refused(runs, words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(facts, "WEIGHTS", tmp_path)
    run, judge = runs
    given = [word.format(run=run, judge=judge) for word in words]
    assert main(["generate", "--model", run, "--out", str(tmp_path / "out"), *given]) == 2
    assert message in capsys.readouterr().err


def test_pictures_can_be_picked():
    pixels = torch.randn(3, 1, 2, 2)
    whole = Pictures(pixels, (1, 2, 3), ("a", "b", "c"), ({}, {"x": 1}, {}), history=(pixels, -pixels))
    some = whole.pick([2, 1])
    assert torch.equal(some.pixels, pixels[[2, 1]])
    assert (some.seeds, some.captions, some.settings) == ((3, 2), ("c", "b"), ({}, {"x": 1}))
    assert torch.equal(some.history[1], -pixels[[2, 1]])


def test_candidates_keep_prompt_and_label():
    wide = candidates(Generate(prompt="a", label=("x", "y"), count=2, seed=4), 2)
    assert (wide.count, wide.seed) == (4, 4)
    assert wide.prompt == ("a",) * 4
    assert wide.label == ("x", "x", "y", "y")
