"""How well translators do on shapes: figures of pix2pix and CycleGAN, with their controls.

Example: python -m benchmarks.translation runs/pix2pix-laptop

All pictures come from the test split; what a translated picture shows is read by the evaluation oracle,
which no training may see. ``--sheet out.png`` also draws some.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

import sfumato
from sfumato.core.request import Images, Translate
from sfumato.core.rng import Rng
from sfumato.core.system import System
from sfumato.data import open_data
from sfumato.data.domains import ShapeDomains
from sfumato.data.pairs import ShapePairs
from sfumato.data.shapes.scene import PLACES, Scenes
from sfumato.data.shapes.single import in_a_scene, paint
from sfumato.images import grid, save_png
from sfumato.metrics.oracle import ShapesOracle, evaluation_oracle
from sfumato.systems.gans.cyclegan import CycleGAN
from sfumato.systems.gans.pix2pix import Pix2Pix

COUNT, COLUMNS = 300, 12
LOOKS = ("shape", "colour", "size", "texture")
WHISPER = 0.05
"""Standard deviation of the noise that drowns what a translation may have hidden."""
Figures = dict[str, float]


@torch.no_grad()
def translate(system: System[Translate], images: Tensor, direction: str = "") -> Tensor:
    """The answer to a request."""
    *_, answer = system.run(Translate(images=images, count=len(images), direction=direction))
    return cast(Images, answer).pixels


def detail(x: Tensor) -> float:
    """Mean square of the Laplacian: the energy of what is as fine as single pixels."""
    middle = x[:, :, 1:-1, 1:-1]
    around = x[:, :, :-2, 1:-1] + x[:, :, 2:, 1:-1] + x[:, :, 1:-1, :-2] + x[:, :, 1:-1, 2:]
    return (4 * middle - around).square().mean().item()


def seen(oracle: ShapesOracle, pixels: Tensor) -> Scenes:
    """What the oracle finds in pictures of single shapes."""
    return oracle.read(in_a_scene(pixels))


def cells(scenes: Scenes, attribute: str) -> Tensor:
    """An attribute of what stands in each of the nine cells, -1 where nothing does: (n, 9)."""
    table = torch.full((len(scenes), len(PLACES) + 1), -1)
    place = torch.where(scenes.place >= 0, scenes.place, len(PLACES))
    return table.scatter(1, place, getattr(scenes, attribute))[:, :-1]


def kept(read: Scenes, true: Scenes, looks: tuple[str, ...] = LOOKS) -> Figures:
    """Shares of objects that are seen where they should be with the right looks, each and all."""
    there = cells(true, "shape") >= 0
    right = {name: (cells(read, name) == cells(true, name))[there] for name in looks}
    shares = {name: hits.float().mean().item() for name, hits in right.items()}
    shares["all"] = torch.stack(list(right.values())).all(0).float().mean().item()
    shares["number"] = (read.number == true.number).float().mean().item()
    shares["ground"] = (read.background == true.background).float().mean().item()
    return shares


def textured(read: Scenes, texture: int) -> float:
    """The share of pictures that show something, and nothing of another texture."""
    seen = read.texture >= 0
    return (seen.any(1) & ((read.texture == texture) | ~seen).all(1)).float().mean().item()


def of_pairs(system: Pix2Pix, data: ShapePairs, count: int = COUNT) -> Figures:
    """Distance, detail and looks of translated drawings, beside the mean picture and the drawing itself."""
    rows = torch.arange(count)
    batch, scenes = data.batch(rows), data.scenes(rows)
    source, true = batch["source"], batch["image"]
    made = translate(system, source)
    oracle = evaluation_oracle()
    mean = (true - true.mean(0)).abs().mean().item()
    found = {f"seen {k}": v for k, v in kept(seen(oracle, made), scenes).items()}
    return {
        "l1": (made - true).abs().mean().item(),
        "l1 of mean picture": mean,
        "l1 of source": (source - true).abs().mean().item(),
        "l1 to mean picture": (made - true).abs().mean().item() / mean,
        "detail": detail(made) / detail(true),
        **found,
        "seen all in truth": kept(seen(oracle, true), scenes)["all"],
        "seen all in others": kept(seen(oracle, made.roll(1, 0)), scenes)["all"],
    }


def of_domains(system: CycleGAN, data: ShapeDomains, count: int = COUNT) -> Figures:
    """Domain, content and the way home in both directions; controls are no change and other pictures."""
    rows = torch.arange(count)
    batch, oracle = data.batch(rows), evaluation_oracle()
    found: Figures = {}
    for start, end, way, back in (("a", "b", *system.directions), ("b", "a", *system.directions[::-1])):
        x, scenes = batch[start], data.scenes(rows, "a" if start == "a" else "b")
        made = translate(system, x, way)
        found |= {f"{way} {k}": v for k, v in _crossed(oracle, data, scenes, x, made, end).items()}
        home = translate(system, made, back)
        noise = WHISPER * Rng.sampling(0, count).normal(*made.shape[1:])
        drowned = translate(system, (made + noise).clamp(-1, 1), back)
        found[f"{way} cycle"] = (home - x).abs().mean().item()
        found[f"{way} cycle through noise"] = (drowned - x).abs().mean().item()
    return found


def _crossed(
    oracle: ShapesOracle, data: ShapeDomains, scenes: Scenes, x: Tensor, made: Tensor, end: str
) -> Mapping[str, float]:
    texture = 1 if end == "b" else 0
    looks = ("shape", "colour", "size")
    read = seen(oracle, made)
    content = kept(read, scenes, looks)
    return {
        "domain": textured(read, texture),
        "domain unchanged": textured(seen(oracle, x), texture),
        "content": content["all"],
        **{f"content {k}": v for k, v in content.items() if k != "all"},
        "content of others": kept(seen(oracle, made.roll(1, 0)), scenes, looks)["all"],
        "l1 to truth": (made - _rendered(data, scenes, end)).abs().mean().item(),
    }


def _rendered(data: ShapeDomains, scenes: Scenes, side: str) -> Tensor:
    return paint(data.across(scenes, "a" if side == "a" else "b"), data.size)


def sheet(system: Pix2Pix | CycleGAN, data: ShapePairs | ShapeDomains, count: int = 8) -> Tensor:
    """Rows of examples: source, translation, truth; or a there and back, b there and back."""
    batch = data.batch(torch.arange(count))
    if isinstance(system, Pix2Pix):
        return torch.cat([batch["source"], translate(system, batch["source"]), batch["image"]])
    there, back = system.directions
    b, a = translate(system, batch["a"], there), translate(system, batch["b"], back)
    home = translate(system, b, back), translate(system, a, there)
    return torch.cat([batch["a"], b, home[0], batch["b"], a, home[1]])


def main() -> None:
    """Print the figures of a run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--data", default="")
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--sheet", type=Path)
    given = parser.parse_args()
    system = sfumato.load(given.model, precision="fp32")
    usual = "edges-to-shapes" if isinstance(system, Pix2Pix) else "plain-to-striped"
    data = open_data(given.data or usual, split="test", size=32)
    found: Figures = {}
    if isinstance(system, Pix2Pix) and isinstance(data, ShapePairs):
        found = of_pairs(system, data, given.count)
    elif isinstance(system, CycleGAN) and isinstance(data, ShapeDomains):
        found = of_domains(system, data, given.count)
    for name, value in found.items():
        print(f"{name:40} {value:.3f}")
    if given.sheet:
        assert isinstance(system, Pix2Pix | CycleGAN)
        assert isinstance(data, ShapePairs | ShapeDomains)
        picture = grid(sheet(system, data, COLUMNS), COLUMNS)
        save_png(picture.resize((2 * picture.width, 2 * picture.height), 0), given.sheet)


if __name__ == "__main__":
    main()
