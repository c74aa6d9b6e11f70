"""Diffusion without a network: where all is known about the data, the best denoiser is a formula."""

from pathlib import Path

import torch
import tyro

from sfumato import images
from sfumato.core import process, solvers
from sfumato.core.denoiser import Belief
from sfumato.core.rng import Rng
from sfumato.data.toys import GaussianMixture


def main(count: int = 3000, steps: int = 24, out: Path = Path("points.png")) -> None:
    """Walk points from noise to three clouds; write maps of every third step."""
    clouds = GaussianMixture.isotropic([[-0.6, -0.5], [0.6, -0.4], [0.0, 0.6]], std=[0.05, 0.1, 0.15])
    flow = process.Process(process.Straight())
    x = flow.prior(torch.empty(count, 2), Rng.sampling(0, count))
    times = flow.schedule.grid(steps, "linspace")
    # A denoiser is any function of (x, t) that says what the clean x was; this one is exact.
    denoise = lambda x, t: Belief(clouds.denoise(x, *flow.coefficients(t, x)))
    walk = solvers.heun(denoise, flow, x, times)
    seen = [x, *(step.x for step in walk)][::3]
    maps = [torch.histogramdd(points, [64, 64], range=[-1.5, 1.5] * 2).hist for points in seen]
    images.save_png(images.grid(1 - torch.stack(maps)[:, None].clamp(max=2)), out)
    print(out)


if __name__ == "__main__":
    tyro.cli(main)
