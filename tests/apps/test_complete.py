"""The verb ``complete``: what is kept stays, the rest follows from the prompt and the seed."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

import sfumato
from sfumato import config as plain
from sfumato.apps.cli import main
from sfumato.core.checkpoint import RunFolder
from sfumato.core.recipe import Recipe
from sfumato.core.request import Complete
from sfumato.images import read_settings, save_png, to_levels, to_pil
from sfumato.nn.autoencoder import AutoencoderConfig
from sfumato.nn.causal import CausalConfig
from sfumato.systems.autoencoders.vqvae import Hard, VQVAEConfig
from sfumato.systems.text.dalle import DALLE, DALLEConfig


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> str:
    """DALL-E before it has learned anything, for grey pictures of 12 x 12."""
    network = AutoencoderConfig(1, 3, widths=(8,), blocks=1, groups=4, patch=4, attention=False)
    config = DALLEConfig(
        height=12,
        width=12,
        vocabulary=("a", "star"),
        length=3,
        first_stage=VQVAEConfig(network, Hard(11)),
        network=CausalConfig(width=16, depth=1, heads=2),
    )
    torch.manual_seed(0)
    recipe = Recipe("dalle", plain.to_dict(config), data="shapes", size=12)
    folder = RunFolder.create(tmp_path_factory.mktemp("runs") / "dalle", recipe)
    folder.write_model(DALLE(config).state_dict())
    return str(folder.path)


def test_the_top_stays_and_the_rest_is_drawn(run, tmp_path, capsys):
    given = torch.rand(2, 1, 12, 12, generator=torch.Generator().manual_seed(1)) * 2 - 1
    for name, x in zip("ab", given, strict=True):
        save_png(to_pil(x), tmp_path / "given" / f"{name}.png")
    words = ["complete", str(tmp_path / "given"), "--prompt", "a star", "--keep", "0.3", "--model", run]
    assert main([*words, "--seed", "4", "--out", str(tmp_path / "out"), "--precision", "fp32"]) == 0
    names = [line.rpartition("/")[2] for line in capsys.readouterr().out.splitlines()]
    assert names == ["a.png", "b.png", "sheet.png"]
    for name, x, seed in zip("ab", given, (4, 5), strict=True):
        told = read_settings(tmp_path / "out" / f"{name}.png")
        expected = {"task": "complete", "prompt": "a star", "keep": 0.3, "seed": seed}
        assert expected.items() <= told.items()
        with Image.open(tmp_path / "out" / f"{name}.png") as picture:
            made = to_levels(picture)
        before = to_levels(to_pil(x))
        assert torch.equal(made[..., :4, :], before[..., :4, :])
        assert not torch.equal(made[..., 4:, :], before[..., 4:, :])


def test_what_cannot_be_kept_is_refused(run, tmp_path, capsys):
    save_png(to_pil(torch.zeros(1, 12, 12)), tmp_path / "a.png")
    assert main(["complete", str(tmp_path / "a.png"), "--keep", "1", "--model", run]) == 2
    assert "keep must leave 1 to 2 of the 3 rows of tokens, got 1;" in capsys.readouterr().err


def test_notebooks_complete_too_and_each_picture_knows_its_prompt(run):
    images = torch.zeros(3, 1, 12, 12)
    made = sfumato.ask(Complete(images=images, count=3, prompt=("a", "star"), seed=2), run, quiet=True)
    assert [told["prompt"] for told in made.settings] == ["a", "star", "a"]
    assert [told["seed"] for told in made.settings] == [2, 3, 4]
    assert torch.equal(made.pixels[:, :, :8], images[:, :, :8])
