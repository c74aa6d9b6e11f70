"""A solver that chooses the length of its steps by its own error estimate."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.process import Process
from sfumato.core.rng import Rng
from sfumato.core.steps import Denoise, Project, Step
from sfumato.errors import UsageError

# Dormand & Prince 1980: where each stage looks, what it takes from the earlier ones, the error's weights.
NODES = (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
STAGES = (
    (),
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)
MOST_TRIES = 1000


@torch.no_grad()
def rk45(
    denoise: Denoise,
    process: Process,
    x: Float[Tensor, "b ..."],
    times: Float[Tensor, " s"],
    *,
    rng: Rng | None = None,
    project: Project | None = None,
    tolerance: float = 1e-3,
) -> Iterator[Step]:
    """Runge-Kutta of order 5 with steps as long as its own error estimate allows (Dormand & Prince 1980).

    ``times`` say where to begin, where to end and how long the first step is. Every sample takes steps of
    its own, so that none depends on its neighbours; ``tolerance`` is the error allowed a step, relative
    and absolute. The flow is dy / dln(r) = y - x0, where y = x / alpha and r = sigma / alpha.
    """
    levels = process.levels(times.double().cpu())
    logs = [math.log(v.sigma / v.alpha) for v in levels if v.alpha > 0 and v.sigma > 0]
    if levels[0].alpha == 0:  # nothing but noise, where y has no meaning: the first stretch is Euler's
        start = times.double().cpu()[:1].expand(len(x))
        x = process.step(x, denoise(x, start).x0, levels[0], levels[1])
    flow = _Flow(denoise, process, x)
    log_r, end = torch.full((len(x),), logs[0], dtype=torch.float64), logs[-1]
    y = x / flow.alpha(log_r)
    stride = torch.full_like(log_r, (end - logs[0]) / max(len(logs) - 1, 1))
    for _ in range(MOST_TRIES):
        stride = torch.maximum(stride, end - log_r)
        ahead, size = flow.trial(y, log_r, stride, tolerance)
        good = size <= 1
        log_r = torch.where(good, log_r + stride, log_r)
        y = torch.where(flow.shaped(good).to(y.device), ahead, y)
        stride = stride * (0.9 * size**-0.2).clamp(0.2, 5.0)
        t = process.schedule.when(log_r.exp())
        x = flow.alpha(log_r) * y
        if project is not None:
            x = project(x, t)
            y = x / flow.alpha(log_r)
        arrived = bool((log_r <= end + 1e-9).all())
        if arrived and levels[-1].sigma == 0:
            x0 = denoise(x, t).x0
            yield Step(0.0, x0 if project is None else project(x0, torch.zeros_like(t)), x0)
            return
        yield Step(float(t.max()), x, flow.x0)
        if arrived:
            return
    raise UsageError(f"rk45 did not arrive within {MOST_TRIES} steps; allow a larger tolerance.")


class _Flow:
    """The flow of a whole batch, each sample at its own noise level."""

    def __init__(self, denoise: Denoise, process: Process, like: Tensor):
        self.denoise, self.process = denoise, process
        self.shape = (-1, *[1] * (like.ndim - 1))
        self.x0 = like

    def shaped(self, numbers: Tensor) -> Tensor:
        return numbers.view(self.shape)

    def alpha(self, log_r: Tensor) -> Tensor:
        return self.shaped(self.process.schedule.alpha(self.process.schedule.when(log_r.exp()))).to(self.x0)

    def slope(self, y: Tensor, log_r: Tensor) -> Tensor:
        self.x0 = self.denoise(self.alpha(log_r) * y, self.process.schedule.when(log_r.exp())).x0
        return y - self.x0

    def trial(self, y: Tensor, log_r: Tensor, stride: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
        """The point a stride ahead, and its error as a multiple of what is allowed, a sample."""
        h, ahead = self.shaped(stride).to(y), y
        slopes: list[Tensor] = []
        for node, weights in zip(NODES, STAGES, strict=True):
            ahead = y + h * _blend(weights, slopes, y)
            slopes.append(self.slope(ahead, log_r + node * stride))
        error = h * _blend(ERROR, slopes, y)
        allowed = tolerance * (1 + torch.maximum(y.abs(), ahead.abs()))
        size = (error / allowed).flatten(1).square().mean(1).sqrt()
        return ahead, size.double().cpu().clamp(min=1e-10)


def _blend(weights: tuple[float, ...], slopes: list[Tensor], like: Tensor) -> Tensor:
    out = torch.zeros_like(like)
    for weight, slope in zip(weights, slopes, strict=True):
        out = out + weight * slope
    return out
