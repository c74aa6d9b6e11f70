"""What StyleGAN promises, measured on faces: truncation, mixing, plain latents, projection, the average.

Example: python -m benchmarks.styles runs/stylegan-laptop --rival runs/dcgan-faces

The evaluation oracle of faces reads the pictures. Mixing counts pairs of them that differ in an attribute.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from sfumato import load
from sfumato.core.checkpoint import RunFolder
from sfumato.core.request import Generate, Images, Invert, Mix, Request
from sfumato.core.rng import Rng
from sfumato.core.system import System
from sfumato.data.faces import Faces
from sfumato.data.faces.scene import ATTRIBUTES
from sfumato.device import setup
from sfumato.metrics.frechet import Moments, frechet_distance
from sfumato.metrics.oracle_faces import FacesOracle, evaluation_oracle
from sfumato.metrics.path_length import LpipsForm, PathLengths, path_length
from sfumato.metrics.precision_recall import precision_recall
from sfumato.metrics.psnr import psnr
from sfumato.systems.gans.stylegan import StyleGAN

FIRST_SEED = 3_000_000
"""No preview and no other measurement uses such seeds."""
COLOURS = ("skin", "hair", "clothes", "background")
SHAPES = ("style", "glasses")
"""Hair style and glasses: shape that a picture of 32 pixels shows."""
PSI = (1.0, 0.7, 0.5, 0.3)


@dataclass(frozen=True)
class Spread:
    """Precision, recall and Frechet distance at one truncation."""

    precision: float
    recall: float
    distance: float


@dataclass(frozen=True)
class Mixed:
    """Of pairs that differ: how often an attribute is that of the fine source, and of the coarse one."""

    crossover: int
    colour_from_fine: float
    colour_from_coarse: float
    shape_from_coarse: float
    shape_from_fine: float
    n: int


@dataclass(frozen=True)
class Projected:
    """Decibels between pictures and what was found for them, and the share of attributes that agree."""

    decibels: float
    worst: float
    agreement: float
    n: int


def drawn(system: System, request: Request) -> Images:
    """The one answer."""
    *_, answer = system.run(request)
    assert isinstance(answer, Images)
    return answer


def real(count: int, size: int) -> Tensor:
    """Held-out portraits."""
    return Faces("test", size, length=count).batch(torch.arange(count))["image"]


def distance(system: System, oracle: FacesOracle, count: int) -> float:
    """Frechet distance of new pictures from held-out ones, in the oracle's features."""
    pixels = drawn(system, Generate(count=count, seed=FIRST_SEED)).pixels
    there = oracle.features(real(count, pixels.shape[2]))
    return frechet_distance(Moments.of(there), Moments.of(oracle.features(pixels))).value


def truncation(system: StyleGAN, oracle: FacesOracle, count: int) -> dict[float, Spread]:
    """Precision, recall and distance for every psi."""
    there = oracle.features(real(count, system.config.network.height))
    found = {}
    for psi in PSI:
        pixels = drawn(system, Generate(count=count, seed=FIRST_SEED, truncation=psi)).pixels
        seen = oracle.features(pixels)
        both = precision_recall(there, seen)
        away = frechet_distance(Moments.of(there), Moments.of(seen)).value
        found[psi] = Spread(both.precision, both.recall, away)
    return found


def mixing(system: StyleGAN, oracle: FacesOracle, crossover: int, count: int) -> Mixed:
    """``count`` coarse seeds with as many fine ones, each with each; noise is the coarse seed's."""
    coarse = tuple(range(FIRST_SEED, FIRST_SEED + count))
    fine = tuple(range(FIRST_SEED + count, FIRST_SEED + 2 * count))
    one, two = (
        oracle.read(drawn(system, Generate(count=count, seed=seeds[0])).pixels).attributes
        for seeds in (coarse, fine)
    )
    both = oracle.read(drawn(system, Mix(coarse=coarse, fine=fine, crossover=crossover)).pixels).attributes
    a, b = one.repeat_interleave(count, 0), two.repeat(count, 1)
    shares = []
    for names in (COLOURS, SHAPES):
        places = [ATTRIBUTES.index(name) for name in names]
        told = (a != b)[:, places]
        shares += [float((both == source)[:, places][told].float().mean()) for source in (b, a)]
    return Mixed(crossover, shares[0], shares[1], shares[3], shares[2], count**2)


def separability(system: StyleGAN, oracle: FacesOracle, count: int) -> dict[str, tuple[float, float]]:
    """Accuracy, on a quarter held out, of a linear reader of attributes from w, and from z."""
    request = Generate(count=count, seed=FIRST_SEED)
    said = oracle.read(drawn(system, request).pixels).attributes
    z = Rng.sampling(request.seed, count).normal(system.config.network.z)
    with torch.no_grad():
        w = system.mapping(z.to(system.dtype)).float()
    cut, found = count * 3 // 4, {}
    for name in (*COLOURS, *SHAPES):
        wanted = said[:, ATTRIBUTES.index(name)].numpy()
        if len(set(wanted[:cut])) == 1:
            continue  # the model draws one kind alone, which is nothing to tell apart
        found[name] = _linear(w, wanted, cut), _linear(z, wanted, cut)
    return found


def _linear(x: Tensor, wanted: Any, cut: int) -> float:
    given = ((x - x[:cut].mean(0)) / x[:cut].std(0)).numpy()
    reader = LogisticRegression(max_iter=1000).fit(given[:cut], wanted[:cut])
    return float(reader.score(given[cut:], wanted[cut:]))


@torch.no_grad()
def lengths(system: StyleGAN, oracle: FacesOracle, count: int) -> tuple[PathLengths, PathLengths]:
    """Perceptual path lengths from style to style, and from latent to latent on great circles; no noise."""
    z = Rng.sampling(FIRST_SEED, 2 * count).normal(system.config.network.z)

    def from_w(w: Tensor) -> Tensor:
        return system.synthesis(w.unsqueeze(1).expand(-1, system.config.network.styles, -1))

    def from_z(latents: Tensor) -> Tensor:
        return from_w(system.mapping(latents))

    judge, w = LpipsForm(oracle), system.mapping(z)
    plain = path_length(from_w, w[:count], w[count:], judge, way="lerp")
    return plain, path_length(from_z, z[:count], z[count:], judge, way="slerp")


def projection(system: StyleGAN, oracle: FacesOracle, pixels: Tensor, space: str, steps: int) -> Projected:
    """How well pictures are found again."""
    found = drawn(system, Invert(images=pixels, count=len(pixels), space=space, steps=steps)).pixels
    noise = psnr(found, pixels)
    agree = (oracle.read(found).attributes == oracle.read(pixels).attributes).float().mean()
    return Projected(noise.mean().item(), noise.min().item(), agree.item(), len(pixels))


def raw(system: StyleGAN, folder: Path) -> StyleGAN:
    """The same system with the weights of the last step in place of their average."""
    newest = RunFolder.open(folder).newest()
    assert newest is not None
    live = StyleGAN(system.config)
    live.load_state_dict(newest.tensors("model"))
    return live.eval()


def means(pairs: Mapping[str, tuple[float, float]]) -> tuple[float, float]:
    """Of both sides, over all attributes."""
    w, z = zip(*pairs.values(), strict=True)
    return sum(w) / len(w), sum(z) / len(z)


def main() -> None:
    """Print every figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="the folder of a StyleGAN that learned faces")
    parser.add_argument("--rival", type=Path, help="the folder of another system, for its distance")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--pairs", type=int, default=24, help="seeds a side for mixing")
    parser.add_argument("--targets", type=int, default=16)
    parser.add_argument("--steps", type=int, default=300)
    given = parser.parse_args()
    setup()
    system, oracle = load(given.run, precision="fp32"), evaluation_oracle()
    assert isinstance(system, StyleGAN)
    size = system.config.network.height
    halves = real(2 * given.count, size).chunk(2)
    floor = frechet_distance(*(Moments.of(oracle.features(half)) for half in halves)).value
    print(f"Frechet distance of two real sets {floor:.3f} (n {given.count})")
    for psi, seen in truncation(system, oracle, given.count).items():
        print(
            f"psi {psi}: precision {seen.precision:.3f} recall {seen.recall:.3f} distance {seen.distance:.3f}"
        )
    if any((given.run / "checkpoints").glob("*")):
        live = distance(raw(system, given.run), oracle, given.count)
        print(f"distance of the weights themselves {live:.3f}")
    if given.rival is not None:
        there = distance(load(given.rival, precision="fp32"), oracle, given.count)
        print(f"distance of the rival {there:.3f}")
    for crossover in range(1, system.config.network.styles):
        print(mixing(system, oracle, crossover, given.pairs))
    pairs = separability(system, oracle, 2 * given.count)
    print(f"linear accuracy from w and z, on average {means(pairs)}; {pairs}")
    for found in lengths(system, oracle, given.count // 4):
        print(found)
    own = drawn(system, Generate(count=given.targets, seed=FIRST_SEED + 10_000)).pixels
    for name, target in (("own", own), ("real", real(given.targets, size))):
        for space in ("w", "w+"):
            print(name, space, projection(system, oracle, target, space, given.steps))


if __name__ == "__main__":
    main()
