"""Our U-Net beside diffusers' on the same weights: forward and training step, in one process, one thread.

    python benchmarks/unet.py [small] [level] [sd15]

Prints ratios of CPU time, ours to diffusers' defaults: the median over rounds, both timed in turn.
Without names it runs ``small`` and ``level``; ``sd15`` takes minutes and 8 GB.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from sfumato.nn.condition import Condition
from sfumato.nn.unet import UNet, UNetConfig

CL = torch.channels_last


@dataclass(frozen=True)
class Case:
    """A network, the size of what it is given, and how often it is timed."""

    widths: tuple[int, ...]
    attend: tuple[bool, ...]
    heads: int
    context: int
    size: int
    tokens: int
    rounds: int
    train: bool = True
    batch: int = 2
    groups: int = 32
    blocks: int = 2
    ours: UNetConfig = field(init=False)

    def __post_init__(self) -> None:
        config = UNetConfig(
            in_channels=4,
            out_channels=4,
            widths=self.widths,
            blocks=(self.blocks,),
            attend=self.attend,
            heads=(self.heads,),
            depth=(1,),
            context=self.context,
            groups=self.groups,
        )
        object.__setattr__(self, "ours", config)

    def theirs(self) -> UNet2DConditionModel:
        down = tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in self.attend)
        return UNet2DConditionModel(
            block_out_channels=self.widths,
            down_block_types=down,
            up_block_types=tuple(kind.replace("Down", "Up") for kind in down[::-1]),
            attention_head_dim=self.heads,
            cross_attention_dim=self.context,
            norm_num_groups=self.groups,
            layers_per_block=self.blocks,
        )


CASES = {
    "small": Case((32, 64, 128), (True, True, True), 4, 64, 32, 18, rounds=9),
    "level": Case((320,), (True,), 8, 768, 64, 77, rounds=3, blocks=1, train=False),
    "sd15": Case((320, 640, 1280, 1280), (True, True, True, False), 8, 768, 64, 77, rounds=1, train=False),
}


def main() -> None:
    torch.set_num_threads(1)
    for name in sys.argv[1:] or ("small", "level"):
        compare(name, CASES[name])


def compare(name: str, case: Case) -> None:
    torch.manual_seed(0)
    with torch.device("meta"):
        theirs, ours, halved = case.theirs(), UNet(case.ours), UNet(case.ours)
    weights = {key: _weights(key, value.shape) for key, value in theirs.state_dict().items()}
    for net in (theirs, ours):
        net.load_state_dict(weights, assign=True)
    halved.load_state_dict({key: value.bfloat16() for key, value in weights.items()}, assign=True)
    x, clock = torch.randn(case.batch, 4, case.size, case.size), torch.full((case.batch,), 500.0)
    tokens = torch.randn(case.batch, case.tokens, case.context)
    cond, laid = Condition(tokens=tokens), x.contiguous(memory_format=CL)

    answers = race(
        {
            "diffusers fp32": lambda: theirs(x, clock, tokens).sample,
            "ours fp32": lambda: ours(laid, clock, cond),
            "ours bf16": lambda: halved(laid.bfloat16(), clock, Condition(tokens=tokens.bfloat16())).float(),
        },
        f"{name}: forward",
        case.rounds,
    )
    truth = answers["diffusers fp32"]
    for which in ("ours fp32", "ours bf16"):
        print(f"  {which}: relative difference {((answers[which] - truth).norm() / truth.norm()).item():.1e}")
    if case.train:
        train(name, case, theirs, ours, (x, clock, tokens))


def train(name: str, case: Case, theirs: nn.Module, ours: nn.Module, given: tuple[Tensor, ...]) -> None:
    x, clock, tokens = given

    def step(net: nn.Module, forward: Callable[[], Tensor], half: bool) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = mse_loss(forward().float(), x)
        loss.backward()
        net.zero_grad()

    cond = Condition(tokens=tokens)
    race(
        {
            "diffusers fp32": lambda: step(theirs, lambda: theirs(x, clock, tokens).sample, False),
            "ours fp32": lambda: step(ours, lambda: ours(x, clock, cond), False),
            "ours bf16": lambda: step(ours, lambda: ours(x, clock, cond), True),
        },
        f"{name}: forward and backward",
        case.rounds,
        grad=True,
    )


def race(
    runs: dict[str, Callable[[], Any]], title: str, rounds: int, *, grad: bool = False
) -> dict[str, Any]:
    """Time all runs in turn and print the median of each one's ratio to the first; gives their answers."""
    with torch.set_grad_enabled(grad):
        answers = {which: run() for which, run in runs.items()}
        spent: dict[str, list[float]] = {which: [] for which in runs}
        for _ in range(rounds):
            for which, run in runs.items():
                start = time.process_time()
                run()
                spent[which].append(time.process_time() - start)
    first, *others = runs
    print(f"{title}: {first} {1000 * statistics.median(spent[first]):.0f} ms of CPU time")
    for which in others:
        ratios = sorted(a / b for a, b in zip(spent[which], spent[first], strict=True))
        low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
        print(f"  {which}: {statistics.median(ratios):.2f}x ({low:.2f} to {high:.2f})")
    return answers


def _weights(key: str, shape: torch.Size) -> Tensor:
    noise = torch.randn(shape) * 0.5
    if len(shape) > 1:
        return noise / shape[1:].numel() ** 0.5
    return noise + 1 if "norm" in key and key.endswith("weight") else noise


if __name__ == "__main__":
    main()
