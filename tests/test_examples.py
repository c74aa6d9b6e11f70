"""Every example runs as it stands, is short, and writes the pictures it speaks of."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from sfumato import config
from sfumato.core.checkpoint import RunFolder
from sfumato.core.recipe import Recipe
from sfumato.data.shapes import VOCABULARY
from sfumato.nn.autoencoder import AutoencoderConfig
from sfumato.nn.transformer import DiTConfig, WordsConfig
from sfumato.systems.diffusion.ldm import LDM, LDMConfig

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
LONGEST = 30
RUNS = {
    "denoise_step_by_step": (["--count", "2"], "steps.png", (13 * 66 + 2, 2 * 66 + 2)),
    "generate_from_words": (["--count", "2"], "out/grid.png", (134, 68)),
    "latent_map": (["--steps", "2", "--side", "3"], "map.png", (24, 24)),
    "solvers_side_by_side": ([], "solvers.png", (4 * 66 + 2, 4 * 66 + 2)),
    "train_on_a_folder": (["--steps", "1", "--paintings", "3"], "sunsets/grid.png", (4 * 34 + 2,) * 2),
    "transposed_convolution": ([], "transposed.png", (3 * 98 + 2, 2 * 98 + 2)),
    "without_a_network": (["--count", "50"], "points.png", (3 * 66 + 2,) * 2),
}
"""Arguments that make it quick, what it writes, and how large that is."""


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A model that reads words and has learned nothing, in place of the one that comes with the package."""
    system = LDM(
        LDMConfig(
            first_stage=AutoencoderConfig(widths=(8,), blocks=1, groups=4, patch=4, attention=False),
            text=WordsConfig(VOCABULARY, width=16, depth=1),
            network=DiTConfig(width=16, depth=1),
        )
    )
    recipe = Recipe("ldm", config.to_dict(system.config), data="shapes", size=64)
    folder = RunFolder.create(tmp_path_factory.mktemp("models") / "tiny", recipe)
    folder.write_model(system.state_dict())
    folder.unlock()
    return folder.path


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_an_example_runs(path, model, tmp_path, monkeypatch, capsys):
    arguments, written, size = RUNS[path.stem]
    if "model: str" in path.read_text():
        arguments = [*arguments, "--model", str(model)]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [path.name, *arguments])
    torch.manual_seed(0)
    runpy.run_path(str(path), run_name="__main__")
    assert written in capsys.readouterr().out
    with Image.open(tmp_path / written) as picture:
        assert picture.size == size


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_an_example_is_short(path):
    lines = [line for line in path.read_text().splitlines() if line.strip()]
    assert len(lines) <= LONGEST
