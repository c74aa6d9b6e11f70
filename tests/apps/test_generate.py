"""Pictures become files that tell how they were made, and nothing is overwritten by something else."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image

import sfumato
from sfumato.apps.cli import main
from sfumato.apps.generate import _label
from sfumato.apps.load import load
from sfumato.apps.pictures import free, slug
from sfumato.apps.sample import Source, caption_of, sample
from sfumato.core.generate import Generate
from sfumato.errors import UsageError
from sfumato.images import read_settings, save_png, to_levels, to_pil

FAST = ("--steps", "3", "--solver", "ddim", "--precision", "fp32")


def generate(run, out, *more: str) -> int:
    return main(["generate", "--model", str(run), "--out", str(out), *FAST, *more])


def test_one_png_a_picture_named_by_seed_and_a_grid(run, tmp_path, capsys):
    assert generate(run, tmp_path, "--count", "3", "--seed", "7", "--label", "3,4") == 0
    said = capsys.readouterr()
    names = ["000007-3.png", "000008-4.png", "000009-3.png", "grid.png"]
    assert said.out.splitlines() == [str(tmp_path / name) for name in names]
    assert "seed 7 to 9" in said.err
    with Image.open(tmp_path / names[0]) as picture, Image.open(tmp_path / "grid.png") as grid:
        assert picture.size == (8, 8)
        assert grid.size == (22, 22)
    told = read_settings(tmp_path / "000008-4.png")
    expected = {"seed": 8, "count": 1, "label": "4", "steps": 3, "solver": "ddim", "height": 8, "width": 8}
    assert expected.items() <= told.items()
    assert told["model"] == str(run)
    assert len(told["sha256"]) == 64


def test_a_picture_is_made_again_from_its_own_file(run, tmp_path, capsys):
    generate(run, tmp_path / "a", "--count", "4", "--seed", "2", "--label", "5")
    assert (
        main(["generate", "--from", str(tmp_path / "a" / "000004-5.png"), "--out", str(tmp_path / "b")]) == 0
    )
    first, again = (read(tmp_path / folder / "000004-5.png") for folder in "ab")
    assert (first - again).abs().max() <= 1
    assert main(["generate", "--from", str(tmp_path / "a" / "grid.png")]) == 2
    assert "is a grid, not one picture; give one of" in capsys.readouterr().err


def read(path) -> torch.Tensor:
    with Image.open(path) as image:
        return to_levels(image).int()


def test_pictures_of_other_settings_are_kept(run, tmp_path):
    generate(run, tmp_path, "--count", "1")
    before = (tmp_path / "000000.png").read_bytes()
    generate(run, tmp_path, "--count", "1", "--eta", "0.5")
    assert (tmp_path / "000000.png").read_bytes() == before
    assert read_settings(tmp_path / "000000-2.png")["eta"] == 0.5
    generate(run, tmp_path, "--count", "1")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000-2.png", "000000.png"]
    assert (tmp_path / "000000.png").read_bytes() == before


def test_a_foreign_file_is_never_overwritten(tmp_path):
    (tmp_path / "x.png").write_text("no picture")
    save_png(to_pil(torch.zeros(3, 4, 5)), tmp_path / "x-2.png", None)
    assert free(tmp_path / "x.png", {}).name == "x-3.png"


def test_progressive_shows_the_way_from_noise(run, tmp_path):
    assert generate(run, tmp_path, "--count", "2", "--progressive") == 0
    with Image.open(tmp_path / "progressive.png") as sheet:
        assert sheet.size == (3 * 10 + 2, 2 * 10 + 2)


def test_json_reports_files_and_seeds(run, tmp_path, capsys):
    assert generate(run, tmp_path, "--count", "2", "--json") == 0
    said = capsys.readouterr()
    told = json.loads(said.out)
    assert told["seeds"] == [0, 1]
    assert len(told["files"]) == 3
    assert said.err == ""


def test_what_cannot_be_asked_is_refused(run, tmp_path, capsys):
    assert generate(run, tmp_path, "--count", "0") == 2
    assert "--count must be at least 1, got 0" in capsys.readouterr().err
    assert generate(run, tmp_path, "--label", "12") == 2
    assert main(["generate", "--model", str(run), "--solver", "dimm"]) == 2
    assert "did you mean 'ddim'?" in capsys.readouterr().err


def test_a_picture_does_not_depend_on_its_company(run):
    system = load(run, precision="fp32")
    request = Generate(count=5, seed=3, steps=3, solver="ddim", label=("1", "2"))
    together = sample(system, request, Source("x")).pixels
    alone = sample(system, request, Source("x"), keep_history=True)
    assert (together - alone.pixels).abs().max() * 127.5 < 1
    assert len(alone.history) == 3
    assert alone.history[0].shape == together.shape


def test_captions_are_taken_in_turn():
    request = Generate(prompt=("a", "b"), count=3)
    assert [caption_of(request, i) for i in range(3)] == ["a", "b", "a"]
    assert caption_of(Generate(label=("boot", "coat")), 1) == "coat"
    assert caption_of(Generate(label=0), 2) == "0"
    assert caption_of(Generate(), 0) == ""


def test_labels_are_parted_at_commas():
    assert _label("boot, coat") == ("boot", "coat")
    assert _label("7") == "7"
    assert _label(None) is None


def test_systems_that_cannot_generate_say_what_they_can(tmp_path):
    kind = sfumato.registry.find("kl", sfumato.SYSTEMS, "system")
    system = kind(kind.presets["laptop"].config)
    with pytest.raises(UsageError, match="KL cannot generate; what it can: reconstruct"):
        sample(system, Generate(), Source("x"))


def test_names_of_files_are_harmless():
    assert slug("../../etc/passwd") == "-etc-passwd"
    assert slug("<b>Ünïcode\n") == "-b-n-code"
    assert len(slug("word " * 100)) <= 41


def test_in_a_notebook_pictures_show_themselves(run):
    pictures = sfumato.generate(
        Generate(label=3, count=2, seed=5, steps=2, solver="ddim"), model=run, precision="fp32", quiet=True
    )
    assert pictures._repr_png_().startswith(b"\x89PNG")
    assert pictures._repr_html_().count("data:image/png;base64,") == 2
    assert "3 (seed 6)" in pictures._repr_html_()
    assert [image.size for image in pictures] == [(8, 8), (8, 8)]
    assert pictures.seeds == (5, 6)


def test_a_requests_settings_can_be_said_in_the_call(run):
    plain = {"model": run, "precision": "fp32", "quiet": True}
    asked = Generate(label=3, count=1, steps=2, solver="ddim", seed=5)
    said = sfumato.generate(count=1, seed=5, label=3, steps=2, solver="ddim", **plain)
    assert torch.equal(said.pixels, sfumato.generate(asked, **plain).pixels)
    with pytest.raises(UsageError, match="Generate has no 'step'; did you mean 'steps'"):
        sfumato.generate(step=2, **plain)
    with pytest.raises(UsageError, match=r"'steps' is said beside a whole request; say it in Generate"):
        sfumato.generate(asked, steps=3, **plain)
