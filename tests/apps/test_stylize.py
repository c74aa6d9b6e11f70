"""The verbs stylize and dream, with a network that has learned nothing."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
import torch
from PIL import Image

import sfumato
from sfumato import config as plain
from sfumato.apps import facts
from sfumato.apps.cli import main
from sfumato.apps.preview import previewing
from sfumato.apps.verbs import module_of
from sfumato.core.checkpoint import RunFolder
from sfumato.core.recipe import Recipe
from sfumato.core.request import Dream, Progress, Stylize
from sfumato.data.textures import paint
from sfumato.errors import UsageError
from sfumato.images import read_settings, save_png, to_pil
from sfumato.nn.vgg import VGGConfig, random_vgg
from sfumato.systems.style.dream import Dreamer
from sfumato.systems.style.gatys import Gatys
from sfumato.systems.style.vgg import VGGNet, VGGNetConfig

FAST = ("--precision", "fp32", "--device", "cpu", "--quiet")


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Path:
    """A run of vgg, as if trained."""
    shape = VGGConfig(widths=(4, 6, 8), convs=(2, 2, 1), pooling="avg", padding="reflect", classes=2)
    config = VGGNetConfig(shape, classes=("cat", "dog"))
    system = VGGNet(config)
    system.network.load_state_dict(random_vgg(shape).state_dict())
    path = tmp_path_factory.mktemp("runs") / "vgg"
    RunFolder.create(path, Recipe("vgg", plain.to_dict(config), size=32)).write_model(system.state_dict())
    return path


@pytest.fixture
def files(tmp_path) -> Path:
    """A photograph taken with the camera held sideways, and a style."""
    exif = Image.Exif()
    exif[0x0112] = 6
    to_pil(paint(2, 60, 90)).save(tmp_path / "photo.jpg", exif=exif)
    save_png(to_pil(paint(4, 50, 40)), tmp_path / "style.png")
    return tmp_path


def ask(*words: object) -> int:
    return main([*map(str, words), *FAST])


def test_a_photograph_held_sideways_comes_out_upright_with_its_settings(network, files, capsys):
    words = ["--style", files / "style.png", "--features", network, "--size", 48, "--steps", 2, "--adam"]
    words = [*words[:-1], "--optimiser", "adam", "--keep-colour", "--out", files / "out"]
    assert ask("stylize", "--content", files / "photo.jpg", *words) == 0
    paths = capsys.readouterr().out.split()
    assert [Path(path).name for path in paths] == ["photo.png", "sheet.png"]
    with Image.open(paths[0]) as image:
        assert image.size == (32, 48)
    told = read_settings(paths[0])
    assert told["method"] == "gatys"
    assert told["styles"] == [str(files / "style.png")]
    assert told["settings"] == ["--optimiser", "adam"]
    assert told["features"] == str(network)
    assert (told["steps"], told["keep_colour"], told["size"], told["height"]) == (2, True, 48, 48)
    assert not (files / "out" / "preview.png").exists()


def test_a_folder_is_painted_in_two_styles(network, files, capsys):
    for k in range(3):
        save_png(to_pil(paint(k, 20, 24 + k)), files / "many" / f"{k}.png")
    style = files / "style.png"
    words = ["--style", style, style, "--weights", 0.7, 0.3, "--features", network, "--steps", 1]
    assert ask("stylize", files / "many", *words, "--out", files / "out") == 0
    names = [Path(path).name for path in capsys.readouterr().out.split()]
    assert names == ["0.png", "1.png", "2.png", "sheet.png"]
    assert read_settings(files / "out" / "1.png")["weights"] == [0.7, 0.3]


def test_a_dream_is_a_picture_or_a_film(network, files, capsys):
    words = ["--features", network, "--size", 40, "--steps", 1, "--octaves", 2, "--out", files / "out"]
    assert ask("dream", files / "photo.jpg", *words, "--label", "dog", "--step", 3) == 0
    told = read_settings(files / "out" / "photo.png")
    assert (told["label"], told["settings"], told["task"]) == ("dog", ["--step", "3"], "dream")
    assert ask("dream", files / "photo.jpg", *words, "--frames", 3, "--guide", files / "style.png") == 0
    names = [Path(path).name for path in capsys.readouterr().out.split()]
    assert names == ["photo.png", "sheet.png", "photo-2.gif", "photo-2.png"]
    with Image.open(files / "out" / "photo-2.gif") as film:
        assert film.n_frames == 3


def test_pictures_of_extreme_sizes(network, files, capsys):
    Image.new("RGB", (20_000, 30), "red").save(files / "wide.png")
    Image.new("RGB", (1, 1), "blue").save(files / "dot.png")
    words = ["--features", network, "--size", 64, "--steps", 1, "--out", files / "out"]
    assert ask("stylize", files / "wide.png", "--style", files / "dot.png", *words) == 0
    assert "style of 1 x 1 pixels has no texture" in capsys.readouterr().err
    with Image.open(files / "out" / "wide.png") as image:
        assert image.size == (64, 1)
    Image.new("L", (20_000, 3300)).save(files / "huge.png")
    assert ask("stylize", files / "huge.png", "--style", files / "dot.png", *words) == 65
    assert "20000 x 3300 pixels are more than the 64,000,000 allowed" in " ".join(
        capsys.readouterr().err.split()
    )


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["stylize", "{photo}", "--features", "{net}"], 2, "needs at least one style picture"),
        (["stylize", "--style", "{style}"], 2, "Which pictures? Give files"),
        (["stylize", "{photo}", "--style", "none.png", "--features", "{net}"], 65, "there is no such file"),
        (["stylize", "{photo}", "--size", "0"], 2, "--size must be at least 1, got 0"),
        (
            ["stylize", "{photo}", "--look-every", "-1", "--features", "{net}"],
            2,
            "at least 0 seconds, got -1",
        ),
        (
            ["stylize", "{photo}", "--features", "{net}", "--optimizer", "adam"],
            2,
            "did you mean '--optimiser'?",
        ),
        (["stylize", "{photo}", "--method", "fast", "--features", "{net}"], 2, "belongs to the method gatys"),
        (["stylize", "{photo}", "--method", "adain"], 2, "No model of the method adain comes along"),
        (["stylize", "{photo}", "--model", "{net}"], 2, "VGGNet cannot stylize"),
        (["stylize", "{photo}"], 2, "No vgg comes along; train one (sfumato train vgg --out RUN)"),
        (["stylize", "{photo}", "--features", "{photo}"], 65, "is damaged, or holds more than tensors"),
        (["dream", "{photo}", "--rate", "0"], 2, "--rate must be above 0"),
        (["dream", "{photo}", "--size", "0"], 2, "--size must be at least 1, got 0"),
        (["dream", "{photo}", "--features", "{net}", "--label", "dig"], 2, "did you mean 'dog'?"),
        (["dream", "{photo}", "--model", "{net}", "--features", "{net}"], 2, "--features does not apply"),
        (["train", "gatys", "--out", "{out}"], 2, "'gatys' has nothing to train: it uses a vgg as it is"),
    ],
)
def test_misuse_is_told_in_words(words, code, said, network, files, capsys, monkeypatch):
    monkeypatch.setattr(facts, "models", dict)
    known = {"photo": files / "photo.jpg", "style": files / "style.png", "net": network, "out": files / "out"}
    assert main([word.format(**known) for word in words]) == code
    told = capsys.readouterr()
    assert said in " ".join(told.err.split())
    assert told.out == ""


def test_what_needs_no_training_is_loaded_by_its_name(network, monkeypatch):
    monkeypatch.setattr(facts, "models", lambda: {"mine": network})
    system = sfumato.load("gatys", precision="fp32", device="cpu")
    assert isinstance(system, Gatys)
    weights = sfumato.load(network, precision="fp32", device="cpu").network.features[0].weight
    assert torch.equal(system.network.features[0].weight, weights)
    dream = sfumato.ask(Dream(images=paint(0, 20, 24)[None], steps=1), precision="fp32", quiet=True)
    assert dream.settings[0]["model"] == "dream"
    assert isinstance(sfumato.load("dream"), Dreamer)


def test_a_public_weight_file_is_looked_through(files, capsys):
    small = VGGConfig(widths=(3, 3), convs=(1, 1), classes=5, hidden=4)
    torch.save(random_vgg(small).state_dict(), files / "vgg.pth")
    words = ["--style", files / "style.png", "--features", files / "vgg.pth", "--size", 24, "--steps", 1]
    assert ask("stylize", files / "photo.jpg", *words, "--pooling", "avg", "--out", files / "out") == 2
    assert "did you mean '--network.pooling'?" in " ".join(capsys.readouterr().err.split())
    assert (
        ask("stylize", files / "photo.jpg", *words, "--network.pooling", "avg", "--out", files / "out") == 0
    )


def test_a_look_on_the_way_is_written_and_goes(tmp_path):
    seen = []
    with previewing(tmp_path, 1e-9) as look:
        look(Progress(0.5, lambda: torch.zeros(2, 3, 4, 6)))
        with Image.open(tmp_path / "preview.png") as image:
            seen.append(image.size)
        look(Progress(0.6))
    assert seen == [(2 * 8 + 2, 4 + 4)]
    assert not list(tmp_path.iterdir())
    (tmp_path / "preview.png").write_bytes(b"mine")
    with previewing(tmp_path, 1.0) as look:
        assert look is None
    assert (tmp_path / "preview.png").read_bytes() == b"mine"
    with pytest.raises(UsageError, match="at least 0 seconds, got -2"), previewing(tmp_path, -2.0):
        pass


@pytest.mark.parametrize("task", [Dream, Stylize])
def test_every_setting_of_a_request_can_be_typed(task):
    options = {field.name for field in fields(module_of(task.__name__.lower()).Options)}
    assert {field.name for field in fields(task)} - {"images", "count", "styles"} <= options


def test_masks_are_read_at_the_size_of_the_pictures(files):
    from sfumato.apps.given import Given, Part
    from sfumato.apps.stylize import _masks

    mask = Image.new("L", (8, 4))
    mask.paste(255, (4, 0, 8, 4))
    mask.save(files / "mask.png")
    part = Part(0, (Given(files / "photo.jpg", Path("photo"), True),), torch.zeros(1, 3, 10, 40))
    [found] = _masks([files / "mask.png"], part.pixels)
    assert found.shape == (1, 10, 40)
    assert (found[..., :12] == 0).all()
    assert (found[..., 28:] == 1).all()
    assert _masks([], part.pixels) is None
