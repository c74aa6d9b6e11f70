"""ADM: a diffusion that learns its variance, and a classifier of noisy pictures that leads it to a class.

Dhariwal, Nichol: Diffusion Models Beat GANs on Image Synthesis, NeurIPS 2021, arXiv 2105.05233. The cosine
schedule, the learned variance and its loss are those of Nichol & Dhariwal: Improved Denoising Diffusion
Probabilistic Models, ICML 2021, arXiv 2102.09672.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax

from sfumato.compat import guided
from sfumato.compat.part import Weights, fill
from sfumato.compat.pth import SUFFIXES
from sfumato.core import guidance, solvers
from sfumato.core.bound import cost
from sfumato.core.denoiser import Denoiser
from sfumato.core.process import Cosine, LinearBetas, Process
from sfumato.core.request import Generate
from sfumato.core.steps import Denoise, Solver
from sfumato.core.system import Batch, Loss, OptimConfig, Player, Preset, TrainConfig
from sfumato.data.dataset import Facts
from sfumato.errors import DataError, UsageError
from sfumato.nn.noised_classifier import NoisedClassifier, NoisedClassifierConfig
from sfumato.nn.unet import UNet, UNetConfig
from sfumato.systems.diffusion.pixels import COUNTED, MUON, SMALL, TINY, PixelConfig, PixelDiffusion


@dataclass(frozen=True)
class ADMConfig(PixelConfig):
    """A denoiser with a variance of its own, and the classifier that guides it."""

    process: Process = Process(Cosine())
    classifier: UNetConfig = UNetConfig()
    """Its downward half is the body of the classifier."""
    classifier_optim: OptimConfig = OptimConfig(lr=3e-4, weight_decay=0.05)
    bound: float = 1.0
    """Weight of the variational bound in bits, which teaches the variance alone; the improved paper's
    lambda of 0.001 times the number of steps (section 3.2)."""


class ADM(PixelDiffusion):
    """A denoiser that is told no label, and a classifier that pulls it towards one."""

    Config = ADMConfig
    config: ADMConfig
    needs = frozenset({"image", "label"})

    def __init__(self, config: ADMConfig):
        super().__init__(config)
        if not isinstance(config.process.schedule, COUNTED):
            raise UsageError(
                "A learned variance lies between two steps: choose a schedule of betas, as Cosine."
            )
        self.stride = 1 / config.process.schedule.steps
        network = replace(config.classifier, in_channels=config.channels)
        self.classifier = NoisedClassifier(
            NoisedClassifierConfig(network, max(1, len(config.classes)), config.height, config.width)
        )

    def _denoiser(self, shape: UNetConfig) -> Denoiser[UNet]:
        c = self.config
        network = UNet(replace(shape, out_channels=2 * c.channels))
        return Denoiser(network, c.process, c.predicts, data_std=c.data_std, learned_variance=True)

    @classmethod
    def fit(cls, config: PixelConfig, facts: Facts) -> PixelConfig:
        if not facts.classes:
            raise UsageError(
                f"The classifier learns labels, but '{facts.name}' has none; give data with labels "
                "(a folder with one subfolder a class), or train ddpm."
            )
        return replace(super().fit(config, facts), classes=facts.classes)

    def players(self) -> dict[str, Player]:
        return super().players() | {"classifier": Player((self.classifier,), self.config.classifier_optim)}

    def losses(self, batch: Batch, step: int) -> Iterator[Loss]:
        """The hybrid loss of the denoiser (eq. 16 of the improved paper), then the classifier's."""
        x0, rng, process = batch["image"], batch.rng, self.config.process
        t = process.schedule.times(rng)
        x = process.noise(x0, t, rng)
        belief = self.denoiser(x, t, self._given(batch))
        alpha, sigma = process.coefficients(t, x0)
        fixed = belief._replace(x0=belief.x0.detach())  # the bound teaches the variance, nothing else
        earlier = (t - self.stride).clamp(min=0)
        yield Loss.sum(
            "denoiser",
            mse=((alpha / sigma) * (belief.x0 - x0)).square().mean(),
            bits=self.config.bound * cost(process, x0, x, t, earlier, fixed, "learned").mean(),
        )
        t = process.schedule.times(rng)
        logits = self.logits(process.noise(x0, t, rng), t).float()
        yield Loss.sum("classifier", ce=cross_entropy(logits, batch["label"]))

    def logits(self, x: Float[Tensor, "b c h w"], t: Float[Tensor, " b"]) -> Float[Tensor, "b k"]:
        """What the classifier says of x at time t."""
        clock = self.config.process.schedule.clock(t).to(x.device, torch.float32)
        return self.classifier(x.to(self.classifier.conv_in.weight.dtype), clock)

    @property
    def hears(self) -> frozenset[str]:
        return frozenset({"label", "threshold"})

    def _guided(self, request: Generate) -> Denoise:
        """Algorithms 1 and 2: the classifier's gradient, ``guidance`` times; 0 leaves it out."""
        labels = None if request.label is None else self._labels(request)
        told = labels is not None and self.config.by_label
        cond = self._told(labels) if told and labels is not None else self._untold(request.count)
        denoise = guidance.conditioned(self.denoiser, cond)
        scale = self.config.guidance if request.guidance is None else request.guidance
        if labels is None or scale == 0:
            return denoise
        return guidance.towards(denoise, self.config.process, partial(self._log_chance, labels), scale)

    def _log_chance(
        self, label: Int[Tensor, " b"], x: Float[Tensor, "b c h w"], t: Float[Tensor, " b"]
    ) -> Float[Tensor, " b"]:
        return log_softmax(self.logits(x, t).float(), 1).gather(1, label[:, None])[:, 0]

    @property
    def variance(self) -> solvers.Variance:
        return "learned"

    def _solver(self, name: str, request: Generate) -> Solver:
        if name == "ancestral":
            return partial(solvers.ancestral, variance="learned")
        return super()._solver(name, request)

    published = frozenset({guided.DENOISER, guided.CLASSIFIER})

    @classmethod
    def from_file(cls, path: Path) -> ADM:
        """A denoiser of guided-diffusion, or a folder with one and its classifier."""
        files = [path] if path.is_file() else sorted(f for f in path.glob("*") if f.suffix in SUFFIXES)
        found = [guided.read(file) for file in files]
        bodies = [net for net in found if guided.DENOISER_END in net.tensors]
        guides = [net for net in found if guided.DENOISER_END not in net.tensors]
        if len(bodies) != 1 or len(guides) > 1:
            raise DataError(
                f"'{path}' holds {len(bodies)} denoisers and {len(guides)} classifiers; give one denoiser, "
                "with or without its classifier."
            )
        [body], guide = bodies, guides[0] if guides else None
        count = max(body.classes, guide.classes if guide else 0)
        schedule = Cosine() if body.known.schedule == "cosine" else LinearBetas()
        config = ADMConfig(
            channels=body.network.in_channels,
            height=body.known.size,
            width=body.known.size,
            by_label=body.classes > 0,
            classes=tuple(str(i) for i in range(count)),
            process=Process(schedule),
            network=replace(body.network, classes=0),
            classifier=guide.network if guide else SILENT,
            steps=250,
            spacing="trailing",
            guidance=1.0 if guide else 0.0,
        )
        with torch.device("meta"):
            system = cls(config)
        fill(system.denoiser.network, Weights(body.tensors, path))
        if guide:
            fill(system.classifier, Weights(guide.tensors, path))
        else:
            system.classifier.to_empty(device="cpu")
        return system


SILENT = UNetConfig(widths=(32,), blocks=(1,), middle_attention=False)
"""The classifier of a model that came without one; it is never asked."""
IMAGENET_64 = UNetConfig(
    widths=(192, 384, 576, 768),
    blocks=(3,),
    attend=(False, True, True, True),
    head_width=64,
    resblock="scale_shift",
    resize="resblock",
    dropout=0.1,
)
"""Table 4 and the authors' repository: the model for 64 x 64 pixels."""

_LAPTOP = ADMConfig(
    network=replace(TINY, resize="resblock"),
    classifier=replace(TINY, resize="resblock", dropout=0.0),
    optim=MUON,
    classifier_optim=OptimConfig(lr=1e-3, weight_decay=0.05, warmup=50, decay=0.5),
    steps=100,
    spacing="trailing",
    guidance=4.0,
)
ADM.presets = {
    "digits": Preset(_LAPTOP, data="digits", size=8, train=TrainConfig(steps=2500, batch=64, ema=0.999)),
    "fashion": Preset(
        replace(
            _LAPTOP,
            height=32,
            width=32,
            network=replace(SMALL, resize="resblock"),
            classifier=SMALL,
            process=Process(LinearBetas()),
        ),
        data="fashion",
        size=32,
        train=TrainConfig(steps=3500, batch=32, ema=0.999),
    ),
    "paper": Preset(
        ADMConfig(
            channels=3,
            height=64,
            width=64,
            network=IMAGENET_64,
            optim=OptimConfig(lr=1e-4),
            classifier=replace(IMAGENET_64, widths=(128, 256, 384, 512), blocks=(4,), dropout=0.0),
            steps=250,
            guidance=1.0,
        ),
        data="folder",
        size=64,
        train=TrainConfig(steps=540_000, batch=2048, accumulate=32, ema=0.9999),
    ),
}
