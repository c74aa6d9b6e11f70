"""The request for new pictures; without torch, so that the command line can show its fields at once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeVar

V = TypeVar("V")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What every request has."""

    seed: int = 0
    """Same seed, same answer; picture i of a request has the seed ``seed + i``."""
    count: int = 4
    """How many pictures."""


@dataclass(frozen=True, kw_only=True)
class Generate(Request):
    """Make pictures from nothing, from a label or from a prompt."""

    prompt: str | tuple[str, ...] = ""
    """What to show; several prompts are taken in turn, one a picture."""
    negative: str = ""
    """What to avoid."""
    label: int | str | tuple[int | str, ...] | None = None
    """Which class to show, by number or by name; several are taken in turn; none means any."""
    steps: int | None = None
    """How many steps the solver takes; none means the system's own default."""
    guidance: float | None = None
    """How strongly to follow the prompt or label; 1 switches guidance off."""
    guidance_convention: Literal["scale", "excess"] = "scale"
    """How guidance without a classifier counts: as a scale (Imagen, Stable Diffusion), where 1 is none, or as
    the excess over it (Ho and Salimans' w), where 0 is none."""
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    """The part of time, 0 data and 1 noise, in which guidance acts."""
    guidance_rescale: float = 0.0
    """How much to undo guidance's gain in contrast (0 to 1)."""
    threshold: str | None = None
    """How guided pictures are kept in range: static cuts off, dynamic:0.995 draws the whole picture nearer
    by that percentile; none means the system's own default."""
    solver: str | None = None
    """Name of the solver; none means the system's own default."""
    spacing: Literal["leading", "trailing", "linspace", "karras"] | None = None
    """How the steps are spread over time; none means the system's own default."""
    eta: float | None = None
    """Fresh noise per step of DDIM: 0 none, 1 as much as DDPM."""
    truncation: float | None = None
    """How far a GAN's pictures stray from its average: 1 as far as they will, 0 not at all."""
    temperature: float | None = None
    """How freely a model chooses that draws token by token: 1 as it has learned, 0 always the likeliest."""
    top_k: int | None = None
    """Among how many of the likeliest tokens such a model chooses; 0 means among all."""
    height: int | None = None
    """Pixels; none means the size the system was trained at."""
    width: int | None = None
    """Pixels; none means the size the system was trained at."""
    chunked: bool = False
    """Read all of a long prompt, in rows of the length that the model was trained with; else the end of it is
    left out, which is told."""
    original: tuple[int, int] | None = None
    """For SDXL: height and width the picture is to look as if it had before it was scaled; none means its
    own."""
    crop: tuple[int, int] | None = None
    """For SDXL: how many rows and columns are to look cut off at the top and the left; none means 0 0."""
    aesthetic: float | None = None
    """For SDXL's refiner: how beautiful it is to be, from 1 to 10; none means 6."""
    prior: str | None = None
    """For unCLIP: which prior imagines the picture's embedding (diffusion, autoregressive); "none" takes the
    text's own embedding in its place."""

    def guided(self, default: float) -> float:
        """The scale of guidance without a classifier; ``default`` if none was asked for.

        >>> Generate(guidance=2.0, guidance_convention="excess").guided(1.0)
        3.0
        """
        if self.guidance is None:
            return default
        return self.guidance + (self.guidance_convention == "excess")

    def part(self, start: int, stop: int) -> Generate:
        """The same request for pictures ``start`` to ``stop`` alone: what comes out is the same."""
        mine = range(start, stop)
        prompt = self.prompt if isinstance(self.prompt, str) else tuple(in_turn(self.prompt, mine))
        label = tuple(in_turn(self.label, mine)) if isinstance(self.label, tuple) else self.label
        return replace(self, seed=self.seed + start, count=len(mine), prompt=prompt, label=label)


def in_turn(values: tuple[V, ...], places: range) -> list[V]:
    """``values`` taken again and again, at ``places``.

    >>> in_turn(("a", "b"), range(1, 4))
    ['b', 'a', 'b']
    """
    return [values[i % len(values)] for i in places]
