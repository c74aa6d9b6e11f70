"""Pictures of portraits: layers of soft-edged shapes from the background to the glasses, lightly shaded.

Lengths are in half sides of the picture: the shorter side reaches from -1 to 1, y grows downwards.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.data.faces.palette import HAIRLINE, HEAD, MOOD, OUTLINE, colours, proportions
from sfumato.data.faces.scene import BUILD, Portraits
from sfumato.errors import UsageError

SMALLEST = 24
"""Pixels a side below which a gaze cannot be told."""
_CHUNK = 32
"""Faces painted at once, so that a layer stays in the cache."""
_INK = (0.09, 0.07, 0.09)
_FRAME = (0.10, 0.08, 0.11)
_EYES, _MOUTH, _BODY = (-0.52, 0.32), (0.02, 0.62), (0.24, 1.0)
"""Rows in which eyes with brows and glasses, mouths and shoulders can lie."""


def render(portraits: Portraits, height: int, width: int | None = None) -> Float[Tensor, "n 3 h w"]:
    """Paint the portraits in [-1, 1], antialiased."""
    width = height if width is None else width
    if min(height, width) < SMALLEST:
        raise UsageError(f"Faces need {SMALLEST} pixels a side, got {height} x {width}; choose 32 or 64.")
    out = torch.empty(len(portraits), 3, height, width)
    for start in range(0, len(portraits), _CHUNK):
        rows = slice(start, start + _CHUNK)
        out[rows] = _Painting(portraits[rows], height, width).painted()
    return out


@dataclass(frozen=True)
class _Rows:
    """A band of the picture: its rows, and the coordinates there, seen by the head."""

    at: slice
    across: Tensor
    """As if drawn on the face: 0 between the eyes, however the head is turned."""
    down: Tensor


class _Painting:
    """Some portraits on their way to the canvas; every method adds what its name says."""

    def __init__(self, p: Portraits, height: int, width: int):
        side = min(height, width)
        self.n, self.height, self.side, self.pixel = len(p), height, side, 2 / side
        self.p = p
        self.build = dict(zip(BUILD, p.build.T[:, :, None, None], strict=True))
        self.gaze_x, self.gaze_y, self.turn, tilt = p.directions.T[:, :, None, None]
        self.x = ((torch.arange(width) + 0.5) * 2 - width)[None, None] / side
        self.y = ((torch.arange(height) + 0.5) * 2 - height)[None, :, None] / side
        self.middle = 0.05 * self.build["right"]
        x, y = self.x - self.middle, self.y + 0.02 - 0.04 * self.build["down"]
        angle = 0.2 * tilt
        self.u = angle.cos() * x + angle.sin() * y
        self.v = angle.cos() * y - angle.sin() * x
        head = proportions(HEAD, "head")[p.head].T[:, :, None, None]
        self.half_width = head[0] * (1 + 0.05 * self.build["width"])
        self.half_height = head[1] * (1 + 0.04 * self.build["height"])
        self.squareness, self.chin = head[2], head[3]
        bulge = 1 - (self.u / self.half_width).square_().clamp_(max=1)
        self.f = self.u - 0.11 * self.turn * bulge
        self.canvas = torch.empty(self.n, 3, height, width)

    def painted(self) -> Float[Tensor, "n 3 h w"]:
        self.background()
        outline, below, gloss = self.hair_behind()
        self.body()
        self.head(below)
        self.hair_in_front(outline, below, gloss)
        self.eyes()
        self.nose()
        self.mouth()
        self.glasses()
        return self.canvas.mul_(2).sub_(1).clamp_(-1, 1)

    def rows(self, band: tuple[float, float]) -> _Rows:
        first, last = (int((edge * self.side + self.height) / 2) for edge in band)
        at = slice(max(first, 0), min(last + 1, self.height))
        return _Rows(at, self.f[:, at], self.v[:, at])

    def cover(self, distance: Tensor) -> Tensor:
        """Share of every pixel inside an outline, from the signed distance to it."""
        return distance.mul(-1 / self.pixel).add_(0.5).clamp_(0, 1)

    def lay(self, cover: Tensor, colour: Tensor, at: slice = slice(None)) -> None:
        """Paint a colour, (n, 3) or (n, 3, h, w), where ``cover`` says."""
        colour = colour if colour.ndim == 4 else colour[:, :, None, None]
        part = self.canvas[:, :, at]
        part.lerp_(colour, cover[:, None])

    def ink(self, rgb: tuple[float, float, float]) -> Tensor:
        return torch.tensor(rgb).expand(self.n, 3)

    def colour(self, attribute: str) -> Tensor:
        return colours(attribute)[getattr(self.p, attribute)]

    # From the back to the front ------------------------------------------------------------------

    def background(self) -> None:
        glow = 1.04 - 0.13 * (self.x.square() + (self.y + 0.3).square())
        self.canvas.copy_(self.colour("background")[:, :, None, None] * glow[:, None])

    def hair_behind(self) -> tuple[Tensor, Tensor, Tensor]:
        """Paint it, and give its outline, the distance below the hairline, and shading for the front."""
        style = self.p.style
        shape = proportions(OUTLINE, "style")[style].T[:, :, None, None]
        centre, wide, high, square, end, wave, count, bun = shape
        half_width, half_height = self.half_width + wide, self.half_height + high
        u, v = self.u / half_width, (self.v - centre) / half_height
        angle = torch.atan2(u, -v)
        radius = _superellipse(u, v, square)
        outline = (radius - 1).mul_(half_width)
        wavy, knotted = (torch.nonzero(size[:, 0, 0])[:, 0] for size in (wave, bun))
        outline[wavy] -= (angle[wavy] * count[wavy]).cos_().mul_((wave * half_width)[wavy])
        outline = torch.maximum(outline, self.v - end)
        knot = torch.hypot(self.u[knotted], (self.v + self.half_height + 0.12)[knotted]) - bun[knotted]
        outline[knotted] = torch.minimum(outline[knotted], knot)
        gloss = (1 - ((radius - 0.82) * 7).square_()).clamp_(0).mul_(v < 0)
        gloss = gloss.mul_(0.26).add_((angle * 23).cos_(), alpha=0.04).sub_(0.04)
        base, slope, bend, part, waves, _ = proportions(HAIRLINE, "style")[style].T[:, :, None, None]
        f = self.f
        below = self.v - base - f * (slope + bend * f) - part * f.abs()
        below[wavy] -= (f[wavy] * 30).cos_().mul_(waves[wavy])
        hair = self.colour("hair")[:, :, None, None]
        self.lay(self.cover(outline), hair * (0.76 + 0.4 * gloss[:, None]))
        return outline, below, gloss

    def body(self) -> None:
        at = self.rows(_BODY).at
        x, y = self.x - 0.8 * self.middle, self.y[:, at]
        skin, clothes = self.colour("skin")[:, :, None, None], self.colour("clothes")[:, :, None, None]
        neck = torch.maximum(x.abs() - 0.165 - 0.25 * (y - 0.62).clamp(0), 0.2 - y)
        shadow = 0.68 + 0.5 * (y - self.half_height - 0.04).clamp(0, 0.45)
        self.lay(self.cover(neck), skin * shadow[:, None], at)
        shoulders = _superellipse(x / 0.80, (y - 1.15) / 0.46, torch.tensor(1.2)).sub_(1).mul_(0.46)
        neckline = 0.27 - torch.hypot(x, y - 0.62)
        shade = 1.05 - 0.25 * x.abs() - 0.1 * (neckline > -0.07).float()
        self.lay(self.cover(torch.maximum(shoulders, neckline)), clothes * shade[:, None], at)

    def head(self, below: Tensor) -> None:
        skin = self.colour("skin")[:, :, None, None]
        ears = proportions(HAIRLINE, "style")[self.p.style][:, 5, None, None]
        beside = (self.u + 0.04 * self.turn).abs() - self.half_width
        ear = torch.hypot(beside * 1.3, self.v - 0.03)
        self.lay(self.cover(ear - 0.125) * ears, skin * (0.72 + 1.6 * (ear - 0.02).clamp_(0, 0.12))[:, None])
        y = self.v / self.half_height
        x = self.u / (self.half_width * (1 - self.chin * y.clamp(0, 1).square()))
        radius = _superellipse(x, y, self.squareness)
        light = 1.02 - 0.09 * y - 0.10 * x * self.build["light"] - 0.5 * (radius - 0.6).clamp_(0).square()
        light -= 0.16 * (1 - below / 0.09).clamp_(0, 1) * (below > -0.1)
        self.lay(self.cover((radius - 1).mul_(self.half_width)), skin * light[:, None])
        cheek = 1 - ((self.f.abs() - 0.29).square() + (self.v - 0.19).square()) / 0.022
        self.lay(
            cheek.clamp_(0).mul_(0.3), (skin * torch.tensor([1.0, 0.62, 0.60])[:, None, None])[:, :, 0, 0]
        )

    def hair_in_front(self, outline: Tensor, below: Tensor, gloss: Tensor) -> None:
        front = self.cover(torch.maximum(outline, below * 0.85))
        self.lay(front, self.colour("hair")[:, :, None, None] * (0.98 + gloss[:, None]))

    def eyes(self) -> None:
        r = self.rows(_EYES)
        _, _, slope, lift, open_ = proportions(MOOD, "mood")[self.p.mood].T[:, :, None, None]
        side = torch.where(r.across < 0, -1.0, 1.0)
        across, down = r.across.abs() - self.apart, r.down + 0.03
        size = 1 + 0.1 * self.build["eye_size"]
        wide, high = 0.145 * size, 0.112 * size * open_
        painted = (self.p.shadow > 0).float()[:, None, None]
        lid = _ellipse(across / (wide + 0.055), (down + 0.055) / (high + 0.06)).sub_(1).mul_(0.13)
        lid = torch.maximum(lid, down - 0.03)
        self.lay(self.cover(lid) * painted * 0.8, self.colour("shadow"), r.at)
        ball = _ellipse(across / wide, down / high).sub_(1).mul_(high)
        inside = self.cover(ball)
        white = 0.98 - 0.25 * (-down / high - 0.35).clamp(0)
        self.lay(inside, white[:, None].expand(-1, 3, -1, -1), r.at)
        x = across - side * (0.062 * self.gaze_x)
        y = down - 0.042 * self.gaze_y
        away = torch.hypot(x, y)
        iris = self.colour("eyes")[:, :, None, None]
        depth = 1.0 + 3.2 * y - 0.45 * ((away - 0.06) / 0.02).clamp(0, 1)
        self.lay(torch.minimum(inside, self.cover(away - 0.082)), iris * depth[:, None], r.at)
        self.lay(torch.minimum(inside, self.cover(away - 0.04)), self.ink(_INK), r.at)
        glint = torch.hypot(x + side * 0.03, y + 0.032) - 0.022
        self.lay(torch.minimum(inside, self.cover(glint)), self.ink((1.0, 1.0, 1.0)), r.at)
        lash = torch.maximum(ball.abs() - 0.02, down + 0.01)
        self.lay(self.cover(lash), self.ink(_INK), r.at)
        raised = 0.195 + lift + 0.02 * self.build["brow"]
        brow = (down + raised - across * slope - 1.6 * across.square()).abs() - 0.026 + 0.07 * across.clamp(0)
        brow = torch.maximum(brow, across.abs() - 0.14)
        self.lay(self.cover(brow), self.colour("hair") * 0.55, r.at)

    @property
    def apart(self) -> Tensor:
        """From the middle of the face to the middle of an eye."""
        return 0.212 * (1 + 0.07 * self.build["eyes_apart"])

    def nose(self) -> None:
        r = self.rows(_MOUTH[:1] + _EYES[1:])
        size = 1 + 0.25 * self.build["nose"]
        x, y = r.across - 0.05 * self.turn, r.down - 0.15
        skin = self.colour("skin")
        under = _ellipse(x / (0.07 * size), (y - 0.01) / 0.045).sub_(1).mul_(0.05)
        self.lay(self.cover(under) * 0.9, skin * torch.tensor([0.80, 0.70, 0.68]), r.at)
        tip = _ellipse((x + 0.012) / (0.058 * size), (y + 0.012) / 0.045).sub_(1).mul_(0.05)
        self.lay(self.cover(tip), (skin * 1.07).clamp(max=1), r.at)

    def mouth(self) -> None:
        r = self.rows(_MOUTH)
        rise, opened, *_ = proportions(MOOD, "mood")[self.p.mood].T[:, :, None, None]
        x = r.across / (0.185 * (1 + 0.12 * self.build["mouth"]))
        y = r.down - 0.345 + rise * (x.square() - 0.3) - 0.012 * (opened > 0)
        taper = (1 - x.square()).clamp_(0)
        plain = (self.p.lips == 0).float()[:, None]
        lips = self.colour("lips")
        lips = torch.lerp(lips, self.colour("skin") * torch.tensor([0.86, 0.60, 0.58]), 0.75 * plain)
        full = 1 - 0.25 * plain[:, :, None]
        gap = opened * taper
        above, under = 0.042 * full * taper, 0.06 * full * taper
        lip = torch.maximum(-y - above, y - gap - under)
        light = 1 + 2.5 * (y - gap).clamp(-0.05, 0.035)
        edge = (1 - x.abs()) * 0.18
        inside = self.cover(torch.maximum(lip, -edge))
        self.lay(inside, lips[:, :, None, None] * light[:, None], r.at)
        self.lay(self.cover(torch.maximum(-y, y - gap)) * (gap > 0), self.ink((0.32, 0.06, 0.08)), r.at)
        teeth = torch.maximum(-y, y - 0.42 * gap)
        self.lay(self.cover(teeth) * (gap > 0.01), self.ink((0.97, 0.96, 0.93)), r.at)
        crease = torch.maximum(y.abs() - 0.011, -edge - 0.01)
        self.lay(self.cover(crease) * 0.8 * (opened == 0), lips * 0.42, r.at)

    def glasses(self) -> None:
        r = self.rows(_EYES)
        kind = self.p.glasses[:, None, None]
        across, down = r.across.abs() - self.apart, r.down + 0.025
        ring = torch.hypot(across, down) - 0.192
        box = torch.hypot((across.abs() - 0.135).clamp(0), (down.abs() - 0.10).clamp(0)) - 0.055
        rim = torch.where(kind == 1, ring, box)
        worn = (kind > 0).float()
        self.lay(self.cover(rim) * 0.14 * worn, self.ink((0.9, 0.97, 1.0)), r.at)
        bridge = torch.maximum((down + 0.03).abs() - 0.018, across + 0.18)
        arm = torch.maximum((down + 0.035).abs() - 0.018, 0.18 - across)
        arm = torch.maximum(arm, self.u[:, r.at].abs() - self.half_width - 0.01)
        frame = torch.minimum(rim.abs() - 0.021, torch.minimum(bridge, arm))
        self.lay(self.cover(frame) * worn, self.ink(_FRAME), r.at)


def _ellipse(x: Tensor, y: Tensor) -> Tensor:
    """Distance from the centre in units of the radius: 1 on the outline."""
    return (x.square() + y.square()).sqrt_()


def _superellipse(x: Tensor, y: Tensor, squareness: Tensor) -> Tensor:
    """The same for (x^4 + y^4 + s x^2 y^2)^(1/4): an ellipse for s = 2, nearly a rectangle for s = 0."""
    x, y = x.square(), y.square()
    return (x.square() + y.square() + squareness * x * y).sqrt_().sqrt_()
