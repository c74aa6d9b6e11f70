"""On 25 spots in the plane the gradient penalty covers nearly all; the first game stands beside it."""

from __future__ import annotations

import pytest
import torch

import sfumato
from sfumato.core.request import Generate, Images
from sfumato.data.gaussians import coverage, gaussians

pytestmark = [pytest.mark.learn, pytest.mark.timeout(7200)]

COUNT = 5000
FIRST_SEED = 1_000_000
SEEDS = (0, 1)


def covered(preset: str, seed: int, tmp_path) -> tuple[int, float]:
    torch.manual_seed(seed)
    out = tmp_path / f"{preset}-{seed}"
    system = sfumato.train("gan", preset, out=out, seed=seed, quiet=True)
    *_, answer = system.run(Generate(count=COUNT, seed=FIRST_SEED))
    assert isinstance(answer, Images)
    found = coverage(answer.pixels.cpu().flatten(1))
    print(f"{preset}, seed {seed}: {found[0]} of 25 spots, {found[1]:.3f} of points on a spot (n {COUNT})")
    return found


def test_the_judge():
    real = gaussians("test").batch(torch.arange(COUNT))["image"].flatten(1)
    spots, share = coverage(real)
    assert spots == 25
    assert share > 0.999
    even = 2 * torch.rand(COUNT, 2, generator=torch.Generator().manual_seed(0)) - 1
    spots, share = coverage(even)
    assert spots <= 1, "points spread over the square must not pass"
    assert share < 0.15


def test_wasserstein_covers_nearly_all_spots(tmp_path):
    ours = [covered("gaussians-wgan-gp", seed, tmp_path) for seed in SEEDS]
    for seed in SEEDS:  # No bound: it covered 22 and 23, and in trials with other batches 12.
        covered("gaussians", seed, tmp_path)
    assert min(spots for spots, _ in ours) >= 22
    assert min(share for _, share in ours) >= 0.5
