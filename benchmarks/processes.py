"""One network under many processes at equal cost, and what each bears: noise, coarse weights, few steps.

    python -m benchmarks.processes --out out/processes --data digits
    python -m benchmarks.processes --out out/processes --data fashion --steps 1200 --count 500

All arms have the same network, optimiser, batch and number of steps; each is sampled as its own preset says.
PFGM++ with infinitely many dimensions is EDM's row. What is finished is kept in --out and not run again.

Robustness is asked as section 5.2 of the PFGM++ paper does: Gaussian noise of a given share is added to what
the network answers at every step, or its weights are rounded to a few bits after training.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from torch import Tensor, nn

import sfumato
from sfumato.core.request import Generate, Images
from sfumato.data import open_data
from sfumato.metrics.report import digits_gate, evaluate
from sfumato.systems.diffusion.pixels import PixelDiffusion

Data = Literal["digits", "fashion"]
ARMS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "ddpm": ("ddpm", {}),
    "flow": ("flow", {}),
    "edm": ("edm", {}),
    "pfgmpp-2048": ("pfgmpp", {"process.kernel.dim": 2048}),
    "pfgmpp-128": ("pfgmpp", {"process.kernel.dim": 128}),
    "pfgmpp-64": ("pfgmpp", {"process.kernel.dim": 64}),
    "pfgm": ("pfgm", {}),
    "yukawa": ("yukawa", {}),
}
"""Name, system, settings; from heat to the field of charges."""
DIMENSIONED = ("edm", "pfgmpp-2048", "pfgmpp-128", "pfgmpp-64", "pfgm")
"""Arms that differ in D alone: infinitely many, ..., 1."""
SHARES, BITS, FEW = (0.1, 0.2, 0.3), (6, 5, 4), (4, 8, 18, 36)
FIRST_SEED = 1_000_000


@dataclass(frozen=True)
class Args:
    """What is compared, and at what cost."""

    out: Path
    data: Data = "digits"
    arms: tuple[str, ...] = tuple(ARMS)
    steps: int = 2500
    """Of training, for every arm."""
    count: int = 600
    """Pictures drawn of each arm for each figure."""
    seed: int = 0


def main(args: Args) -> None:
    torch.set_num_threads(1)
    for arm in args.arms:
        kept = args.out / f"{args.data}-{arm}-{args.seed}.json"
        if not kept.exists():
            found = measured(args, arm)
            kept.write_text(json.dumps(found))
            print(arm, found, flush=True)
    print(table(args))


def measured(args: Args, arm: str) -> dict[str, dict[str, float]]:
    """Train, then draw: as it is, with noise, with coarse weights, with few steps."""
    name, settings = ARMS[arm]
    preset = {"ddpm": {"digits": "digits-by-label", "fashion": "fashion"}[args.data]}.get(name, args.data)
    run = args.out / f"{args.data}-{arm}-{args.seed}"
    began = time.process_time()
    system = sfumato.train(
        name,
        preset,
        out=run,
        steps=args.steps,
        seed=args.seed,
        settings=settings,
        resume=run.exists(),
        quiet=True,
    )
    assert isinstance(system, PixelDiffusion)
    found = {"": judged(system, args) | {"core-minutes": (time.process_time() - began) / 60}}
    if arm in DIMENSIONED and args.data == "digits":
        for share in SHARES:
            with noisy(system, share):
                found[f"noise {share:g}"] = judged(system, args)
        for bits in BITS:
            with rounded(system, bits):
                found[f"{bits} bits"] = judged(system, args)
    if arm == "edm":
        for steps in FEW:
            found[f"{steps} steps"] = judged(system, args, steps)
    return found


def judged(system: PixelDiffusion, args: Args, steps: int | None = None) -> dict[str, float]:
    """Pictures of every label in turn, by the measures of the data's report."""
    labels = torch.arange(args.count) % 10
    request = Generate(count=args.count, seed=FIRST_SEED, label=tuple(range(10)), steps=steps)
    *_, answer = system.run(request)
    assert isinstance(answer, Images)
    if args.data == "digits":
        rows = digits_gate(answer.pixels, labels)
    else:
        size = system.config.height
        train, held = (open_data("fashion", split=split, size=size) for split in ("train", "test"))
        rows = list(evaluate(answer.pixels, train, held=held, labels=labels).rows)
    return {row.metric: row.value for row in rows}


class Noisy(nn.Module):
    """A network whose answers are disturbed by noise of their own size times ``share``."""

    def __init__(self, network: nn.Module, share: float):
        super().__init__()
        self.network, self.share = network, share
        self.dice = torch.Generator().manual_seed(0)

    def forward(self, *given: Any) -> Tensor:
        answer: Tensor = self.network(*given)
        noise = torch.randn(answer.shape, generator=self.dice).to(answer)
        return answer + self.share * answer.float().std().to(answer) * noise


@contextmanager
def noisy(system: PixelDiffusion, share: float) -> Iterator[None]:
    whole = system.denoiser.network
    system.denoiser.network = Noisy(whole, share)  # type: ignore[assignment]
    try:
        yield
    finally:
        system.denoiser.network = whole


@contextmanager
def rounded(system: PixelDiffusion, bits: int) -> Iterator[None]:
    """Matrices and kernels in whole steps of the largest entry of each output, as many as bits can tell."""
    network = system.denoiser.network
    whole = {name: value.clone() for name, value in network.state_dict().items()}
    levels = 2 ** (bits - 1) - 1
    try:
        for value in network.parameters():
            if value.ndim > 1:
                step = value.detach().abs().amax(tuple(range(1, value.ndim)), keepdim=True) / levels
                value.data = (value.data / step.clamp_min(1e-12)).round() * step
        yield
    finally:
        network.load_state_dict(whole)


def table(args: Args) -> str:
    """All that is finished, a row an arm and disturbance."""
    lines: list[str] = []
    for arm in ARMS:
        kept = args.out / f"{args.data}-{arm}-{args.seed}.json"
        if kept.exists():
            for what, row in json.loads(kept.read_text()).items():
                if not lines:
                    lines += ["| | " + " | ".join(row) + " |", "|---" * (len(row) + 1) + "|"]
                values = (f"{value:.3f}" for value in row.values())
                lines.append(f"| {' '.join((arm, what)).strip()} | " + " | ".join(values) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main(tyro.cli(Args))
