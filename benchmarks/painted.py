"""How well both style transfers paint, on photographs (and for AdaIN styles) that they never saw.

A fast style is held against what it replaces: 50 closures of L-BFGS on its objective, which starts from white
noise and is clipped to what pixels can be (Johnson et al. 2016, section 4.1, the baseline), and the same from
the content, which is much nearer. The control is a network that learned another style. AdaIN's answers are
judged by what was not optimised: which of 40 styles they look most like (local binary patterns and colours),
and how much of the edges stays; and by the distance of the maps' means and deviations to the style's. Its
controls are to match the colours' means and deviations, and their histograms.

Examples: python -m benchmarks.painted fast runs/faststyle-laptop --other runs/faststyle-other
          python -m benchmarks.painted adain runs/adain-laptop
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sfumato import load
from sfumato.core.perceptual import moments, moments_loss
from sfumato.core.request import Images, Stylize
from sfumato.core.system import System
from sfumato.data.photos import photographs
from sfumato.data.stylings import Stylings
from sfumato.data.textures import paint
from sfumato.device import setup
from sfumato.images import grid, save_png
from sfumato.metrics.psnr import psnr
from sfumato.metrics.texture import (
    chi_square,
    edge_correlation,
    histogram_matched,
    nearest_styles,
    texture,
)
from sfumato.nn.adain import adain
from sfumato.systems.style.adain import AdaIN, size_of
from sfumato.systems.style.eyes import eyes
from sfumato.systems.style.faststyle import FastStyle

CLOSURES = 50
"""Of L-BFGS: what one pass has to reach."""
NOISE = 0.5
"""Deviation of the white noise from which it starts."""
SIDE = 128
"""Pixels of the crops that are painted."""
ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0)


def painted(system: System, images: Tensor, **asked: object) -> Tensor:
    """What a model makes of pictures."""
    with torch.no_grad():
        *_, answer = system.run(Stylize(images=images, count=len(images), **asked))
    assert isinstance(answer, Images)
    return answer.pixels


# --- fast style --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fast:
    """Means over crops."""

    one_pass: float
    """The objective of the answer."""
    search: float
    """Of what 50 closures of L-BFGS reach, on average, from noise."""
    spread: float
    """Its standard deviation between noises; none of one."""
    from_content: float
    """The same from the content itself."""
    untouched: float
    """Of the crop itself."""
    other: float
    """Of what a network makes of it that learned another style."""
    below_search: float
    """Share of crops on which one pass is at least as good as the search from noise."""
    texture: float
    """Distance of patterns to the style's, as a share of the crop's own."""
    edges: float


def objective(system: FastStyle, answer: Tensor, given: Tensor) -> Tensor:
    """Of every picture alone."""
    with torch.no_grad():
        values = [
            sum(system.objective(a, x).values()) for a, x in zip(answer.split(1), given.split(1), strict=True)
        ]
    return torch.stack([torch.as_tensor(value) for value in values])


def searched(system: FastStyle, given: Tensor, start: Tensor, closures: int = CLOSURES) -> Tensor:
    """One picture changed by projected L-BFGS; the best of all pictures that it looked at."""
    x = start.clone().contiguous().requires_grad_()
    optimiser = torch.optim.LBFGS(
        [x], max_iter=closures, max_eval=closures, tolerance_grad=0, tolerance_change=0
    )
    best, found, count = float("inf"), start, 0

    def closure() -> Tensor:
        nonlocal best, found, count
        with torch.no_grad():
            x.clamp_(-1, 1)
        optimiser.zero_grad()
        value = torch.stack(list(system.objective(x, given).values())).sum()
        value.backward()
        count += 1
        if count <= closures and value.item() < best:
            best, found = value.item(), x.detach().clone()
        return value

    optimiser.step(closure)
    return found


def afresh(system: FastStyle, given: Tensor, seed: int) -> Tensor:
    """What the search finds from white noise."""
    noise = torch.randn(given.shape, generator=torch.Generator().manual_seed(seed)).mul_(NOISE).clamp_(-1, 1)
    pairs = zip(given.split(1), noise.split(1), strict=True)
    return torch.cat([searched(system, x, n) for x, n in pairs])


def of_fast(
    system: FastStyle, other: FastStyle | None, count: int = 20, noises: int = 4
) -> tuple[Fast, Tensor]:
    """Figures, and crops above answers above what the search found; it begins at each of several noises,
    because where it comes in 50 closures depends on them."""
    given = photographs("test", SIDE).batch(torch.arange(count))["image"]
    style = system.style[None].float() / 127.5 - 1
    answer = painted(system, given)
    found = torch.cat([searched(system, x, x) for x in given.split(1)])
    many = torch.stack([objective(system, afresh(system, given, seed), given) for seed in range(noises)])
    once, near = (objective(system, x, given) for x in (answer, found))
    far = [chi_square(texture(x), texture(style)).mean().item() for x in (answer, given)]
    figures = Fast(
        one_pass=once.mean().item(),
        search=many.mean().item(),
        spread=many.mean(1).std().item(),
        from_content=near.mean().item(),
        untouched=objective(system, given, given).mean().item(),
        other=float("nan")
        if other is None
        else objective(system, painted(other, given), given).mean().item(),
        below_search=(once <= many.mean(0)).float().mean().item(),
        texture=far[0] / far[1],
        edges=edge_correlation(answer, given).mean().item(),
    )
    return figures, torch.cat([given, answer, found])


# --- AdaIN -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Alpha:
    """Means over crops painted in unseen styles, at one strength."""

    retrieval: float
    """Share whose nearest of 40 styles, by patterns and colours, is the one that was given."""
    patterns: float
    """The same by patterns alone, which matching colours leaves at chance, .025."""
    edges: float
    statistics: float
    """Distance of means and deviations to the style's, as a share of the crop's own."""
    texture: float
    """Distance of patterns to the style's."""
    psnr: float
    """To the crop, in decibels."""


def pairs(count: int) -> tuple[Tensor, list[Tensor], Tensor]:
    """Held-out crops, an unseen style for each, and other pieces of all 40 styles to choose from."""
    data = Stylings("test", SIDE, length=count)
    batch = data.batch(torch.arange(count))
    gallery = torch.stack([paint(number, SIDE, SIDE, variant=1) for number in data.styles])
    return batch["a"], list(batch["b"]), gallery


def distance(system: AdaIN, x: Tensor, styles: Sequence[Tensor]) -> Tensor:
    """Of means and deviations in the layers that are descended, of every picture."""
    look = eyes(system.config.features)
    far = []
    with torch.no_grad():
        for one, style in zip(x.split(1), styles, strict=True):
            seen, wanted = (
                look(one, system.config.style_layers),
                look(style[None], system.config.style_layers),
            )
            shares = [
                moments_loss(seen[layer], moments(maps)) / size_of(moments(maps))
                for layer, maps in wanted.items()
            ]
            far.append(torch.stack(shares).sum())
    return torch.stack(far)


def of_adain(system: AdaIN, count: int = 80) -> tuple[Mapping[str, Alpha], Tensor]:
    """Figures at each strength and of the controls, and crops above styles above answers."""
    given, styles, gallery = pairs(count)
    numbers = torch.arange(count) % len(gallery)
    before = distance(system, given, styles)

    def judged(answer: Tensor) -> Alpha:
        return Alpha(
            retrieval=(nearest_styles(answer, gallery) == numbers).float().mean().item(),
            patterns=(nearest_styles(answer, gallery, (texture,)) == numbers).float().mean().item(),
            edges=edge_correlation(answer, given).mean().item(),
            statistics=(distance(system, answer, styles).mean() / before.mean()).item(),
            texture=chi_square(texture(answer), texture(torch.stack(styles))).mean().item(),
            psnr=psnr(answer, given).mean().item(),
        )

    found, last = {}, given
    for alpha in ALPHAS:
        last = torch.cat(
            [
                painted(system, x[None], styles=(y,), strength=alpha)
                for x, y in zip(given, styles, strict=True)
            ]
        )
        found[f"alpha {alpha:g}"] = judged(last)
    control = torch.stack([histogram_matched(x, y) for x, y in zip(given, styles, strict=True)])
    found["histograms"] = judged(control)
    found["colours"] = judged(torch.stack([recoloured(x, y) for x, y in zip(given, styles, strict=True)]))
    found["untouched"] = judged(given)
    return found, torch.cat([given, torch.stack(styles), last])


def recoloured(x: Tensor, style: Tensor) -> Tensor:
    """A crop with the style's mean and deviation of each colour: all that is exchanged, without a network."""
    return adain(x[None], moments(x[None]), moments(style[None]))[0].clamp(-1, 1)


def main() -> None:
    """Print figures; with --picture, save a sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("method", choices=("fast", "adain"))
    parser.add_argument("model", help="a run, or a model that comes along")
    parser.add_argument("--other", help="a fast style that learned another style")
    parser.add_argument("--count", type=int, default=0, help="crops; by default 20 or 80")
    parser.add_argument("--noises", type=int, default=4, help="from which a fast style's search begins")
    parser.add_argument("--picture", type=Path, help="where to save what was painted")
    given = parser.parse_args()
    setup()
    system = load(given.model, precision="fp32")
    if given.method == "fast":
        other = load(given.other, precision="fp32") if given.other else None
        figures, pictures = of_fast(system, other, given.count or 20, given.noises)
        print(figures)
    else:
        found, pictures = of_adain(system, given.count or 80)
        for name, row in found.items():
            print(f"{name:<10} {row}")
    if given.picture:
        save_png(grid(pictures, columns=len(pictures) // 3), given.picture)


if __name__ == "__main__":
    main()
