"""The verb ``physics``: which equations can generate, and what their particles do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tyro.conf import Positional

from sfumato.apps.talk import Common, table
from sfumato.errors import UsageError

if TYPE_CHECKING:
    from sfumato.core.physics import Law, Verdict

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
    equation: Positional[str] = ""
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


def main(options: Options) -> int:
    """Do what was asked for."""
    if options.equation and options.what != "check":
        raise UsageError(f"physics {options.what} takes no equation; did you mean 'physics check'?")
    match options.what:
        case "list":
            return _list(options)
        case "check":
            return _check(options)
    from sfumato.apps import playground

    return playground.play(options) if options.what == "play" else playground.field(options)


def _list(options: Options) -> int:
    from sfumato.core.physics import NUMBERS, PROCESSES, Equation, check

    rows = [_row(law, check(Equation.read(law.equation, NUMBERS))) for law in PROCESSES]
    options.talk.result(rows)
    heads = ["process", "equation", "w(k)", "density p", "velocity", "births", "generative", "here"]
    options.talk.show(table(heads, [list(row.values()) for row in rows]))
    options.talk.note("generative: Im w(k) < Im w(0) for all k > 0, and p nowhere negative (computed).")
    return 0


def _row(law: Law, verdict: Verdict) -> dict[str, str]:
    return {
        "process": law.name,
        "equation": f"{law.equation} = 0",
        "frequency": law.frequency,
        "density": law.density,
        "velocity": law.velocity,
        "births": law.births,
        "generative": verdict.answer,
        "system": law.system,
    }


def _check(options: Options) -> int:
    from sfumato.core.physics import NUMBERS, Equation, check

    if not options.equation:
        raise UsageError("physics check needs an equation, such as 'phi_tt + lap(phi) - m**2*phi'.")
    numbers = {name: float(getattr(options, name)) for name in NUMBERS}
    verdict = check(Equation.read(options.equation, numbers))
    samples = [{"k": k, "re": w.real + 0.0, "im": w.imag + 0.0} for k, w in verdict.samples]
    told: dict[str, Any] = {
        "equation": options.equation,
        "generative": verdict.answer,
        "reason": verdict.reason,
        "frequency": samples,
    }
    options.talk.result(told)
    options.talk.line(f"{options.equation}\ngenerative: {verdict.answer}; {verdict.reason}")
    cells = [[f"{row[key]:.4g}" for key in ("k", "re", "im")] for row in samples]
    options.talk.show(table(["k", "Re w(k)", "Im w(k)"], cells))
    return 0
