"""The verb ``physics``: which equations can generate, and what their particles do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sfumato.apps.physics_options import Options
from sfumato.apps.talk import table
from sfumato.errors import UsageError

if TYPE_CHECKING:
    from sfumato.core.physics import Law, Verdict


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
