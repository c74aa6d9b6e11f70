"""What one may ask of the verb ``physics``; without torch, so that its help comes at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from sfumato.apps.talk import Common

Data = Literal["rings", "spiral", "moons", "gaussians", "points"]
Name = Literal["gaussian", "flow", "pfgm", "pfgmpp", "yukawa"]


@dataclass(frozen=True)
class Options(Common):
    """Which equations of physics can generate data, and what their particles do.

    Examples:

      sfumato physics list

      sfumato physics check "phi_tt + lap(phi) - m**2*phi" --m 0.5

      sfumato physics play --data rings --process pfgmpp --dim 64 --out rings.gif

      sfumato physics field --data rings --out physics.png

    An equation is linear in phi(x, t): phi_t and phi_tt are derivatives in time, lap(...) is the Laplacian,
    frac(..., a) is (-lap)^(a/2), i the imaginary unit, and m, e, k0, a and c are numbers set by options.
    """

    what: Positional[Literal["list", "check", "play", "field"]] = "list"
    """The table of processes; the verdict on an equation; an animation; all processes side by side."""
    equation: Annotated[Positional[str], tyro.conf.arg(metavar="[EQUATION]")] = ""
    """For check; without "=" it is meant to be zero."""
    m: float = 1.0
    """Mass in an equation."""
    e: float = 1.0
    """Damping in an equation."""
    k0: float = 1.0
    """Wave number in an equation."""
    a: float = 1.5
    """Power in an equation."""
    c: float = 1.0
    """Any number in an equation."""
    data: Data = "rings"
    """Points to generate: toys, or four charges of different weight."""
    process: Name = "gaussian"
    """How they turn into noise; field shows all."""
    dim: float = 64.0
    """Dimensions that pfgmpp adds."""
    mass: float = 0.2
    """Of yukawa's carriers."""
    solver: str = "heun"
    """Name of the solver."""
    steps: int = 40
    """Of the solver, and frames of the animation."""
    particles: int = 600
    """How many walk from noise to data."""
    seed: int = 0
    out: Path | None = None
    """File to write: .gif for play, .png for field."""
