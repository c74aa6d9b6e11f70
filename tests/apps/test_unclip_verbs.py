"""The verbs that unCLIP brought: pictures turned into one another, and changed by the difference of texts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from sfumato.apps.cli import main
from sfumato.apps.load import load
from sfumato.data.shapes.corner import CornerShape
from sfumato.images import read_settings, save_png, to_levels, to_pil, to_tensor
from sfumato.registry import SYSTEMS

from .toy import FAST, Toy, ask, write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "toy")


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(SYSTEMS, "toy", "tests.apps.toy:Toy")


@pytest.fixture
def toy(run) -> Toy:
    return load(run, precision="fp32", device="cpu")


@pytest.fixture
def files(toy, tmp_path) -> list[Path]:
    """Three pictures that the toy can make."""
    pixels = toy.picture(torch.randn(3, 4, generator=torch.Generator().manual_seed(1))).detach()
    paths = [tmp_path / "given" / name for name in ("a.png", "b.png", "c.png")]
    for path, x in zip(paths, pixels, strict=True):
        save_png(to_pil(x), path)
    return paths


def read(path: Path) -> torch.Tensor:
    with Image.open(path) as image:
        return to_levels(image.convert("RGB").resize((6, 6), Image.Resampling.NEAREST)).int()


def test_an_interpolation_is_a_film_that_meets_its_pictures(run, files, tmp_path, capsys):
    out = tmp_path / "out"
    given = ("interpolate", run, out, *files, "--frames", 3, "--seed", 5)
    assert ask(*given, "--stills", "--noise", "fixed") == 0
    said = capsys.readouterr()
    frames = [out / "interpolate-a" / f"{i:04d}.png" for i in range(7)]
    paths = [out / "interpolate-a.gif", out / "interpolate-a.png", *frames]
    assert said.out.splitlines() == [str(path) for path in paths]
    assert "7 frames over 3 pictures, 1.8 s long" in said.err
    for file, frame in zip(files, frames[::3], strict=True):
        assert (read(frame) - read(file)).abs().max() <= 2
    told = read_settings(frames[2])
    expected = {"task": "interpolate", "seed": 5, "frames": 3, "noise": "fixed", "frame": 2, "rate": 4.0}
    assert expected.items() <= told.items()
    assert told["pictures"] == [str(path) for path in files]
    with Image.open(paths[0]) as film:
        assert (film.n_frames, film.info["duration"]) == (7, 250)
    assert ask(*given, "--rate", 10, "--json") == 0
    assert json.loads(capsys.readouterr().out)["rate"] == 10


def test_a_text_difference_shows_before_and_after(run, toy, files, tmp_path, capsys):
    out = tmp_path / "out"
    words = ("--from", "a ring", "--to", "a circle", "--theta", 0.1)
    assert ask("textdiff", run, out, *files[:2], *words) == 0
    names = [Path(line).name for line in capsys.readouterr().out.splitlines()]
    assert names == ["a.png", "b.png", "sheet.png"]
    told = read_settings(out / "b.png")
    expected = {"task": "textdiff", "source": "a ring", "target": "a circle", "theta": 0.1}
    assert expected.items() <= told.items()
    with torch.no_grad():
        z = toy.latents(to_tensor(Image.open(files[1]))[None])
        wanted = toy.picture(z + 0.2)
    assert (read(out / "b.png") - ((wanted[0] + 1) * 127.5).round().int()).abs().max() <= 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("textdiff", "{a}", "--from", "a star"), "Which difference? Give both texts: --from"),
        (("interpolate", "{a}"), "One picture turns into another, so give at least 2, got 1"),
        (("interpolate", "{a}", "{b}", "--frames", "0"), "--frames must be at least 1, got 0"),
        (("interpolate", "{a}", "{b}", "--rate", "200"), "at most 100 frames a second, got 200"),
        (("interpolate",), "Which pictures? Give files, or a folder"),
    ],
)
def test_misuse_is_told_in_words(words, message, run, files, tmp_path, capsys):
    told = [word.format(a=files[0], b=files[1]) for word in words]
    assert main([*told, "--model", str(run), "--out", str(tmp_path / "out"), *FAST]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_one_command_trains_clip_priors_and_decoder_which_serve_every_verb(tmp_path, capsys):
    batch = CornerShape("train", 16).batch(torch.arange(8))
    for i, (pixels, caption) in enumerate(zip(batch["image"], batch["caption"], strict=True)):
        save_png(to_pil(pixels), tmp_path / "data" / f"{i}.png")
        (tmp_path / "data" / f"{i}.txt").write_text(caption)
    run, out, given = tmp_path / "run", tmp_path / "out", tmp_path / "data" / "3.png"
    train = ["train", "unclip", "laptop", "--data", str(tmp_path / "data"), "--size", "16", "--batch", "4"]
    steps = ["--steps", "1", "--base-steps", "1", "--previews", "0", "--precision", "fp32"]
    assert main([*train, *steps, "--out", str(run)]) == 0
    said = capsys.readouterr().err
    assert said.index("First stage: prior corners") < said.index("First stage: clip corners")
    below = [load(run / path, precision="fp32") for path in ("first_stage", "first_stage/first_stage")]
    system = load(run, precision="fp32")
    for mine, theirs in ((system.prior, below[0]), (below[0].clip, below[1])):
        assert all(torch.equal(x, theirs.state_dict()[name]) for name, x in mine.state_dict().items())

    fast = ("--steps", 2, "--seed", 4)
    for verb, *words in (
        ("generate", "a red circle", "--count", 1, "--prior", "autoregressive", *fast),
        ("vary", given, "--count", 2, "--strength", 0.5, *fast),
        ("interpolate", given, tmp_path / "data" / "4.png", "--frames", 2, *fast),
        ("textdiff", given, "--from", "a star", "--to", "a circle", *fast),
    ):
        assert ask(verb, run, out / verb, *words) == 0
        assert capsys.readouterr().out
    mask = torch.full((3, 16, 16), -1.0)
    mask[:, 8:, :9] = 1
    save_png(to_pil(mask), tmp_path / "mask.png")
    assert ask("edit", run, out, "a blue star", given, "--mask", tmp_path / "mask.png", *fast) == 0
    changed = (to_levels(Image.open(out / "3.png")).int() - to_levels(Image.open(given)).int()).abs()
    assert changed[:, mask[0] < 0].max() == 0
    assert changed[:, mask[0] > 0].float().mean() > 10
