"""What solvers are made of: steps, the stretches between times, and the signature all of them share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from sfumato.core.denoiser import Belief
from sfumato.core.process import Level, Process
from sfumato.core.rng import Rng
from sfumato.errors import UsageError

Denoise = Callable[[Tensor, Tensor], Belief]
"""(x, t) -> what the clean data is believed to be; t is (b,) float64 on the CPU."""
Project = Callable[[Tensor, Tensor], Tensor]
"""(x, t) -> x that agrees with what is known."""


class Step(NamedTuple):
    """Where a solver stands."""

    t: float
    x: Float[Tensor, "b ..."]
    """The sample at time t."""
    x0: Float[Tensor, "b ..."]
    """What the clean data was believed to be on the way here."""


@runtime_checkable
class Solver(Protocol):
    """The signature that all solvers share."""

    def __call__(
        self,
        denoise: Denoise,
        process: Process,
        x: Float[Tensor, "b ..."],
        times: Float[Tensor, " s"],
        *,
        rng: Rng | None = None,
        project: Project | None = None,
    ) -> Iterator[Step]: ...


class Leg(NamedTuple):
    """One stretch of the way, from a time to the next."""

    t: Tensor
    s: Tensor
    now: Level
    then: Level
    end: float
    """The time the stretch leads to, as a plain number."""


def legs(process: Process, x: Tensor, times: Tensor) -> Iterator[Leg]:
    """The way cut at every time."""
    times = times.double().cpu()
    stamps, ends = times[:, None].expand(-1, len(x)).unbind(), times.tolist()
    for i, (now, then) in enumerate(pairwise(process.levels(times))):
        yield Leg(stamps[i], stamps[i + 1], now, then, ends[i + 1])


def arrive(x: Tensor, x0: Tensor, leg: Leg, project: Project | None) -> Step:
    """The step that ends a stretch, agreeing with what is known."""
    return Step(leg.end, x if project is None else project(x, leg.s), x0)


def needed(rng: Rng | None) -> Rng:
    """The streams, for a solver that adds noise; ``UsageError`` without."""
    if rng is None:
        raise UsageError(
            "This solver adds noise and needs random streams; pass rng=Rng.sampling(seed, count)."
        )
    return rng
