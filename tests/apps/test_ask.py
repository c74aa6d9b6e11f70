"""The verbs that ask a model for something: each writes what it promises, with its settings inside."""

from __future__ import annotations

import json
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

import sfumato
from sfumato.apps import facts
from sfumato.apps.cli import main
from sfumato.apps.film import Film, stills
from sfumato.apps.load import load
from sfumato.apps.remake import SHOWN
from sfumato.apps.sample import verb_of
from sfumato.apps.verbs import VERBS, module_of
from sfumato.core import request as requests
from sfumato.errors import StorageError, UsageError
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
    """Three pictures that the toy can make, as files: one wider than high, one in a subfolder."""
    pixels = toy.picture(torch.randn(3, 4, generator=torch.Generator().manual_seed(1))).detach()
    paths = [tmp_path / "given" / name for name in ("a.png", "b.png", "deep/c.png")]
    for path, x in zip(paths, pixels, strict=True):
        save_png(to_pil(x), path)
    return paths


def read(path: Path) -> torch.Tensor:
    with Image.open(path) as image:
        return to_levels(image).int()


def grey_levels(x: torch.Tensor) -> torch.Tensor:
    return ((x + 1) * 127.5).round().int()


# --- walk --------------------------------------------------------------------------------------------


def test_a_walk_is_a_gif_and_a_strip_of_stills(run, toy, tmp_path, capsys):
    out = tmp_path / "out"
    assert ask("walk", run, out, "--count", 3, "--frames", 4, "--seed", 7, "--way", "lerp") == 0
    said = capsys.readouterr()
    gif, strip = out / "walk-000007.gif", out / "walk-000007.png"
    assert said.out.splitlines() == [str(gif), str(strip)]
    assert "9 frames over 3 pictures, 1.8 s long" in said.err
    told = read_settings(strip)
    expected = {"seed": 7, "count": 3, "frames": 4, "way": "lerp", "loop": False, "rate": 5.0, "task": "walk"}
    assert expected.items() <= told.items()
    asked = requests.Walk(seed=7, count=3, frames=4, way="lerp")
    *_, video = toy.run(asked)
    with Image.open(gif) as film:
        assert (film.n_frames, film.size, film.info["duration"]) == (9, (22 * 6, 22 * 6), 200)
        assert json.loads(film.info["comment"]) == told
        for i in (0, 5, 8):
            film.seek(i)
            shown = to_levels(film.convert("RGB").resize((6, 6), Image.Resampling.NEAREST)).int()
            assert (shown - grey_levels(video.pixels[0, i])).abs().max() <= 1
    with Image.open(strip) as sheet:
        assert sheet.size == (5 * 98 + 2, 2 * 98 + 2)


def test_a_walk_may_lead_between_pictures_and_back(run, files, tmp_path, capsys):
    args = (*files, "--frames", 3, "--loop", "--rate", 10, "--json")
    assert ask("walk", run, tmp_path / "out", *args) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["frames"] == 9
    assert told["files"][0].endswith("walk-a.gif")
    with Image.open(told["files"][0]) as film:
        film.seek(3)
        shown = to_levels(film.convert("RGB").resize((6, 6), Image.Resampling.NEAREST)).int()
    assert (shown - read(files[1])).abs().max() <= 2
    assert read_settings(told["files"][1])["pictures"] == [str(path) for path in files]


def test_a_walk_can_be_an_mp4(run, tmp_path):
    import av

    assert ask("walk", run, tmp_path, "--frames", 6, "--rate", 12.5, "--mp4") == 0
    with av.open(str(tmp_path / "walk-000000.mp4")) as film:
        [stream] = film.streams
        assert (stream.width, stream.height, stream.average_rate) == (132, 132, 12.5)
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(stream)]
        told = json.loads(film.metadata["comment"])
    assert len(frames) == 19
    assert told == read_settings(tmp_path / "walk-000000.png")
    with Image.open(tmp_path / "walk-000000.gif") as first:
        wanted = torch.tensor(list(first.convert("RGB").get_flattened_data())).view(132, 132, 3).float()
    assert (torch.tensor(frames[0]).float() - wanted).abs().mean() < 12, "colours are kept at half resolution"
    assert ask("walk", run, tmp_path, "--frames", 6, "--rate", 12.5, "--mp4") == 0
    assert len(list(tmp_path.iterdir())) == 3, "the same walk lands in the same files"


def test_without_pyav_an_mp4_is_refused_before_anything_is_made(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    assert ask("walk", run, tmp_path, "--mp4") == 69
    assert 'needs the extra "video": pip install "sfumato[video]"' in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_files_of_one_film_keep_one_number_and_nothing_is_overwritten(run, tmp_path):
    (tmp_path / "walk-000000.gif").write_bytes(b"somebody else's")
    ask("walk", run, tmp_path, "--frames", 2)
    ask("walk", run, tmp_path, "--frames", 3)
    ask("walk", run, tmp_path, "--frames", 2)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"walk-000000.gif"} | {
        f"walk-000000-{i}.{kind}" for i in (2, 3) for kind in ("gif", "png")
    }
    assert (tmp_path / "walk-000000.gif").read_bytes() == b"somebody else's"


def test_the_strip_shows_every_way_from_picture_to_picture():
    assert stills(2, 3, loop=False) == ((0, 1, 2, 3),)
    assert stills(3, 100, loop=True)[2][-1] == 0
    assert all(len(row) == 9 for row in stills(4, 16, loop=False))
    assert stills(4, 16, loop=False)[-1][-1] == 48


# --- mix ---------------------------------------------------------------------------------------------


def test_a_mix_is_a_sheet_with_its_sources_in_the_first_row_and_column(run, toy, tmp_path, capsys):
    assert ask("mix", run, tmp_path, "--coarse", 1, 2, "--fine", 3, 4, 5, "--crossover", 1) == 0
    names = [Path(line).name for line in capsys.readouterr().out.splitlines()]
    assert names == [f"00000{a}-00000{b}.png" for a in (1, 2) for b in (3, 4, 5)] + ["sheet.png"]
    *_, wanted = toy.run(requests.Mix(count=1, coarse=(2,), fine=(4,), crossover=1))
    assert (read(tmp_path / names[4]) - grey_levels(wanted.pixels[0])).abs().max() == 0
    told = read_settings(tmp_path / names[4])
    assert (told["coarse"], told["fine"], told["crossover"], told["task"]) == ([2], [4], 1, "mix")
    *_, source = toy.run(requests.Generate(seed=4, count=1))
    with Image.open(tmp_path / "sheet.png") as sheet:
        cell = sheet.crop((28 + 2 * 210, 72, 28 + 2 * 210 + 192, 72 + 192)).resize(
            (6, 6), Image.Resampling.NEAREST
        )
    assert (to_levels(cell).int() - grey_levels(source.pixels[0])).abs().max() == 0


# --- pictures from pictures --------------------------------------------------------------------------


def test_translating_a_folder_keeps_its_names_and_shows_before_and_after(run, files, tmp_path, capsys):
    out = tmp_path / "out"
    (files[0].parent / "broken.jpg").write_bytes(b"no picture")
    assert ask("translate", run, out, files[0].parent, "--direction", "darker", "--seed", 3) == 0
    said = capsys.readouterr()
    assert [str(Path(line).relative_to(out)) for line in said.out.splitlines()] == [
        "a.png",
        "b.png",
        "deep/c.png",
        "sheet.png",
    ]
    assert "left out: Cannot read picture" in said.err
    assert "it is a toy" in said.err
    for path in files:
        made = out / path.relative_to(files[0].parent)
        assert (read(made) - (read(path) / 2)).abs().max() <= 1
    told = read_settings(out / "deep" / "c.png")
    assert (told["task"], told["seed"], told["count"], told["direction"]) == ("translate", 5, 1, "darker")
    assert told["file"] == str(files[2])
    assert told["model"] == str(run)
    with Image.open(out / "sheet.png") as sheet:
        assert sheet.height > 3 * 192
        assert sheet.width >= 2 * 192
    assert read_settings(out / "sheet.png")["pictures"][0] == "a.png"


def test_pictures_are_scaled_to_what_the_model_learned_or_left_whole(run, tmp_path):
    save_png(to_pil(torch.zeros(3, 9, 14)), tmp_path / "x.png")
    for more, size in (((), (6, 6)), (("--size", 4), (4, 4)), (("--whole",), (14, 9))):
        assert ask("translate", run, tmp_path / str(size), tmp_path / "x.png", *more) == 0
        with Image.open(tmp_path / str(size) / "x.png") as picture:
            assert picture.size == size


def test_upscaling_shows_bicubic_beside_and_may_go_tile_by_tile(run, files, tmp_path, capsys):
    out = tmp_path / "out"
    assert ask("upscale", run, out, files[0], "--tile", 8, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["files"] == [str(out / "a.png"), str(out / "sheet.png")]
    assert torch.equal(read(out / "a.png"), read(files[0]).repeat_interleave(2, 1).repeat_interleave(2, 2))
    with Image.open(out / "sheet.png") as sheet:
        assert sheet.width >= 3 * 320
    assert ask("upscale", run, tmp_path / "other", files[0], "--tile", 4) == 0
    assert read(tmp_path / "other" / "a.png").max() <= 128, "the toy is darker with small tiles"


def test_projecting_finds_latents_and_saves_them(run, toy, files, tmp_path, capsys):
    out = tmp_path / "out"
    assert ask("project", run, out, *files[:2], "--steps", 5) == 0
    names = [Path(line).name for line in capsys.readouterr().out.splitlines()]
    assert names == ["a.png", "b.png", "sheet.png", "latents.safetensors"]
    latents = load_file(out / "latents.safetensors")["latents"]
    assert (toy.picture(latents) - to_tensor(Image.open(files[1]))).abs()[1].max() < 0.02
    assert (read(out / "b.png") - read(files[1])).abs().max() <= 2
    with safe_open(out / "latents.safetensors", framework="pt") as file:
        told = json.loads(file.metadata()["sfumato"])
    assert told["pictures"] == ["a.png", "b.png"]
    assert ask("project", run, out, *files[:2], "--steps", 5) == 0
    assert len(list(out.iterdir())) == 4


def test_editing_makes_new_pictures_or_changes_given_ones(run, toy, files, tmp_path, capsys):
    words = "square - circle"
    assert ask("edit", run, tmp_path / "new", words, "--count", 2, "--seed", 4) == 0
    names = [Path(line).name for line in capsys.readouterr().out.splitlines()]
    assert names == ["000004-square-circle.png", "000005-square-circle.png", "grid.png"]
    assert read_settings(tmp_path / "new" / names[1])["seed"] == 5
    *_, wanted = toy.run(requests.Edit(prompt=words, seed=4, count=2))
    assert torch.equal(read(tmp_path / "new" / names[1]), grey_levels(wanted.pixels[1]))
    assert ask("edit", run, tmp_path / "changed", words, files[0], "--strength", 0) == 0
    assert (read(tmp_path / "changed" / "a.png") - read(files[0])).abs().max() <= 2
    assert read_settings(tmp_path / "changed" / "a.png")["prompt"] == words


def test_varying_makes_several_of_each_picture(run, toy, files, tmp_path, capsys):
    out = tmp_path / "out"
    assert ask("vary", run, out, files[0], files[2], "--count", 2, "--strength", 0.5, "--seed", 4) == 0
    names = [Path(line).name for line in capsys.readouterr().out.splitlines()]
    assert names == ["000004-a.png", "000005-a.png", "grid.png", "000006-c.png", "000007-c.png", "grid-2.png"]
    given = to_tensor(Image.open(files[2]))[None]
    *_, wanted = toy.run(requests.Vary(images=given, seed=6, count=2, strength=0.5))
    assert (read(out / "000007-c.png") - grey_levels(wanted.pixels[1])).abs().max() <= 1
    told = read_settings(out / "000007-c.png")
    assert (told["task"], told["seed"], told["file"]) == ("vary", 7, str(files[2]))


def test_a_picture_of_ours_is_varied_by_what_made_it(run, tmp_path, capsys):
    assert ask("edit", run, tmp_path / "made", "red - blue", "--count", 1) == 0
    made = Path(capsys.readouterr().out.splitlines()[0])
    assert main(["vary", str(made), "--count", "1", "--out", str(tmp_path / "out"), *FAST]) == 0
    told = read_settings(Path(capsys.readouterr().out.splitlines()[0]))
    assert (told["prompt"], told["model"]) == ("red - blue", str(run))
    assert main(["vary", str(made), "--count", "0"]) == 2
    assert "--count must be at least 1, got 0" in capsys.readouterr().err


def test_reconstructing_many_shows_some_and_writes_all(run, toy, tmp_path, capsys):
    pixels = toy.picture(torch.randn(SHOWN + 3, 4, generator=torch.Generator().manual_seed(2))).detach()
    for i, x in enumerate(pixels):
        save_png(to_pil(x), tmp_path / "given" / f"{i:02d}.png")
    assert ask("reconstruct", run, tmp_path / "out", tmp_path / "given", "-q") == 0
    assert len(capsys.readouterr().out.splitlines()) == SHOWN + 4
    assert (read(tmp_path / "out" / "26.png") - read(tmp_path / "given" / "26.png")).abs().max() <= 2
    with Image.open(tmp_path / "out" / "sheet.png") as sheet:
        assert sheet.width >= 6 * 192


# --- what cannot be asked ----------------------------------------------------------------------------


def test_a_model_that_cannot_says_who_can(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(SYSTEMS, "translator", "tests.apps.toy:Translator")
    run = write_run(tmp_path / "translator", system="translator")
    assert ask("project", run, tmp_path / "out", tmp_path) == 2
    said = capsys.readouterr().err
    assert "Translator cannot project; what it can: translate." in said
    assert "toy" in said
    assert "(sfumato train" in said
    assert ask("generate", run, tmp_path / "out") == 2
    assert "Translator cannot generate; what it can: translate. Models that can: " in capsys.readouterr().err


def test_without_a_model_that_comes_along_systems_are_named(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(facts, "models", dict)
    assert main(["mix", "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "No model that comes along can mix; give one with --model." in said
    assert "toy" in said


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["walk", "--count", "1"], 2, "needs at least 2, got 1"),
        (["walk", "--frames", "0"], 2, "--frames must be at least 1, got 0"),
        (["walk", "--rate", "0"], 2, "--rate must be above 0"),
        (["walk", "--way", "slurp"], 2, "slurp"),
        (["mix", "--coarse"], 2, "--coarse"),
        (["project", "x.png", "--steps", "0"], 2, "--steps must be at least 1, got 0"),
        (["edit", "words", "--count", "0"], 2, "--count must be at least 1, got 0"),
        (["edit"], 2, "PROMPT"),
        (["translate", "--model", "{run}"], 2, "Which pictures? Give files, or a folder"),
        (["translate", "none.png", "--model", "{run}"], 65, "There is no picture and no folder 'none.png'"),
        (["translate", "{run}", "--model", "{run}"], 65, "holds no pictures"),
        (["translate", "{run}/config.json", "--model", "{run}"], 65, "Cannot read picture"),
        (["translate", "x", "--whole", "--size", "3", "--model", "{run}"], 2, "give one of the two"),
        (["translate", "x", "--size", "0", "--model", "{run}"], 2, "--size must be at least 1, got 0"),
        (["translate", "{picture}", "--direction", "up", "--model", "{run}"], 2, "Unknown direction 'up'"),
        (["trnslate"], 2, "did you mean 'translate'?"),
        (["generate", "--from", "{made}"], 2, "was made by 'sfumato translate'"),
    ],
)
def test_misuse_is_told_in_words(args, code, words, run, tmp_path, capsys):
    save_png(to_pil(torch.zeros(3, 5, 5)), tmp_path / "x.png")
    made = {"task": "translate", "seed": 0, "model": "x"}
    save_png(to_pil(torch.zeros(3, 5, 5)), tmp_path / "made.png", made)
    known = {"run": run, "picture": tmp_path / "x.png", "made": tmp_path / "made.png"}
    assert main([arg.format(**known) for arg in args]) == code
    said = capsys.readouterr()
    assert words in " ".join(said.err.split())
    assert said.out == ""


def test_a_folder_of_broken_pictures_is_an_error(run, tmp_path, capsys):
    (tmp_path / "a.png").write_bytes(b"nothing")
    assert ask("translate", run, tmp_path / "out", tmp_path) == 65
    assert "None of the 1 pictures can be read" in capsys.readouterr().err


def test_tiles_are_refused_where_a_system_has_none(run):
    from sfumato.apps.upscale import tiled

    kind = sfumato.registry.find("ddpm", SYSTEMS, "system")
    with (
        torch.device("meta"),
        pytest.raises(UsageError, match="DDPM enlarges pictures whole; leave --tile out"),
    ):
        tiled(kind(kind.presets["digits"].config), 64)


# --- all of them -------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", Toy.tasks)
def test_every_setting_of_a_request_can_be_typed(task):
    """Pictures are given as files; how many they are follows from that."""
    options = {field.name for field in fields(module_of(verb_of(task)).Options)}
    assert {field.name for field in fields(task)} - {"images", "count"} <= options
    assert {"model", "out", "seed", "precision", "device", "json"} <= options


def test_every_task_of_every_system_is_a_verb():
    tasks = {task for name in SYSTEMS for task in sfumato.registry.find(name, SYSTEMS, "system").tasks}
    assert {verb_of(task) for task in tasks} <= VERBS.keys()


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_that_takes_pictures_says_how_many_channels_they_have(name):
    kind = sfumato.registry.find(name, SYSTEMS, "system")
    if any("images" in {field.name for field in fields(task)} for task in kind.tasks):
        with torch.device("meta"):
            assert kind(next(iter(kind.presets.values())).config).channels in (1, 3)


# --- in Python ---------------------------------------------------------------------------------------


def test_in_a_notebook_answers_show_themselves(run, toy, tmp_path):
    film = sfumato.ask(sfumato.Walk(count=2, frames=3), run, precision="fp32", quiet=True)
    assert isinstance(film, Film)
    assert (len(film), film.rate) == (4, 5.0)
    assert '<img alt="4 frames" src="data:image/gif;base64,' in film._repr_html_()
    *_, video = toy.run(sfumato.Walk(count=2, frames=3))
    assert video._repr_html_() in film._repr_html_()
    pictures = sfumato.ask(sfumato.Invert(images=video.pixels[0], count=4, seed=9), run, quiet=True)
    assert pictures.latents.shape == (4, 4)
    assert pictures.seeds == (9, 10, 11, 12)
    assert pictures._repr_png_().startswith(b"\x89PNG")
    assert sfumato.ask(sfumato.Walk(count=3, frames=4), run, quiet=True).rows == stills(3, 4, loop=False)
    mixed = sfumato.ask(sfumato.Mix(coarse=(1, 2), fine=(3,)), run, quiet=True)
    assert [(told["coarse"], told["fine"]) for told in mixed.settings] == [((1,), (3,)), ((2,), (3,))]
    assert len(mixed.save(tmp_path)) == 3
    with pytest.raises(StorageError, match=r"grid\.png' is a file; choose another folder"):
        mixed.save(tmp_path / "grid.png")
    assert [path.name for path in film.save(str(tmp_path / "film"))] == ["film.gif", "film.png"]
    *_, images = toy.run(sfumato.Generate(count=2))
    assert images._repr_png_().startswith(b"\x89PNG")
    assert len(sfumato.ask(sfumato.Generate(count=1, truncation=0.5), run, quiet=True)) == 1
