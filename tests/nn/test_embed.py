"""Embeddings of times equal diffusers', whatever the precision of the weights."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers.models.embeddings import GaussianFourierProjection, TimestepEmbedding, get_timestep_embedding

from sfumato.nn.embed import Embedder, FourierFeatures, sinusoidal

TIMES = torch.tensor([0.0, 0.5, 7.0, 999.0])


@pytest.mark.parametrize("width", [10, 33])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_sinusoids_equal_those_of_diffusers(width, flip, shift):
    ours = sinusoidal(TIMES, width, flip_sin_to_cos=flip, freq_shift=shift)
    theirs = get_timestep_embedding(TIMES, width, flip_sin_to_cos=flip, downscale_freq_shift=shift)
    assert torch.equal(ours, theirs)


def test_ddpm_frequencies_fall_from_one_to_a_ten_thousandth():
    waves = sinusoidal(torch.tensor([1.0]), 8, freq_shift=1.0)[0].double()
    frequencies = torch.tensor([1.0, 1e-4 ** (1 / 3), 1e-4 ** (2 / 3), 1e-4], dtype=torch.float64)
    torch.testing.assert_close(waves, torch.cat([frequencies.sin(), frequencies.cos()]), atol=1e-7, rtol=0)


def test_embedder_equals_that_of_diffusers():
    theirs, ours = TimestepEmbedding(10, 24), Embedder(10, 24)
    ours.load_state_dict(theirs.state_dict())
    waves = sinusoidal(TIMES, 10)
    torch.testing.assert_close(ours(waves), theirs(waves), atol=1e-6, rtol=1e-6)


def test_halved_weights_get_exact_waves():
    ours = Embedder(10, 24)
    exact = ours(sinusoidal(TIMES, 10))
    halved = ours.bfloat16()(sinusoidal(TIMES, 10))
    assert halved.dtype == torch.bfloat16
    assert (halved.float() - exact).abs().max() < 2e-2


def test_fourier_features_equal_those_of_diffusers():
    ours = FourierFeatures(12, scale=3.0)
    theirs = GaussianFourierProjection(6, scale=3.0, log=False, flip_sin_to_cos=True)
    theirs.weight.data.copy_(ours.weight)
    x = torch.tensor([0.1, -2.0, 1.7])
    torch.testing.assert_close(ours(x), theirs(x), atol=1e-5, rtol=1e-5)


def test_fourier_features_tell_that_neighbours_are_alike():
    """Their product is E cos(2 pi f (s - t)) = exp(-2 (pi scale (s - t))^2) (Rahimi & Recht 2007)."""
    torch.manual_seed(0)
    features = FourierFeatures(20000, scale=1.0)(torch.tensor([0.0, 0.1, 0.2]))
    kernel = features @ features.T / 10000
    for i, distance in enumerate([0.0, 0.1, 0.2]):
        assert abs(kernel[0, i] - math.exp(-2 * (math.pi * distance) ** 2)) < 0.02
