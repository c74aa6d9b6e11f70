"""Plates of autoencoders, of games, and of what enlarges: held-out pictures and what comes back of them,
points and pictures that deceive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from benchmarks.latent_tasks import SIZE, enlargers
from benchmarks.pictures.plates import Row, Sheet, cloud, numbered, row, stretched
from benchmarks.pictures.words import FIRST, SEED, made
from sfumato.apps.sheet import Cell
from sfumato.core.request import Generate, Reconstruct, Walk
from sfumato.core.system import System
from sfumato.data import open_data
from sfumato.data.gaussians import coverage, gaussians
from sfumato.data.shapes import Shapes
from sfumato.data.shapes.one import OneShape
from sfumato.images import to_pil
from sfumato.nn.srresnet import reduced
from sfumato.systems.autoencoders.ae import Autoencoder
from sfumato.systems.autoencoders.vqvae import VQVAE
from sfumato.systems.diffusion.ldm import LDM
from sfumato.systems.gans.gan import GAN
from sfumato.systems.gans.projected import ProjectedGAN
from sfumato.systems.gans.srgan import whole_levels

LEFT = 112
SPOT_COLOUR, FAKE_COLOUR = (150, 150, 158), (196, 60, 40)
POINTS, EDGE = 5_000, 1.2


def ae(system: Autoencoder, path: Path) -> Path:
    """Digits through a short vector; new ones; a walk between two."""
    shape = system.config.network
    name = "digits" if shape.height == 8 else "fashion"
    images = open_data(name, split="test", size=shape.height).batch(torch.arange(10))["image"]
    *_, walk = system.run(Walk(images=images[:2], count=2, frames=9))
    sheet = Sheet(
        "Autoencoder: through a short vector and back",
        f"Held-out pictures of {shape.height * shape.width} pixels become {shape.latent} numbers, and back.",
    )
    sheet.table(
        [
            row(images, "given"),
            row(made(system, Reconstruct(images=images)), "given back"),
            row(made(system, Generate(count=10, seed=SEED)), "new, from a normal fitted to the vectors"),
            row(walk.pixels[0], "a walk between the first two"),
        ],
        label=LEFT,
    )
    return sheet.save(path)


@torch.no_grad()
def vqvae(system: VQVAE, path: Path) -> Path:
    """Pictures, their numbers, and the pictures of these."""
    images = OneShape("test", 32, length=FIRST + 6).batch(torch.arange(FIRST, FIRST + 6))["image"]
    tokens, book = system.tokens(images), system.config.book.codes
    sheet = Sheet(
        "VQ-VAE: a picture as a grid of numbers from a book",
        f"{tokens.shape[1]} x {tokens.shape[2]} numbers below {book}, each in a colour of its own.",
    )
    sheet.table(
        [
            row(images, "given"),
            row(numbered(tokens, book), "its numbers"),
            row(system.pictures(tokens), "read from the numbers"),
        ],
        label=LEFT,
    )
    return sheet.save(path)


@torch.no_grad()
def kl(system: LDM, path: Path) -> Path:
    """Latent diffusion's first stage: pictures, channels of their codes, and what is read from these."""
    images = Shapes("test", SIZE, length=FIRST + 4).batch(torch.arange(FIRST, FIRST + 4))["image"]
    mean, _ = system.first_stage.encode(images)
    back, channels = system.first_stage.decode(mean).clamp(-1, 1), stretched(mean)
    heads = ["given", *(f"channel {k + 1} of its code" for k in range(mean.shape[1])), "read from the code"]
    rows = [
        Row(
            [Cell(to_pil(x), "") for x in (images[i], *channels[i].split(1), back[i])],
            heads=() if i else heads,
        )
        for i in range(len(images))
    ]
    sheet = Sheet(
        "KL autoencoder: the small, smooth code that latent diffusion works on",
        f"{SIZE} x {SIZE} x 3 numbers become {mean.shape[2]} x {mean.shape[3]} x {mean.shape[1]}.",
    )
    sheet.table(rows)
    return sheet.save(path)


def ldmsr(system: System[Any], path: Path) -> Path:
    """Scenes made four times smaller, and what enlarges them."""
    real = Shapes("test", SIZE, length=FIRST + 5).batch(torch.arange(FIRST, FIRST + 5))["image"]
    small = whole_levels(reduced(real))
    sheet = Sheet("Latent super-resolution: four times larger", "Held-out scenes of 16 pixels a side.")
    rows = [row(small, "given")]
    rows += [row(larger(small), name) for name, larger in enlargers({"latent diffusion": system}).items()]
    sheet.table([*rows, row(real, "the truth")], label=LEFT)
    return sheet.save(path)


@torch.no_grad()
def gan(*systems: GAN, path: Path) -> Path:
    """The points that generators draw upon the spots they are to draw."""
    real = gaussians("test").batch(torch.arange(POINTS))["image"].flatten(1)
    ends = -EDGE * real.abs().amax().expand(2), EDGE * real.abs().amax().expand(2)
    side = 272
    cells = [
        Cell(
            cloud([(real, SPOT_COLOUR)], side, *ends), "What is to be learned", f"{POINTS:,} points, 25 spots"
        )
    ]
    for system in systems:
        fake = made(system, Generate(count=POINTS, seed=SEED)).flatten(1)
        covered, share = coverage(fake)
        game = system.config.game.replace("_", "-").capitalize()
        name = f"{game}{' with a penalty on gradients' if system.config.penalty else ''}"
        told = f"{covered} of 25 spots covered, {share:.0%} of points on one"
        cells.append(Cell(cloud([(real, SPOT_COLOUR), (fake, FAKE_COLOUR)], side, *ends, dot=1), name, told))
    sheet = Sheet(
        "GAN: the same points in different games", "Red: what a generator draws, upon what it should."
    )
    sheet.table([Row(cells)], side=side, gap=22)
    return sheet.save(path)


def projected(system: ProjectedGAN, path: Path) -> Path:
    """New pictures beside held-out ones, and a walk."""
    shape, columns = system.config.generator, 10
    name = "faces" if system.config.eyes == "faces" else "single-shapes"
    real = open_data(name, split="test", size=shape.height).batch(torch.arange(columns))["image"]
    *_, walk = system.run(Walk(count=2, seed=SEED, frames=columns - 1))
    fake = made(system, Generate(count=3 * columns, seed=SEED))
    sheet = Sheet(
        "Projected GAN: critics that see through a frozen network",
        f"{name.capitalize()}, {shape.height} pixels.",
    )
    rows = [row(part, f"new, {k + 1}") for k, part in enumerate(fake.split(columns))]
    sheet.table([row(real, "held out"), *rows, row(walk.pixels[0], "a walk")], label=LEFT)
    return sheet.save(path)
