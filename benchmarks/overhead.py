"""What a step of sampling costs beyond the network: our denoiser and solvers beside diffusers' schedulers.

    python -m benchmarks.overhead [--rounds 40] [--steps 50]

The network answers at once, with its input; batch 1, 4 x 32 x 32 numbers, one thread. Rounds alternate in one
process; the quartile tells. Ours is everything between two calls of the network: the denoiser with scales and
clock, the solver, progress. Theirs is what their pipelines do in a step: ``scale_model_input`` and ``step``.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import tyro
from torch import Tensor, nn

SHAPE = (1, 4, 32, 32)
BETAS = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}


@dataclass(frozen=True)
class Args:
    """How much is measured."""

    rounds: int = 40
    steps: int = 50


class Instant(nn.Module):
    """A network that takes no time."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, clock: Tensor, cond: Any) -> Tensor:
        return x


def main(args: Args) -> None:
    torch.set_num_threads(1)
    print(f"microseconds a step beyond the network, {args.steps} steps, {args.rounds} rounds in turn")
    print(f"{'':12}{'diffusers':>12}{'ours':>8}{'ratio':>8}")
    for name in ("ddim", "euler", "dpmpp_2m"):
        sides = (theirs(name, args.steps), ours(name, args.steps))
        spent: list[list[float]] = [[], []]
        for _ in range(args.rounds):
            for side, column in zip(sides, spent, strict=True):
                start = time.process_time()
                side()
                column.append((time.process_time() - start) / args.steps * 1e6)
        them, us = (statistics.quantiles(column, n=4)[0] for column in spent)
        print(f"{name:12}{them:12.1f}{us:8.1f}{us / them:8.2f}")


def ours(name: str, steps: int) -> Callable[[], None]:
    """Our solver around our denoiser."""
    from sfumato.core import guidance, solvers
    from sfumato.core.denoiser import Denoiser
    from sfumato.core.process import Process, ScaledLinear
    from sfumato.nn.condition import Condition

    process = Process(ScaledLinear())
    denoise = guidance.conditioned(Denoiser(Instant(), process, "eps"), Condition())
    times, x = process.schedule.grid(steps, "leading"), torch.randn(SHAPE)

    def run() -> None:
        for _ in solvers.named(name)(denoise, process, x, times):
            pass

    return run


def theirs(name: str, steps: int) -> Callable[[], None]:
    """Their scheduler, called as their pipelines call it."""
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler

    kind = {"ddim": DDIMScheduler, "euler": EulerDiscreteScheduler, "dpmpp_2m": DPMSolverMultistepScheduler}[
        name
    ]
    scheduler = kind(**BETAS)
    x = torch.randn(SHAPE)

    @torch.no_grad()
    def run() -> None:
        scheduler.set_timesteps(steps)
        sample = x
        for t in scheduler.timesteps:
            answer = scheduler.scale_model_input(sample, t)
            sample = scheduler.step(answer, t, sample, return_dict=False)[0]

    return run


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
