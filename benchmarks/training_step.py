"""A training step of the same U-Net on the same batch: ours as our trainer, theirs as their script does.

    python -m benchmarks.training_step [--rounds N] [--cases small latent]

A step is noise, forward, backward, clipping and AdamW. Diffusers' side is the loop of its
``train_text_to_image.py`` without mixed precision, which is that script's default.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import tyro

from benchmarks.folders import SMALL, shaken
from benchmarks.race import QUIET, Side, Work, race, table

LATENT = {
    "sample_size": 16,
    "block_out_channels": (64, 128, 256),
    "down_block_types": ("CrossAttnDownBlock2D",) * 3,
    "up_block_types": ("CrossAttnUpBlock2D",) * 3,
    "attention_head_dim": 4,
    "cross_attention_dim": 128,
}
"""A U-Net as one trains it on a laptop: 4 x 16 x 16 latents, words at every level."""


@dataclass(frozen=True)
class Case:
    """A U-Net and a batch."""

    unet: dict[str, Any]
    batch: int
    tokens: int


CASES = {"small": Case(SMALL.unet, 16, 77), "latent": Case(LATENT, 32, 18)}


@dataclass(frozen=True)
class Args:
    """How much is timed."""

    rounds: int = 15
    cases: tuple[str, ...] = tuple(CASES)


def main(args: Args) -> None:
    os.environ |= QUIET
    for name in args.cases:
        case = CASES[name]
        with tempfile.TemporaryDirectory() as aside:
            folder = Path(aside)
            parameters = write(case, folder)
            sides = [
                Side("diffusers", partial(diffusers, case, folder)),
                Side("sfumato", partial(sfumato, case, folder, "auto")),
                Side("sfumato fp32", partial(sfumato, case, folder, "fp32")),
            ]
            race(sides, args.rounds, warm=2)
        size = case.unet["sample_size"]
        print(f"{name}: {parameters / 1e6:.1f} M parameters, batch {case.batch} x 4 x {size} x {size}")
        print(table(sides))
        print("loss after the last step: " + ", ".join(f"{side.name} {side.answer:.3f}" for side in sides))


def write(case: Case, folder: Path) -> int:
    """The network that both sides start from; gives the number of its parameters."""
    from diffusers import UNet2DConditionModel

    unet = shaken(UNet2DConditionModel(**case.unet), 1)
    unet.save_pretrained(folder)
    return sum(p.numel() for p in unet.parameters())


def given(case: Case) -> tuple[Any, Any]:
    """Latents and text of the batch."""
    import torch

    generator = torch.Generator().manual_seed(0)
    size = case.unet["sample_size"]
    x = torch.randn(case.batch, 4, size, size, generator=generator)
    return x, torch.randn(case.batch, case.tokens, case.unet["cross_attention_dim"], generator=generator)


def diffusers(case: Case, folder: Path) -> Work:
    """The loop of their script, in fp32."""
    import torch
    from diffusers import DDPMScheduler, UNet2DConditionModel
    from torch.nn.functional import mse_loss

    unet = UNet2DConditionModel.from_pretrained(folder).train()
    scheduler = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    optimiser = torch.optim.AdamW(unet.parameters(), lr=1e-4)
    x, text = given(case)

    def work() -> float:
        noise = torch.randn_like(x)
        t = torch.randint(0, scheduler.config.num_train_timesteps, (len(x),)).long()
        answer = unet(scheduler.add_noise(x, noise, t), t, text, return_dict=False)[0]
        loss = mse_loss(answer.float(), noise.float(), reduction="mean")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        return loss.item()

    return work


def sfumato(case: Case, folder: Path, precision: Any) -> Work:
    """What ``Trainer`` does in a step, with a denoiser as ``LDM`` has it."""
    import torch

    from sfumato.compat.part import DIFFUSERS, read_json, read_weights
    from sfumato.compat.unet import read_unet_condition
    from sfumato.core.denoiser import Denoiser
    from sfumato.core.optim import optimiser_of
    from sfumato.core.process import Process, ScaledLinear
    from sfumato.core.rng import Rng
    from sfumato.core.system import OptimConfig, Player
    from sfumato.device import autocast, setup
    from sfumato.nn.condition import Condition
    from sfumato.nn.unet import UNet

    setup()
    unet = UNet(read_unet_condition(read_json(folder / "config.json"), str(folder))).train()
    unet.load_state_dict(dict(read_weights(folder, DIFFUSERS).tensors))
    denoiser = Denoiser(unet, Process(ScaledLinear()), "eps")
    player = Player((unet,), OptimConfig(lr=1e-4, weight_decay=0.01))
    optimiser, moving, place = optimiser_of(player, 1000), player.parameters(), torch.device("cpu")
    x, text = given(case)
    count = iter(range(10**9))

    def work() -> float:
        step = next(count)
        rng = Rng.training(0, step, range(len(x)))
        with autocast(precision, place):
            t = denoiser.process.schedule.times(rng)
            loss = denoiser.loss(x, t, Condition(tokens=text), rng)
        loss.backward(inputs=moving)
        norm = torch.nn.utils.get_total_norm([p.grad for p in moving if p.grad is not None])
        torch.nn.utils.clip_grads_with_norm_(moving, 1.0, norm)
        optimiser.step(step)
        optimiser.zero_grad()
        return loss.item()

    return work


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
