"""Processes in the plane, with exact denoisers of point sets: particles, fields and beliefs as pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from sfumato import images
from sfumato.apps.physics_options import Name, Options
from sfumato.core.births import branching
from sfumato.core.charges import Charges
from sfumato.core.kernels import StudentT, Yukawa
from sfumato.core.process import Karras, Process, Straight
from sfumato.core.rng import Rng
from sfumato.core.solvers import named
from sfumato.core.steps import Solver, Step
from sfumato.data.toys import points
from sfumato.errors import UsageError

KNOWN = 240
"""Points of a set that the denoiser knows."""
UNEQUAL = ((-0.75, -0.1, 0.15), (0.1, 0.7, 0.2), (0.65, -0.55, 0.25), (0.5, 0.3, 0.4))
"""Four charges: place and share."""
FAR = 6.0
"""Noise from which particles start, in units of the data's reach."""
NEAR = 0.01
TIME = 3.0
"""Where Yukawa's particles start, in the time of its own."""
SIDE, MESH, ARROWS, SMOOTH = 288, 72, 13, 2
"""Pixels of a panel; places where beliefs are asked, and arrows, along a side; drawn how much larger."""
VIEW, MARGIN, LINE = 1.25, 10, 22
"""Half the width of what a still panel shows; pixels around it, and of a line of text."""
MOMENTS = (1.0, 0.4, 0.15, 0.05, 0.0)
"""Noise levels that ``field`` shows."""
INK, PALE, PAPER = (28, 28, 34), (110, 110, 118), (255, 255, 255)
SHADES = 72
"""Colours of the picture of all processes, to keep its file small."""
HOLD = 12
"""Frames for which an animation rests at its end."""


@dataclass(frozen=True)
class World:
    """Points, the process that hides them, and how particles find back."""

    name: str
    points: Float[Tensor, "k 2"]
    shares: Float[Tensor, " k"]
    process: Process
    solver: Solver

    @classmethod
    def of(cls, options: Options, process: str) -> World:
        """The world that the options describe, with this process."""
        where, shares = _charges(options.data)
        solver = named(options.solver)
        match process:
            case "gaussian":
                made, name = Process(Karras(NEAR, FAR)), "diffusion"
            case "flow":
                made, name = Process(Straight()), "rectified flow"
            case "pfgm":
                made, name = Process(Karras(NEAR, FAR), StudentT(1.0)), "PFGM"
            case "pfgmpp":
                made, name = Process(Karras(NEAR, FAR), StudentT(options.dim)), f"PFGM++, D = {options.dim:g}"
            case _:
                kernel = Yukawa(options.mass, "field")
                far = kernel.sigma(torch.tensor(TIME, dtype=torch.float64), 2).item()
                made, name = Process(Karras(NEAR, far), kernel), f"Yukawa, m = {options.mass:g}, with births"
                solver = branching(solver)
        return cls(name, where, shares, made, solver)

    @property
    def denoise(self) -> Charges:
        return Charges(self.points, self.process, self.shares)

    def walk(self, options: Options) -> Iterator[Step]:
        """From the exact law of noise to data; the start comes first."""
        rng = Rng.sampling(options.seed, options.particles)
        last = len(self.shares) - 1
        origin = torch.searchsorted(self.shares.cumsum(0), rng.uniform().double())
        start = self.points[origin.clamp(max=last)]
        x = self.process.noise(start, torch.ones(len(start), dtype=torch.float64), rng)
        yield Step(1.0, x, start)
        times = self.process.schedule.grid(options.steps, "karras")
        yield from self.solver(self.denoise, self.process, x, times, rng=rng)

    def level(self, t: float) -> tuple[float, float]:
        """alpha, and sigma relative to it."""
        alpha, sigma = self.process.levels(torch.tensor([t]))[0]
        return alpha, sigma / alpha if alpha else math.inf


def _charges(data: str) -> tuple[Tensor, Tensor]:
    if data == "points":
        table = torch.tensor(UNEQUAL, dtype=torch.float64)
        return table[:, :2], table[:, 2]
    where = points(data, KNOWN, torch.Generator().manual_seed(0))[0].double()
    return where, torch.full((KNOWN,), 1 / KNOWN, dtype=torch.float64)


def play(options: Options) -> int:
    """Write an animation: particles on their way, what the denoiser believes, where its field points."""
    _check(options)
    path = _path(options, f"physics-{options.data}-{options.process}.gif")
    world = World.of(options, options.process)
    frames: list[Image.Image] = []
    trail: list[Tensor] = []
    for step in world.walk(options):
        trail = [*trail[-5:], step.x]
        frames.append(_frame(world, step.t, trail))
    frames += [frames[-1]] * HOLD
    pixels = torch.stack([images.to_tensor(frame) for frame in frames])
    images.save_bytes(images.gif(pixels, 12.0, _settings(options)), path)
    options.talk.result({"path": str(path), "frames": len(frames), "process": world.name})
    options.talk.line(str(path))
    return 0


def field(options: Options) -> int:
    """Write a picture of all processes, a row each, at the same noise levels."""
    _check(options)
    path = _path(options, f"physics-{options.data}.png")
    rows = [_row(World.of(options, process), options) for process in get_args(Name)]
    width, height = rows[0].size
    sheet = Image.new("RGB", (width, len(rows) * height + MARGIN), PAPER)
    for i, row in enumerate(rows):
        sheet.paste(row, (0, i * height))
    small = sheet.resize((sheet.width // 2, sheet.height // 2), Image.Resampling.LANCZOS)
    images.save_png(small.quantize(SHADES, dither=Image.Dither.NONE), path, _settings(options))
    options.talk.result({"path": str(path), "processes": list(get_args(Name))})
    options.talk.line(str(path))
    return 0


def _path(options: Options, name: str) -> Path:
    path, suffix = options.out or Path(name), Path(name).suffix
    if path.suffix.lower() != suffix:
        raise UsageError(f"physics {options.what} writes a file that ends in {suffix}, got '{path}'")
    return path


def _check(options: Options) -> None:
    for name in ("steps", "particles"):
        if getattr(options, name) < 1:
            raise UsageError(f"--{name} must be at least 1, got {getattr(options, name)}.")


def _settings(options: Options) -> dict[str, object]:
    names = ("what", "data", "process", "dim", "mass", "solver", "steps", "particles", "seed")
    return {name: getattr(options, name) for name in names}


def _frame(world: World, t: float, trail: list[Tensor]) -> Image.Image:
    """Particles through a camera that follows them, beside beliefs and field close to the data."""
    alpha, sigma = world.level(t)
    wide = max(VIEW, 2.2 * min(sigma, FAR * 1.2)) if alpha else 2.5
    sheet = Image.new("RGB", (2 * SIDE + 3 * MARGIN, SIDE + 2 * MARGIN + LINE), PAPER)
    told = f"sigma = {sigma:.3g}" if math.isfinite(sigma) else "noise alone"
    font = ImageFont.load_default(14)
    ImageDraw.Draw(sheet).text((MARGIN, 6), f"{world.name}, {told}", INK, font)
    ImageDraw.Draw(sheet).text((SIDE + 2 * MARGIN, 6), "where the denoiser looks, and the flow", INK, font)
    moving = Image.new("RGB", (SMOOTH * SIDE, SMOOTH * SIDE), (16, 18, 28))
    draw = ImageDraw.Draw(moving)
    _dots(draw, alpha * world.points, wide, (90, 96, 120), 1.2)
    for age, x in enumerate(trail):
        bright = (age + 1) / len(trail)
        _dots(draw, x, wide, tuple(int(40 + bright * c) for c in (215, 170, 60)), 0.8 + bright)
    sheet.paste(moving.resize((SIDE, SIDE), Image.Resampling.LANCZOS), (MARGIN, LINE + MARGIN))
    sheet.paste(beliefs(world, t, None), (SIDE + 2 * MARGIN, LINE + MARGIN))
    return sheet


def _row(world: World, options: Options) -> Image.Image:
    """Beliefs, field and particles at each of ``MOMENTS``."""
    steps = list(world.walk(options))
    height = SIDE + 2 * LINE + 2 * MARGIN
    row = Image.new("RGB", (len(MOMENTS) * (SIDE + MARGIN) + MARGIN, height), PAPER)
    draw, font = ImageDraw.Draw(row), ImageFont.load_default(22)
    draw.text((MARGIN, -4), world.name, INK, font)
    for column, moment in enumerate(MOMENTS):
        step = min(steps, key=lambda s: abs(math.log((world.level(s.t)[1] + 1e-4) / (moment + 1e-4))))
        left = MARGIN + column * (SIDE + MARGIN)
        sigma = world.level(step.t)[1]
        draw.text((left, LINE + 2), f"sigma = {sigma:.2g}", PALE, font)
        row.paste(beliefs(world, step.t, step.x), (left, 2 * LINE + MARGIN))
    return row


def beliefs(world: World, t: float, x: Tensor | None) -> Image.Image:
    """The plane, each place in the colour of the place where its data are believed to be, with arrows along
    the flow and, if given, particles. Angles are hues, the middle is grey."""
    t = max(t, float(world.process.schedule.when(torch.tensor([NEAR], dtype=torch.float64))[0]))
    scale = world.level(t)[0] or 1.0
    here = _plane(MESH)
    told = world.denoise.posterior(scale * here, torch.full((len(here),), t, dtype=torch.float64))
    picture = images.to_pil(2 * _colours(told @ world.points).T.reshape(3, MESH, MESH).float() - 1)
    large = picture.resize((SMOOTH * SIDE, SMOOTH * SIDE), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(large)
    at = _plane(ARROWS)
    flow = world.denoise(scale * at, torch.full((len(at),), t, dtype=torch.float64)).x0 - at
    length = flow.norm(dim=1, keepdim=True).clamp(min=1e-9)
    _arrows(draw, at, flow / length * (0.75 * VIEW / ARROWS * (length / (length + 0.1))))
    _dots(draw, world.points, VIEW, PAPER, 1.6)
    if x is not None:
        _dots(draw, x / scale, VIEW, INK, 1.5)
    return large.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def _plane(side: int) -> Float[Tensor, "n 2"]:
    """Places in the view, row by row from the top."""
    edge = VIEW * (1 - 1 / side)
    line = torch.linspace(-edge, edge, side, dtype=torch.float64)
    return torch.stack([line.repeat(side), -line.repeat_interleave(side)], 1)


def _colours(places: Float[Tensor, "n 2"]) -> Float[Tensor, "n 3"]:
    """Hue by angle, the purer the farther out; in [0, 1]."""
    angle, radius = torch.atan2(places[:, 1], places[:, 0]), places.norm(dim=1).clamp(max=1.0)
    turns = torch.tensor([0.0, 2 * math.pi / 3, 4 * math.pi / 3], dtype=places.dtype)
    return 0.62 + 0.36 * radius[:, None] * (angle[:, None] - turns).cos()


def _pixels(x: Tensor, wide: float) -> list[tuple[float, float]]:
    size = SMOOTH * SIDE
    at = torch.stack([x[:, 0] / wide + 1, 1 - x[:, 1] / wide], 1) * size / 2
    kept = ((at > -9) & (at < size + 9)).all(1)
    return [(float(i), float(j)) for i, j in at[kept]]


def _dots(draw: ImageDraw.ImageDraw, x: Tensor, wide: float, colour: tuple[int, ...], radius: float) -> None:
    r = radius * SMOOTH
    for i, j in _pixels(x, wide):
        draw.ellipse((i - r, j - r, i + r, j + r), fill=colour)


def _arrows(draw: ImageDraw.ImageDraw, at: Tensor, along: Tensor) -> None:
    """Short lines with a head, in the still view."""
    for (i, j), (u, v) in zip(_pixels(at - along, VIEW), _pixels(at + along, VIEW), strict=True):
        draw.line((i, j, u, v), PAPER, SMOOTH)
        r = 1.3 * SMOOTH
        draw.ellipse((u - r, v - r, u + r, v + r), fill=PAPER)
