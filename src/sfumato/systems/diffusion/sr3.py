"""SR3: pictures four times as large, by a walk from noise to detail beside their bicubic enlargement.

Saharia, Ho, Chan, Salimans, Fleet, Norouzi: Image Super-Resolution via Iterative Refinement, 2021,
arXiv 2104.07636. The denoiser works on pixels and is told how much data is left, not a number of steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core import guidance, solvers
from sfumato.core.denoiser import Denoiser, Predicts
from sfumato.core.generate import Generate
from sfumato.core.process import Gamma, Process, Spacing
from sfumato.core.request import Event, Images, Progress, Upscale
from sfumato.core.rng import Rng
from sfumato.core.serving import in_parts
from sfumato.core.system import Batch, Loss, OptimConfig, Player, Preset, System, TrainConfig
from sfumato.data.dataset import Facts
from sfumato.errors import UsageError
from sfumato.nn.condition import Condition
from sfumato.nn.srresnet import FACTOR, enlarged, reduced
from sfumato.nn.unet import UNet, UNetConfig
from sfumato.systems.diffusion.starts import plain
from sfumato.systems.gans.srgan import folding, whole_levels


@dataclass(frozen=True)
class SR3Config:
    """Network, process, and how one samples unless told otherwise."""

    channels: int = 3
    network: UNetConfig = UNetConfig()
    process: Process = Process(Gamma())
    predicts: Predicts = "eps"
    optim: OptimConfig = OptimConfig(lr=1e-4)
    solver: str = "ancestral"
    steps: int = 100
    spacing: Spacing = "trailing"
    chunk: int = 64
    """Pictures sampled at a time."""


class SR3(System[Upscale]):
    """One denoiser over pixels that sees the small picture, enlarged by the bicubic filter, beside them."""

    tasks = (Upscale,)
    Config = SR3Config
    config: SR3Config

    def __init__(self, config: SR3Config):
        super().__init__()
        self.config = c = config
        network = UNet(replace(c.network, in_channels=2 * c.channels, out_channels=c.channels))
        self.denoiser = Denoiser(network, c.process, c.predicts)

    @classmethod
    def fit(cls, config: SR3Config, facts: Facts) -> SR3Config:
        if min(facts.height, facts.width) < 2 * FACTOR:
            raise UsageError(
                f"To learn to enlarge, pictures must have {2 * FACTOR} pixels a side or more, "
                f"got {facts.height} x {facts.width}; give a larger --size."
            )
        return replace(config, channels=facts.channels)

    def players(self) -> dict[str, Player]:
        network = self.denoiser.network
        return {"denoiser": Player((network,), self.config.optim, network.ends)}

    def losses(self, batch: Batch, step: int) -> Iterator[Loss]:
        """Algorithm 1; the small pictures have whole grey levels, as files have."""
        large = folding(batch["image"])
        t = self.config.process.schedule.times(batch.rng)
        yield Loss.sum(
            "denoiser", mse=self.denoiser.loss(large, t, beside(whole_levels(reduced(large))), batch.rng)
        )

    def run(self, request: Upscale) -> Iterator[Event]:
        """Enlarge pictures of any size; each is one of many that have this small one."""
        if request.images.shape[1] != self.config.channels:
            raise UsageError(
                f"This model enlarges pictures of {self.config.channels} channels, got "
                f"{request.images.shape[1]}; convert them first."
            )
        if request.noise is not None:
            raise UsageError("SR3 takes pictures as they are and knows no noise; leave it out.")
        small = request.images[[i % len(request.images) for i in range(request.count)]]

        def serve(part: Generate) -> Iterator[Event]:
            start = part.seed - request.seed
            return self._serve(part, small[start : start + part.count].to(self.device))

        return in_parts(serve, plain(request, FACTOR), self.config.chunk, frozenset())

    @torch.no_grad()
    def _serve(self, part: Generate, small: Float[Tensor, "b c i j"]) -> Iterator[Event]:
        """Algorithm 2, with beliefs kept in [-1, 1]."""
        c, rng = self.config, Rng.sampling(part.seed, part.count)
        cond = beside(small)
        assert cond.spatial is not None
        denoise = guidance.clipped(guidance.conditioned(self.denoiser, cond))
        times = c.process.schedule.grid(part.steps or c.steps, c.spacing)
        x = c.process.prior(cond.spatial, rng)
        for step in solvers.named(c.solver, eta=part.eta)(denoise, c.process, x, times, rng=rng):
            yield Progress(1 - step.t, partial(_itself, step.x0))
        yield Images(step.x.float().clamp(-1, 1))


def beside(small: Float[Tensor, "b c i j"]) -> Condition:
    """What the denoiser sees of small pictures."""
    return Condition(spatial=enlarged(small, "bicubic").clamp(-1, 1))


def _itself(x: Tensor) -> Tensor:
    return x


SR3.presets = {
    "laptop": Preset(
        SR3Config(
            network=UNetConfig(
                widths=(64, 128),
                blocks=(2, 1),
                attend=(False, True),
                heads=(4,),
                groups=16,
                resblock="scale_shift",
                patch=4,
            ),
            predicts="x0",  # squares of 4 x 4 pixels in 64 channels leave no room to pass noise on
            optim=OptimConfig(kind="muon", lr=2e-3, betas=(0.9, 0.99), warmup=50, decay=0.5),
            steps=50,
        ),
        data="shapes",
        size=64,
        train=TrainConfig(steps=800, batch=32, ema=0.995),
    ),
    "paper": Preset(
        SR3Config(
            network=UNetConfig(
                widths=(64, 64, 128, 256, 512, 512),
                blocks=(3,),
                attend=(False, False, False, False, True, True),
                heads=(1,),
                dropout=0.2,
                groups=32,
            ),
            optim=OptimConfig(lr=1e-4, warmup=10_000),
        ),
        data="folder",
        size=256,
        train=TrainConfig(steps=1_000_000, batch=256, accumulate=8, ema=0.9999),
    ),
}
