"""The commands that ask latent diffusion's other tasks, on tiny runs that know nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sfumato import config as plain
from sfumato.apps.cli import main
from sfumato.core.checkpoint import RunFolder
from sfumato.core.recipe import Recipe
from sfumato.images import open_image, read_settings, save_png, to_pil, to_tensor
from tests.systems.test_latent_tasks import IMAGES, MASK, tiny


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A run of each system."""
    top = tmp_path_factory.mktemp("runs")
    for name in ("layout", "inpainting", "semantic", "ldmsr"):
        system = tiny(name)
        run = RunFolder.create(top / name, Recipe(name, plain.to_dict(system.config), data="shapes", size=24))
        run.write_model(system.state_dict())
    return top


def told(capsys) -> dict:
    return json.loads(capsys.readouterr().out)


def test_layout_writes_pictures_with_their_boxes_and_a_sheet(runs, tmp_path, capsys):
    file, out = tmp_path / "boxes.json", tmp_path / "out"
    boxes = [
        {"label": "red circle", "box": [0.1, 0.2, 0.5, 0.6]},
        {"label": "blue star", "box": [0.5, 0, 1, 0.4]},
    ]
    file.write_text(json.dumps(boxes))
    command = ["layout", "--boxes", str(file), "--count", "2", "--seed", "7", "--steps", "2"]
    command += ["--model", str(runs / "layout"), "--out", str(out), "--json"]
    assert main(command) == 0
    found = told(capsys)
    names = [Path(name).name for name in found["files"]]
    assert names == [
        "000007-red-circle-blue-star.png",
        "000008-red-circle-blue-star.png",
        "grid.png",
        "sheet.png",
    ]
    settings = read_settings(out / names[0])
    assert settings["boxes"] == boxes
    assert (settings["task"], settings["seed"], settings["steps"]) == ("layout", 7, 2)
    assert "layouts" not in settings
    assert main(command) == 0, "the same again keeps its names"
    assert told(capsys)["files"] == found["files"]


def test_the_sheet_draws_boxes_where_they_are():
    from sfumato.apps.layout import LINE, framed
    from sfumato.data.boxes import Box

    sheet = framed(None, [Box("red circle", 0.25, 0.5, 0.75, 1.0)], 101)
    assert sheet.size == (101, 101)
    for place in ((25, 50), (75, 100), (25, 100), (50, 50)):
        assert sheet.getpixel(place) == LINE
    assert sheet.getpixel((10, 10)) == (255, 255, 255)
    picture = framed(to_pil(IMAGES[0]), [Box("red circle", 0.25, 0.5, 0.75, 1.0)], 101)
    assert picture.getpixel((25, 50)) == LINE
    assert picture.getpixel((50, 75)) != LINE


def test_layouts_faults_are_told(runs, tmp_path, capsys):
    model = ["--model", str(runs / "layout"), "--out", str(tmp_path / "out")]
    assert main(["layout", *model]) == 2
    assert "sfumato layout --boxes boxes.json" in capsys.readouterr().err
    assert main(["layout", "--boxes", str(tmp_path / "none.json"), *model]) == 65
    file = tmp_path / "boxes.json"
    file.write_text('[{"label": "red circel", "box": [0.1, 0.2, 0.5, 0.6]}]')
    assert main(["layout", "--boxes", str(file), *model]) == 2
    assert "did you mean 'red circle'" in capsys.readouterr().err
    assert main(["layout", "--boxes", str(file), "--count", "0", *model]) == 2
    assert main(["layout", "--boxes", str(file), "--model", str(runs / "ldmsr")]) == 2
    assert "LDMSR cannot layout; what it can: upscale" in capsys.readouterr().err


def test_edit_paints_inside_the_mask_alone(runs, tmp_path, capsys):
    picture, mask = tmp_path / "picture.png", tmp_path / "mask.png"
    given = IMAGES[:1, :, :, 8:32]
    save_png(to_pil(given[0]), picture)
    save_png(to_pil(2 * MASK[0, :, :, 8:32] - 1), mask)
    command = ["edit", "a red circle", str(picture), "--mask", str(mask), "--steps", "2", "--json"]
    assert main([*command, "--model", str(runs / "inpainting"), "--out", str(tmp_path / "out")]) == 0
    made = to_tensor(open_image(told(capsys)["files"][0]))
    changed = (made - to_tensor(open_image(picture))).abs().amax(0) > 0
    assert not (changed & (MASK[0, 0, :, 8:32] == 0)).any()
    assert changed.any()
    save_png(to_pil(-torch.ones(3, 24, 24)), mask)
    assert main([*command, "--model", str(runs / "inpainting"), "--out", str(tmp_path / "dark")]) == 2
    assert "mask.png is dark everywhere, so nothing would be painted" in capsys.readouterr().err


@pytest.mark.parametrize(("verb", "name", "side"), [("translate", "semantic", 24), ("upscale", "ldmsr", 96)])
def test_maps_become_pictures_and_small_pictures_large(runs, tmp_path, capsys, verb, name, side):
    picture = tmp_path / "given.png"
    save_png(to_pil(torch.ones(3, 24, 24)), picture)
    command = [verb, str(picture), "--model", str(runs / name), "--out", str(tmp_path / "out"), "--json"]
    assert main(command) == 0
    assert open_image(told(capsys)["files"][0]).size == (side, side)
