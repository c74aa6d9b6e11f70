"""Plates of the diffusions over pixels: digits by label, and a digit's way out of the noise.

Each step of a way shows what the solver holds, scaled to one contrast, and what the network believes to be
behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from benchmarks.pictures.plates import PALE, Sheet, row
from sfumato.core import guidance, solvers
from sfumato.core.request import Generate, Images
from sfumato.core.rng import Rng
from sfumato.core.thresholding import Free, Static, thresholded
from sfumato.nn.condition import Condition
from sfumato.systems.diffusion.adm import ADM
from sfumato.systems.diffusion.pixels import PixelDiffusion

SEED = 4_000_000
"""No preview and no measurement uses such seeds."""
LABELS = tuple(range(10))
LEFT, CONTRAST = 112, 0.75
SCALES = (0.0, 1.0, 4.0, 16.0)
WAYS: dict[str, tuple[str, str]] = {
    "ddpm": (
        "DDPM: noise undone little by little",
        "Every step takes some noise away and adds a little that is fresh, the last one none.",
    ),
    "edm": (
        "EDM: steps of first and of second order",
        "Heun asks twice a step: 5 or 9 of his steps cost as much as 9 or 17 of Euler's. One noise a column.",
    ),
    "flow": (
        "Flow matching: straight lines from noise to data",
        "The straighter the lines, the fewer steps of Euler's method are needed. One noise a column.",
    ),
    "pfgm": (
        "PFGM: down the lines of an electric field",
        "Data are charges on a plate; the lines begin far above it, in noise with heavy tails.",
    ),
    "pfgmpp": (
        "PFGM++: the field in a space of D more dimensions",
        "Noise has the tails of Student's t; D to infinity is diffusion, D = 1 is PFGM.",
    ),
    "yukawa": (
        "Yukawa: a field that is screened",
        "Between PFGM, where the force reaches everywhere, and diffusion.",
    ),
}
FEW: dict[str, Sequence[tuple[str, int]]] = {
    "edm": (("heun", 5), ("euler", 9), ("heun", 9), ("euler", 17)),
    "flow": (("euler", 1), ("euler", 2), ("euler", 4), ("euler", 8)),
}
"""Solvers and their steps whose digits are shown besides."""


@torch.no_grad()
def drawn(system: PixelDiffusion, **asked: object) -> Tensor:
    """A digit of each label."""
    request = Generate(label=LABELS, count=len(LABELS), **{"seed": SEED, **asked})  # type: ignore[arg-type]
    *_, answer = system.run(request)
    assert isinstance(answer, Images)
    return answer.pixels


@torch.no_grad()
def way(system: PixelDiffusion, label: int, shown: int) -> tuple[Tensor, Tensor]:
    """So many moments of the system's own way to a digit, noise first: what is held, and what is believed."""
    c = system.config
    told = (
        Condition(vector=one_hot(torch.tensor([label]), len(c.classes)).float())
        if c.by_label
        else Condition()
    )
    denoise = thresholded(guidance.conditioned(system.denoiser, told), Static() if c.clip else Free())
    times, rng = c.process.schedule.grid(c.steps, c.spacing), Rng([SEED])
    held = [c.process.prior(torch.empty(1, c.channels, c.height, c.width), rng)]
    believed = [denoise(held[0], times[:1]).x0]
    for step in solvers.named(c.solver)(denoise, c.process, held[0], times, rng=rng):
        held.append(step.x)
        believed.append(step.x0)
    moments = torch.linspace(0, len(held) - 1, shown).round().long()
    x, x0 = torch.cat(held)[moments], torch.cat(believed)[moments]
    size = x.square().mean((1, 2, 3), keepdim=True).sqrt()
    return CONTRAST * x / size, x0


def digits(system: PixelDiffusion, name: str, path: Path) -> Path:
    """Digits by label, perhaps in few steps, and a way out of noise."""
    title, note = WAYS[name]
    sheet = Sheet(title, note)
    c, usual = system.config, f"{system.config.solver},\n{system.config.steps} steps"
    rows = [row(drawn(system), usual, heads=[str(label) for label in LABELS])]
    if few := FEW.get(name):
        rows += [row(drawn(system, solver=s, steps=k), f"{s},\n{k} step{'s'[: k > 1]}") for s, k in few]
    else:
        rows += [row(drawn(system, seed=SEED + 10 * k), "another seed") for k in (1, 2)]
    x, x0 = way(system, 3 if c.by_label else 0, len(LABELS))
    sheet.table(rows, label=LEFT)
    sheet.text("The way of a 3 out of the noise, from left to right", ink=PALE)
    sheet.y += 6
    sheet.table([row(x, "what is held"), row(x0, "what is believed")], label=LEFT)
    return sheet.save(path)


def adm(system: ADM, path: Path) -> Path:
    """The same noise under ever more pull of the classifier."""
    sheet = Sheet(
        "ADM: a classifier of noisy pictures leads to a class",
        "The denoiser is told nothing; so many times the classifier's gradient is added. One noise a column.",
    )
    rows = [row(drawn(system, guidance=s), f"scale {s:g}" if s else "unguided") for s in SCALES]
    rows[0] = replace(rows[0], heads=[str(label) for label in LABELS])
    sheet.table(rows, label=LEFT)
    return sheet.save(path)
