"""A map of latent space: what a VAE with two latent numbers makes of every point of the plane."""

from pathlib import Path

import torch
import tyro

import sfumato
from sfumato import images


def main(
    preset: str = "map",
    steps: int | None = None,
    side: int = 20,
    run: Path = Path("runs/map"),
    out: Path = Path("map.png"),
) -> None:
    """Train the preset, unless the run is there; write a sheet of side x side pictures."""
    if not run.exists():
        sfumato.train("vae", preset, out=run, steps=steps)
    system = sfumato.load(run)
    # Equal steps in probability, not in distance: every picture stands for as many others (figure 4).
    places = torch.special.ndtri((torch.arange(side) + 0.5) / side)
    with torch.no_grad():
        pixels = system.decode(torch.cartesian_prod(places, places))
    images.save_png(images.grid(pixels, columns=side, pad=0), out)
    print(out)


if __name__ == "__main__":
    tyro.cli(main)
