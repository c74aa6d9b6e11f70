"""Particles that split and vanish: what a flow needs whose field does not conserve what it carries.

GenPhys (Liu et al. 2023, arXiv 2304.02637, eq. 5): dp/dt + div(p v) = R. Where R is not zero, particles that
only move end up in the wrong shares; on their way back to the data some must split and others vanish.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sfumato.core.denoiser import Belief
from sfumato.core.process import Process
from sfumato.core.rng import Rng
from sfumato.core.steps import Denoise, Project, Solver, Step, needed
from sfumato.errors import UsageError

FEWEST = 256
"""Particles of which a share can vanish without leaving holes."""
EFFECTIVE = 0.9
"""Share of particles that must still count before some split and others vanish."""


def branching(solver: Solver) -> Solver:
    """``solver`` for a population: weights grow as ``Belief.rate`` says, and become particles again.

    Each split and each death changes who stands where, so a particle's fate depends on all others; only
    point sets are sampled this way. Solvers of several steps begin anew with each.
    """

    @torch.no_grad()
    def branched(
        denoise: Denoise,
        process: Process,
        x: Float[Tensor, "b ..."],
        times: Float[Tensor, " s"],
        *,
        rng: Rng | None = None,
        project: Project | None = None,
    ) -> Iterator[Step]:
        if len(x) < FEWEST:
            raise UsageError(
                f"Births and deaths need a population of at least {FEWEST} particles, got {len(x)}; "
                "take more, or a gauge that conserves them."
            )
        rates: list[Tensor] = []

        def noted(x: Tensor, t: Tensor) -> Belief:
            belief = denoise(x, t)
            if belief.rate is None:
                raise UsageError("This denoiser does not say where particles are born; take another process.")
            rates.append(belief.rate)
            return belief

        log_weights = torch.zeros(len(x), dtype=torch.float64)
        ends = process.ratio(times.double().cpu()).tolist()
        for (t, s), (now, then) in zip(pairwise(times), pairwise(ends), strict=True):
            rates.clear()
            *_, step = solver(noted, process, x, torch.stack([t, s]), rng=rng, project=project)
            log_weights = log_weights + (now - then) * torch.stack(rates).mean(0).double().cpu()
            weights = log_weights.softmax(0)
            last = then == 0
            if last or 1 / weights.square().sum() < EFFECTIVE * len(x):
                heirs = systematic(weights, float(needed(rng).uniform()[0]))
                step = Step(step.t, step.x[heirs], step.x0[heirs])
                log_weights = torch.zeros_like(log_weights)
            yield step
            x = step.x

    return branched


def systematic(weights: Float[Tensor, " n"], start: float) -> Int[Tensor, " n"]:
    """Who takes the n places: particle i takes n times its weight, rounded up or down; ``start`` in [0, 1).

    >>> systematic(torch.tensor([0.1, 0.5, 0.0, 0.4]), 0.5).tolist()
    [1, 1, 3, 3]
    """
    count = len(weights)
    places = (torch.arange(count, dtype=torch.float64) + start) / count
    return torch.searchsorted(weights.double().cumsum(0), places).clamp(max=count - 1)
