"""Runs that build upon others: what the base learns from, whose shape counts, what a card says of a base."""

from __future__ import annotations

from pathlib import Path

import torch

import sfumato
from sfumato.apps import plan as plans
from sfumato.data.shapes.related import RelatedShapes
from sfumato.images import save_png, to_pil


def test_a_base_learns_from_data_of_its_own_unless_the_user_chose_the_data(tmp_path):
    usual = plans.new("imagen", "laptop", tmp_path / "usual")
    below = usual.first_stage()
    assert below is not None
    lowest = below.first_stage()
    assert lowest is not None
    assert [p.recipe.data for p in (usual, below, lowest)] == [
        "related-shapes",
        "related-shapes",
        "shape-stories",
    ]
    assert [p.recipe.system for p in (usual, below, lowest)] == ["imagen", "imagen", "t5"]
    chosen = plans.new("imagen", "base", tmp_path / "chosen", data="one-shape").first_stage()
    assert chosen is not None
    assert chosen.recipe.data == "one-shape"
    assert plans.new("ldm", "shapes", tmp_path / "ldm").first_stage().recipe.data == "shapes"


def test_a_run_takes_the_shape_of_the_base_it_is_given_and_its_card_says_how_to_go_on(tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    for i, image in enumerate(RelatedShapes("test", 24, length=6).batch(torch.arange(6))["image"]):
        save_png(to_pil(image), own / f"{i}.png")
        (own / f"{i}.txt").write_text(f"picture number {i}, a fine one")
    settings = {"network.width": 24, "network.layers": 1}
    below = sfumato.train(
        "t5", data=own, out=tmp_path / "t5", settings=settings, size=24, steps=1, batch=2, quiet=True
    )
    assert f"sfumato train SYSTEM --base {tmp_path / 't5'}" in (tmp_path / "t5" / "README.md").read_text()
    plan = plans.new(
        "imagen", "base", tmp_path / "bag", data=str(own), size=48, base=tmp_path / "t5", settings=["--bag"]
    )
    assert plan.config.bag
    assert plan.config.text.network == below.config.network
    system = plan.build()
    system.adopt(plans.load_base(tmp_path / "t5"))
    given = below.network.shared.weight.float()
    assert (system.text.shared.weight - given).abs().max() < 0.02, "up to the half precision of an answer"


def test_the_tower_that_reads_is_the_base_s(tmp_path):
    base = sfumato.load("shapes")
    plan = plans.new("inpainting", "laptop", tmp_path / "run", base=Path("shapes"))
    assert plan.config.text == base.config.text
    system = plan.build()
    system.adopt(base)
    assert system.text.embedding.weight.equal(base.text.embedding.weight.float())
