"""Latent diffusion: words to pictures, by walking from noise to data in an autoencoder's latents.

Rombach, Blattmann, Lorenz, Esser, Ommer: High-Resolution Image Synthesis with Latent Diffusion Models,
CVPR 2022, arXiv 2112.10752. Stable Diffusion 1.x and 2.x are this system with a U-Net and CLIP's text tower;
the laptop presets have a diffusion transformer (Peebles & Xie 2023) and a text tower of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sfumato.compat.diffusers import StableDiffusionFolder
from sfumato.compat.part import Weights, fill
from sfumato.compat.schedulers import SchedulerSpec, Walk, process_of, spec_of, walk
from sfumato.core import guidance, solvers
from sfumato.core.denoiser import Denoiser, Predicts
from sfumato.core.generate import in_turn
from sfumato.core.process import Karras, Process, Spacing
from sfumato.core.request import Event, Generate, Images, Progress, in_parts
from sfumato.core.rng import Rng
from sfumato.core.steps import Solver
from sfumato.core.system import Batch, Loss, OptimConfig, Player, Preset, System, TrainConfig
from sfumato.data.clip_bpe import ClipTokenizer
from sfumato.data.dataset import Dataset, Encoded, Facts, said_of
from sfumato.data.text import WordTokenizer, left_out, vocabulary_of
from sfumato.device import autocast
from sfumato.errors import DataError, UsageError
from sfumato.nn.autoencoder import Autoencoder, AutoencoderConfig
from sfumato.nn.clip_text import ClipText, ClipTextConfig
from sfumato.nn.condition import Condition
from sfumato.nn.transformer import DiT, DiTConfig, Words, WordsConfig
from sfumato.nn.unet import UNet, UNetConfig
from sfumato.systems.autoencoders import kl

CELLS_AT_ONCE = 4096
"""Latent cells sampled together where a model from diffusers does not say: one picture of 512 x 512."""


@runtime_checkable
class Tokenizer(Protocol):
    """Texts to numbers."""

    def encode(self, texts: Sequence[str]) -> tuple[Int[Tensor, "n l"], Int[Tensor, " n"]]:
        """Numbers of the tokens, and how many words or tokens of each text they leave out."""
        ...


@dataclass(frozen=True)
class LDMConfig:
    """First stage, text tower, denoiser, process, and how one samples unless told otherwise."""

    height: int = 64
    """Pixels."""
    width: int = 64
    """Pixels."""
    first_stage: AutoencoderConfig = kl.SMALL
    text: WordsConfig | ClipTextConfig = WordsConfig()
    network: DiTConfig | UNetConfig = DiTConfig()
    process: Process = Process(Karras(mean=1.2, std=1.2))
    predicts: Predicts = "edm"
    drop: float = 0.1
    """Share of captions withheld in training, so that guidance has something to guide away from."""
    optim: OptimConfig = OptimConfig(lr=1e-4)
    solver: str = "dpmpp_2m"
    steps: int = 20
    spacing: Spacing = "karras"
    guidance: float = 3.0
    chunk: int = 64
    """Pictures sampled at a time."""
    scheduler: SchedulerSpec | None = None
    """How a model from diffusers spreads its steps; ``spacing`` then counts only in requests."""


class LDM(System[Generate]):
    """A text tower and a denoiser over the latents of a frozen autoencoder."""

    tasks = (Generate,)
    Config = LDMConfig
    pipelines = ("StableDiffusionPipeline",)
    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, config: LDMConfig, tokenizer: Tokenizer | None = None):
        """``tokenizer`` is needed for CLIP's text tower alone; a tower of words brings its own."""
        super().__init__()
        self.config = config
        latents = config.first_stage.latent_channels
        self.first_stage = Autoencoder(config.first_stage).requires_grad_(False)
        self.text, self.tokenizer = _text_side(config.text, tokenizer)
        self.notes: tuple[str, ...] = ()
        self.denoiser = Denoiser(_network(config), config.process, config.predicts)
        self.register_buffer("latent_mean", torch.zeros(latents, 1, 1))
        self.register_buffer("latent_std", torch.ones(latents, 1, 1))

    @classmethod
    def fit(cls, config: LDMConfig, facts: Facts) -> LDMConfig:
        text = config.text
        if isinstance(text, WordsConfig):
            text = replace(text, vocabulary=facts.words or vocabulary_of(facts.classes))
        stage = replace(config.first_stage, channels=facts.channels)
        fitted = replace(config, height=facts.height, width=facts.width, first_stage=stage, text=text)
        _latent_shape(fitted, facts.height, facts.width)
        return fitted

    @property
    def channels(self) -> int:
        return self.config.first_stage.channels

    def players(self) -> dict[str, Player]:
        network = self.denoiser.network
        return {"denoiser": Player((network, self.text), self.config.optim, network.ends)}

    def adopt(self, base: System[Any]) -> None:
        """Take over a trained first stage, or all that another latent diffusion of this shape has learned."""
        if isinstance(base, LDM) and self.state_dict().keys() == base.state_dict().keys():
            self.load_state_dict(base.state_dict())
            return
        if not isinstance(base, kl.KL) or base.config.network != self.config.first_stage:
            raise DataError(
                f"Latent diffusion needs a trained first stage of its own shape, got a {type(base).__name__} "
                "that differs; train one with 'sfumato train kl' and the same settings."
            )
        self.first_stage.load_state_dict(base.network.state_dict())

    @torch.no_grad()
    def prepare(self, data: Dataset) -> Dataset:
        """Encode every picture and caption once, and measure the latents (section G's rescaling)."""
        means, stds, ids = [], [], []
        for rows in torch.arange(len(data)).split(128):
            batch = data.batch(rows)
            with autocast("auto", self.device):
                mean, logvar = self.first_stage.encode(batch["image"].to(self.device))
            means.append(mean.half().cpu())
            stds.append((logvar.float() / 2).exp().half().cpu())
            ids.append(self.tokenizer.encode(said_of(batch, data.facts))[0])
        mean, std = torch.cat(means), torch.cat(stds)
        axes = (0, 2, 3)
        self.latent_mean.copy_(mean.float().mean(axes, keepdim=True)[0])
        self.latent_std.copy_(
            (mean.float().var(axes, keepdim=True) + std.float().square().mean(axes, keepdim=True)).sqrt()[0]
        )
        return Encoded(data, {"mean": mean, "std": std, "ids": torch.cat(ids)}, {})

    def losses(self, batch: Batch, step: int) -> Iterator[Loss]:
        """Section 3.3, eq. 3, on what ``prepare`` encoded; now and then without the caption."""
        mean, std, rng = batch["mean"].float(), batch["std"].float(), batch.rng
        z = mean + std * rng.normal(*mean.shape[1:]).to(mean)
        z = (z - self.latent_mean) / self.latent_std
        keep = (rng.uniform() >= self.config.drop).to(z.device)
        nothing = self.tokenizer.encode([""])[0].to(z.device)
        cond = self._read(torch.where(keep[:, None], batch["ids"], nothing))
        t = self.config.process.schedule.times(rng)
        yield Loss.sum("denoiser", mse=self.denoiser.loss(z, t, cond, rng))

    def run(self, request: Generate) -> Iterator[Event]:
        return in_parts(self._serve, request, self.config.chunk, self.hears)

    @property
    def hears(self) -> frozenset[str]:
        return frozenset({"caption"})

    def preview(self, count: int, seed: int) -> Generate:
        return Generate(count=count, seed=seed, prompt=PREVIEW_PROMPTS if self._knows_shapes() else "")

    @torch.no_grad()
    def _serve(self, request: Generate) -> Iterator[Event]:
        c, count = self.config, request.count
        prompts = in_turn(
            (request.prompt,) if isinstance(request.prompt, str) else request.prompt, range(count)
        )
        wanted, lost = self.tokenizer.encode(prompts)
        unwanted, _ = self.tokenizer.encode([request.negative] * count)
        rng = Rng.sampling(request.seed, count)
        shape = _latent_shape(c, request.height or c.height, request.width or c.width)
        z = c.process.prior(torch.empty(count, *shape, device=self.device), rng)
        denoise = guidance.classifier_free(
            self.denoiser,
            self._read(wanted),
            self._read(unwanted),
            request.guided(c.guidance),
            request.guidance_interval,
            request.guidance_rescale,
        )
        solver, (times, start) = self._walk(request)
        for step in solver(denoise, c.process, start * z, times, rng=rng):
            yield Progress(1 - step.t, partial(self._decode, step.x0))
        notes = left_out(prompts, lost) + self.notes
        yield Images(self._decode(step.x), captions=tuple(prompts), notes=notes)

    def _walk(self, request: Generate) -> tuple[Solver, Walk]:
        c, name, steps = self.config, request.solver or self.config.solver, request.steps or self.config.steps
        solver = solvers.named(name, eta=request.eta)
        if c.scheduler is None:
            return solver, Walk(c.process.schedule.grid(steps, request.spacing or c.spacing), 1.0)
        if name == "plms" and c.predicts == "v":
            solver = partial(solvers.plms, of="v")
        return solver, walk(c.scheduler, name, steps, request.spacing)

    @torch.no_grad()
    def _decode(self, z: Float[Tensor, "b z i j"]) -> Float[Tensor, "b c h w"]:
        latent = (z * self.latent_std + self.latent_mean).to(self.dtype)
        return self.first_stage.decode(latent).float().clamp(-1, 1)

    def _read(self, ids: Int[Tensor, "b l"]) -> Condition:
        read = self.text(ids.to(self.device))
        if isinstance(self.text, ClipText):
            return Condition(tokens=read)
        tokens, pooled = read
        return Condition(tokens=tokens, vector=pooled)

    @classmethod
    def from_diffusers(cls, folder: Path) -> LDM:
        """Stable Diffusion 1.x or 2.x, from a folder of diffusers' ``StableDiffusionPipeline``."""
        found = StableDiffusionFolder.read(folder)
        cells = found.height * found.width // found.vae.factor**2
        config = LDMConfig(
            height=found.height,
            width=found.width,
            first_stage=found.vae,
            text=found.text,
            network=found.unet,
            process=process_of(found.scheduler),
            predicts=found.scheduler.predicts,
            solver=found.scheduler.solver,
            steps=50,
            guidance=7.5,
            chunk=max(1, min(64, CELLS_AT_ONCE // cells)),
            scheduler=found.scheduler,
        )
        with torch.device("meta"):
            system = cls(config, found.tokenizer)
        system.notes = found.notes
        for name, module in system._parts().items():
            fill(module, found.weights[name])
        latents = found.vae.latent_channels
        system.latent_mean = torch.zeros(latents, 1, 1)
        system.latent_std = torch.full((latents, 1, 1), 1 / found.scale)
        return system

    def to_diffusers(self, folder: Path) -> None:
        """A folder that diffusers' ``StableDiffusionPipeline`` opens."""
        c, network, words = self.config, self.denoiser.network, self.tokenizer
        std = self.latent_std.flatten()
        if (
            isinstance(network, DiT)
            or isinstance(c.text, WordsConfig)
            or not isinstance(words, ClipTokenizer)
        ):
            raise UsageError(
                "diffusers' text-to-image pipeline has a U-Net and CLIP's text tower; this model has a "
                "diffusion transformer or a vocabulary of its own, so it cannot be exported."
            )
        if self.latent_mean.any() or (std != std[0]).any():
            raise UsageError(
                "diffusers rescales all channels of a latent alike; this model does not, "
                "so it cannot be exported."
            )
        scheduler = c.scheduler or spec_of(c.process, c.solver, c.predicts)
        StableDiffusionFolder(
            unet=network.config,
            vae=c.first_stage,
            text=c.text,
            scale=1 / float(std[0]),
            scheduler=scheduler,
            tokenizer=words,
            height=c.height,
            width=c.width,
            weights={name: Weights(module.state_dict()) for name, module in self._parts().items()},
        ).write(folder)

    def _parts(self) -> dict[str, nn.Module]:
        """The networks by diffusers' names."""
        return {"unet": self.denoiser.network, "vae": self.first_stage, "text_encoder": self.text}

    def _knows_shapes(self) -> bool:
        text = self.config.text
        words = set(text.vocabulary) if isinstance(text, WordsConfig) else set()
        return all(word in words for prompt in PREVIEW_PROMPTS for word in prompt.split())


PREVIEW_PROMPTS = (
    "a red circle above a blue square",
    "a large striped green star at the centre on a white background",
    "a small yellow triangle at the top left and a large purple ring at the bottom on a navy background",
    "a blue cross",
)


def _text_side(
    config: WordsConfig | ClipTextConfig, tokenizer: Tokenizer | None
) -> tuple[nn.Module, Tokenizer]:
    if isinstance(config, WordsConfig):
        tower: nn.Module = Words(config)
        return tower, WordTokenizer(config.vocabulary, config.length)
    if tokenizer is None:
        raise UsageError("CLIP's text tower needs its tokenizer; open the folder that holds both.")
    return ClipText(config), tokenizer


def _network(config: LDMConfig) -> DiT | UNet:
    latents, words = config.first_stage.latent_channels, isinstance(config.text, WordsConfig)
    pooled = config.text.width if words else 0
    if isinstance(config.network, DiTConfig):
        return DiT(replace(config.network, channels=latents, tokens=config.text.width, vector=pooled))
    return UNet(
        replace(
            config.network,
            in_channels=latents,
            out_channels=latents,
            context=config.text.width,
            vector=pooled,
        )
    )


def _latent_shape(config: LDMConfig, height: int, width: int) -> tuple[int, int, int]:
    """Channels, height and width of the latents of pictures of this size."""
    stage, network = config.first_stage, config.network
    factor = stage.factor * (network.patch if isinstance(network, DiTConfig) else 1)
    if height % factor or width % factor:
        raise UsageError(
            f"Height and width must be multiples of {factor}, got {height} x {width}; choose another size."
        )
    return stage.latent_channels, height // stage.factor, width // stage.factor


_MUON = OptimConfig(kind="muon", lr=3e-3, betas=(0.9, 0.99), weight_decay=0.01, warmup=100, decay=0.3)
_LAPTOP = Preset(
    LDMConfig(network=DiTConfig(width=128, depth=6, heads=4, clock_scale=40.0), optim=_MUON),
    data="folder",
    size=64,
    train=TrainConfig(steps=9000, batch=32, ema=0.999),
    base=("kl", "laptop"),
)
LDM.presets = {
    "laptop": _LAPTOP,
    "shapes": replace(_LAPTOP, data="shapes"),
}
