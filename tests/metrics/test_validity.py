"""Painting anew: real pictures leave nothing over, others do, and saturation is seen where it is none."""

from __future__ import annotations

import torch

from sfumato.data.shapes.related import RelatedShapes
from sfumato.metrics.oracle import evaluation_oracle
from sfumato.metrics.validity import painted_anew, validity


def test_real_pictures_are_valid_and_noise_is_not():
    data = RelatedShapes("test", 27, length=24)
    pixels = data.batch(torch.arange(24))["image"]
    oracle = evaluation_oracle()
    real = validity(pixels, oracle)
    assert real.valid == 1
    assert real.residual < 0.1
    assert real.n == 24
    noise = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    assert validity(noise, oracle).valid == 0
    grey = validity(pixels * 0.3, oracle)
    assert grey.residual > 4 * real.residual, "faded pictures are of no scene"


def test_the_scenes_themselves_are_painted():
    data = RelatedShapes("test", 30, length=6)
    pixels = data.batch(torch.arange(6))["image"]
    painted = painted_anew(pixels, data.scenes(torch.arange(6)))
    assert painted.pixels.shape == pixels.shape
    assert (painted.pixels - pixels).square().mean((1, 2, 3)).sqrt().sub(painted.residual).abs().max() < 1e-5


def test_values_that_are_as_far_as_they_can_be_are_counted_where_the_scene_has_others():
    pixels = RelatedShapes("test", 24, length=12).batch(torch.arange(12))["image"]
    oracle = evaluation_oracle()
    before, after = (
        validity(pixels, oracle).saturated,
        validity((1.4 * pixels).clamp(-1, 1), oracle).saturated,
    )
    assert before < 0.02
    assert after > before + 0.1
