"""ONNX files: what another program computes from them is what we compute, at any size that fits."""

from __future__ import annotations

import json
import sys

import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator

from sfumato import config
from sfumato.apps.cli import main
from sfumato.apps.export import write_onnx
from sfumato.core.checkpoint import RunFolder
from sfumato.core.recipe import Recipe
from sfumato.core.request import Stylize
from sfumato.errors import MissingExtraError
from sfumato.nn.image_transform import ImageTransformConfig
from sfumato.systems.style.faststyle import FastStyle, FastStyleConfig


@pytest.fixture
def run(tmp_path) -> tuple[str, FastStyle]:
    torch.manual_seed(0)
    shape = ImageTransformConfig(width=2, blocks=1, kernel=5)
    system = FastStyle(FastStyleConfig(network=shape, style_height=1, style_width=1))
    system.network.last.weight.data *= 3
    folder = RunFolder.create(tmp_path / "run", Recipe("faststyle", config.to_dict(system.config)))
    folder.write_model(system.state_dict())
    return str(folder.path), system.eval()


def test_another_program_computes_the_same(run, tmp_path, capsys):
    path, system = run
    file = tmp_path / "out" / "style.onnx"
    assert main(["export", path, str(file)]) == 0
    assert capsys.readouterr().out.split() == [str(file)]
    model = onnx.load(file)
    onnx.checker.check_model(model)
    told = json.loads(next(p.value for p in model.metadata_props if p.key == "sfumato"))
    assert told["sides are multiples of"] == 4
    for size in ((24, 40), (16, 12)):
        levels = (torch.rand(1, 3, *size) * 255).round()
        [painted] = ReferenceEvaluator(model).run(None, {"picture": levels.numpy()})
        with torch.no_grad():
            *_, answer = system.run(Stylize(images=levels / 127.5 - 1, count=1))
        assert painted.std() > 5
        assert (torch.from_numpy(painted) / 127.5 - 1 - answer.pixels).abs().max() < 1e-4
    assert main(["export", path, str(file)]) == 2
    assert "is there already; choose another name" in capsys.readouterr().err


def test_systems_that_are_no_single_network_are_refused(tmp_path, capsys):
    assert main(["export", "shapes", str(tmp_path / "shapes.onnx")]) == 2
    assert "is no single network from pictures to pictures" in capsys.readouterr().err


def test_without_onnx_the_extra_is_named(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingExtraError, match='ONNX needs the extra "onnx": pip install'):
        write_onnx(run[1], tmp_path / "a.onnx", "a")
