"""The verb ``caption``, and prompts expanded on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sfumato import config as plain
from sfumato.apps.cli import main
from sfumato.apps.generate import longer
from sfumato.apps.load import load
from sfumato.core.checkpoint import RunFolder
from sfumato.core.generate import Generate
from sfumato.core.recipe import Recipe
from sfumato.core.request import Caption
from sfumato.data import open_data
from sfumato.data.shapes.expansion import expanded
from sfumato.images import open_image, save_png, to_pil, to_tensor
from sfumato.nn.causal import CausalConfig
from sfumato.nn.vit import VitConfig
from sfumato.systems.text.captioner import Captioner, CaptionerConfig


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> str:
    """A captioner before it has learned anything, for pictures of 8 x 8."""
    eyes = VitConfig(size=(8, 8), patch=4, width=8, layers=1, heads=2, hidden=8)
    config = CaptionerConfig(eyes, CausalConfig(width=16, depth=1, heads=2), ("red", "star"), length=4)
    torch.manual_seed(3)
    recipe = Recipe("captioner", plain.to_dict(config), data="shapes", size=8)
    folder = RunFolder.create(tmp_path_factory.mktemp("runs") / "captioner", recipe)
    system = Captioner(config)
    torch.nn.init.constant_(system.network.head.bias[:1], -10)  # it never ends before its last word
    folder.write_model(system.state_dict())
    return str(folder.path)


@pytest.fixture
def photos(tmp_path) -> Path:
    """Eight pictures, of which four have captions already."""
    for i in range(8):
        x = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(i)) * 2 - 1
        file = tmp_path / "photos" / ("deep" if i % 2 else "") / f"{i}.png"
        save_png(to_pil(x), file)
        if i < 4:
            file.with_suffix(".txt").write_text(f"own words of {i}\n")
    return tmp_path / "photos"


def said(run: str, photos: Path, seed: int) -> dict[str, str]:
    """What the captioner says of each file, warm."""
    names = sorted(str(path.relative_to(photos)) for path in photos.rglob("*.png"))
    images = torch.stack([to_tensor(open_image(photos / name), 3) for name in names])
    system = load(run, precision="fp32", device="cpu")
    *_, answer = system.run(Caption(images=images, count=8, seed=seed, temperature=1.0))
    return dict(zip(names, answer.texts, strict=True))


def test_pictures_are_described_and_can_be_learned_from(run, photos, tmp_path, capsys):
    out = tmp_path / "out"
    words = [
        "caption",
        str(photos),
        "--model",
        run,
        "--temperature",
        "1",
        "--share",
        "0.5",
        "--out",
        str(out),
    ]
    assert main([*words, "--dataset", "--precision", "fp32", "--seed", "5"]) == 0
    printed = dict(line.split("\t") for line in capsys.readouterr().out.splitlines())
    new = said(run, photos, 5)
    assert {str(photos / name) for name in new} == printed.keys()
    kept = 0
    for name, text in new.items():
        mine, number = printed[str(photos / name)], int(Path(name).stem)
        own = mine == f"own words of {number}"
        kept += own
        assert own or mine == text
        assert number < 4 or not own
        assert (out / name).with_suffix(".txt").read_text().strip() == mine
        assert (out / name).read_bytes() == (photos / name).read_bytes()
    assert kept == 2
    data = open_data(str(out), size=8, needs=frozenset({"caption"}))
    assert sorted(data.batch(torch.arange(8))["caption"]) == sorted(printed.values())

    assert main([*words, "--precision", "fp32", "--seed", "6"]) == 65
    assert "holds another text already; give another --out" in capsys.readouterr().err


def test_captions_as_json_and_what_is_refused(run, photos, tmp_path, capsys):
    words = ["caption", str(photos / "0.png"), "--model", run, "--out", str(tmp_path / "out")]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [Path(file).name for file in told["files"]] == ["0.txt"]
    assert len(told["captions"]) == 1
    assert not (tmp_path / "out" / "0.png").exists()
    assert main([*words, "--share", "2"]) == 2
    assert "--share must lie between 0 and 1, got 2" in capsys.readouterr().err


def test_prompts_are_expanded_by_the_seed_of_their_picture():
    request = longer(Generate(prompt=("a red circle", "a star"), count=3, seed=8))
    assert request.prompt == (
        expanded("a red circle", 8),
        expanded("a star", 9),
        expanded("a red circle", 10),
    )
    assert longer(Generate(prompt="a star", count=1, seed=9)).prompt == (expanded("a star", 9),)
