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
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sfumato.compat.embedding import read_embedding
from sfumato.compat.lora import merge, read_lora
from sfumato.compat.part import Weights, fill
from sfumato.compat.schedulers import SchedulerSpec, Walk, spec_of, switch_of, walk
from sfumato.compat.single_file import MARK, original_tensors, read_single_file
from sfumato.compat.stable_diffusion import KINDS, Beside, StableDiffusionFolder
from sfumato.core import guidance, solvers
from sfumato.core.additions import Additions
from sfumato.core.denoiser import Denoiser, Predicts
from sfumato.core.durable import write_tensors
from sfumato.core.process import Karras, Process, Spacing
from sfumato.core.request import Edit, Event, Generate, Images, Progress, Request, Upscale, Vary
from sfumato.core.rng import Rng
from sfumato.core.serving import in_parts
from sfumato.core.steps import Denoise, Solver
from sfumato.core.system import Batch, Loss, OptimConfig, Player, Preset, System, TrainConfig
from sfumato.data.dataset import Dataset, Encoded, Facts, said_of
from sfumato.data.prompt import Tokenizer
from sfumato.data.text import vocabulary_of
from sfumato.device import autocast
from sfumato.errors import DataError, UsageError
from sfumato.nn.autoencoder import Autoencoder, AutoencoderConfig
from sfumato.nn.clip_pair import ClipPair, ClipPairConfig
from sfumato.nn.clip_text import ClipTextConfig
from sfumato.nn.layers import circular
from sfumato.nn.transformer import DiT, DiTConfig, WordsConfig
from sfumato.nn.unet import UNet, UNetConfig
from sfumato.systems.autoencoders import kl
from sfumato.systems.diffusion.starts import Given, Latents, asked_of
from sfumato.systems.diffusion.words import Heard, Reader, TextConfig

CELLS_AT_ONCE = 4096
"""Latent cells sampled together where a model from diffusers does not say: one picture of 512 x 512."""


@dataclass(frozen=True)
class LDMConfig:
    """First stage, text tower, denoiser, process, and how one samples unless told otherwise."""

    height: int = 64
    """Pixels."""
    width: int = 64
    """Pixels."""
    first_stage: AutoencoderConfig = kl.SMALL
    text: TextConfig = WordsConfig()
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
    beside: Beside = "nothing"
    """What the denoiser sees besides: a mask with the latents of what is outside it, or a small picture."""
    augmentation: Process = Process()
    """How a small picture is noised before it is seen."""


class LDM(System[Request]):
    """A text tower and a denoiser over the latents of a frozen autoencoder."""

    tasks = (Generate, Vary)
    Config = LDMConfig
    pipelines = tuple(KINDS)
    published = frozenset({MARK})
    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, config: LDMConfig, tokenizers: Sequence[Tokenizer] = ()):
        """``tokenizers`` are needed for CLIP's text towers alone; a tower of words brings its own."""
        super().__init__()
        self.config = config
        latents = config.first_stage.latent_channels
        self.first_stage = Autoencoder(config.first_stage).requires_grad_(False)
        self.reader = Reader.of(config.text, tokenizers)
        self.text = self.reader.text
        self.notes: tuple[str, ...] = ()
        self.refiner: tuple[LDM, float] | None = None
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
            ids.append(self.reader.encode(said_of(batch, data.facts)))
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
        nothing = self.reader.encode([""]).to(z.device)
        cond = self.reader.read(torch.where(keep[:, None], batch["ids"], nothing))
        t = self.config.process.schedule.times(rng)
        yield Loss.sum("denoiser", mse=self.denoiser.loss(z, t, cond, rng))

    def run(self, request: Request) -> Iterator[Event]:
        """New pictures, or others in place of given ones."""
        c, first = self.config, request.seed
        asked, begin = asked_of(request, c.first_stage.factor, c.augmentation, self.denoiser.network.config)

        def serve(part: Generate) -> Iterator[Event]:
            start = part.seed - first
            return self._serve(part, begin(range(start, start + part.count)))

        return in_parts(serve, asked, c.chunk, self.hears)

    @property
    def can(self) -> tuple[type[Request], ...]:
        return {"nothing": self.tasks, "masked": (Edit,), "small": (Upscale,)}[self.config.beside]

    @property
    def hears(self) -> frozenset[str]:
        text, more = self.config.text, self.refiner[0].hears if self.refiner else frozenset()
        if isinstance(text, ClipPairConfig):
            more |= {"frame"} | ({"aesthetic"} if text.numbers == "aesthetic" else set())
        return more | {"caption"}

    def preview(self, count: int, seed: int) -> Generate:
        return Generate(count=count, seed=seed, prompt=PREVIEW_PROMPTS if self._knows_shapes() else "")

    @torch.no_grad()
    def _serve(self, request: Generate, given: Given) -> Iterator[Event]:
        c, rng = self.config, Rng.sampling(request.seed, request.count)
        size = request.height or c.height, request.width or c.width
        shape = _latent_shape(c, *size)
        solver, (times, scale) = self._walk(request)

        def prior(rng: Rng) -> Tensor:
            like = torch.empty(len(rng), *shape, device=self.device)
            return scale * c.process.prior(like, rng)

        times = given.times(times)
        z, spatial, vector = given.start(Latents(self._encode, prior, c.process), times, rng)
        heard = self.reader.hear(request, size).beside(spatial, vector)
        denoise = self._guided(request, heard)
        if self.refiner is not None:
            refiner, switch = self.refiner
            again = refiner.reader.hear(request, size).beside(spatial, vector)
            denoise = guidance.experts(denoise, refiner._guided(request, again), switch)
        for step in solver(denoise, c.process, z, times, rng=rng):
            yield Progress(1 - step.t / float(times[0]), partial(self._decode, step.x0))
        pixels = given.finished(self._decode(step.x))
        yield Images(pixels, captions=heard.prompts, notes=heard.notes + self.notes)

    def _guided(self, request: Generate, heard: Heard) -> Denoise:
        return guidance.composed(
            self.denoiser,
            heard.conds,
            heard.shares,
            heard.null,
            request.guided(self.config.guidance),
            request.guidance_interval,
            request.guidance_rescale,
        )

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

    @torch.no_grad()
    def _encode(self, images: Float[Tensor, "b c h w"], rng: Rng) -> Float[Tensor, "b z i j"]:
        mean, logvar = self.first_stage.encode(images.to(self.device, self.dtype))
        drawn = mean.float() + (logvar.float() / 2).exp() * rng.normal(*mean.shape[1:]).to(mean.device)
        return (drawn - self.latent_mean) / self.latent_std

    def take(self, more: Additions) -> None:
        """Merge LoRA files, learn words, tile, let another system denoise the end of the way."""
        for path, weight in more.loras:
            merge(self.parts(), read_lora(path), weight)
        for path, text in more.embeddings:
            self.reader.learn(read_embedding(path, text))
        if more.refiner is not None:
            self.refined(more.refiner, more.refine_at)
        if more.tile:
            if isinstance(self.config.network, DiTConfig):
                raise UsageError(
                    "A diffusion transformer knows where its edges are, so it cannot tile; leave --tile out."
                )
            for system in (self, *([self.refiner[0]] if self.refiner else [])):
                circular(system)

    def refined(self, refiner: LDM, at: float = 0.8) -> LDM:
        """This system with another for the end of the way: from the share ``at`` of it, where little noise is
        left, ``refiner`` denoises (SDXL's ensemble of experts)."""
        c = self.config
        if not isinstance(refiner, LDM) or c.first_stage.latent_channels != refiner.latent_mean.shape[0]:
            raise UsageError(
                f"A refiner works in the latents of the base, and a {type(refiner).__name__} does not; take "
                "one of the same family."
            )
        if not 0 < at < 1:
            raise UsageError(f"A refiner takes over at a share between 0 and 1 of the way, got {at}.")
        self.refiner = refiner, switch_of(c.scheduler, at)
        return self

    @classmethod
    def from_diffusers(cls, folder: Path) -> LDM:
        """Stable Diffusion 1.x and 2.x, their inpainting and upscaling models, SDXL and its refiner."""
        return cls.from_parts(StableDiffusionFolder.read(folder))

    @classmethod
    def from_file(cls, path: Path) -> LDM:
        """The same from a single file in the layout of the code it was trained with."""
        return cls.from_parts(read_single_file(path))

    @classmethod
    def from_parts(cls, found: StableDiffusionFolder) -> LDM:
        """The system of networks in diffusers' words, wherever they were read."""
        cells = found.height * found.width // found.vae.factor**2
        config = LDMConfig(**found.described(), chunk=max(1, min(64, CELLS_AT_ONCE // cells)))
        with torch.device("meta"):
            system = cls(config, tuple(found.tokenizers.values()))
        system.notes = found.notes
        for name, module in system.parts().items():
            fill(module, found.weights[name])
        latents = found.vae.latent_channels
        system.latent_mean = torch.zeros(latents, 1, 1)
        system.latent_std = torch.full((latents, 1, 1), 1 / found.scale)
        return system

    def to_diffusers(self, folder: Path) -> None:
        """A folder that diffusers' pipeline for this kind of model opens."""
        self.in_diffusers_words().write(folder)

    def to_file(self, path: Path) -> None:
        """A single file in the layout of the code such models were trained with."""
        write_tensors(path, original_tensors(self.in_diffusers_words()), {"format": "pt"})

    def in_diffusers_words(self) -> StableDiffusionFolder:
        """The networks, and what has to be said of them."""
        c = self.config
        schedulers = {"scheduler": c.scheduler or spec_of(c.process, c.solver, c.predicts)}
        if c.beside == "small":
            schedulers["low_res_scheduler"] = spec_of(c.augmentation, "ancestral", "eps")
        return StableDiffusionFolder.of(
            c.text,
            self.reader.tokenizers,
            c.beside,
            self.denoiser.network.config,
            (self.latent_mean, self.latent_std),
            vae=c.first_stage,
            schedulers=schedulers,
            height=c.height,
            width=c.width,
            weights={name: Weights(module.state_dict()) for name, module in self.parts().items()},
        )

    def parts(self) -> dict[str, nn.Module]:
        """The networks by diffusers' names."""
        texts = {"text_encoder": self.text}
        if isinstance(self.text, ClipPair):
            texts = dict(self.text.named_children())
        return {"unet": self.denoiser.network, "vae": self.first_stage, **texts}

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


def _network(config: LDMConfig) -> DiT | UNet:
    latents, text = config.first_stage.latent_channels, config.text
    pooled = 0
    if not isinstance(text, ClipTextConfig):
        pooled = text.vector if isinstance(text, ClipPairConfig) else text.width
    if isinstance(config.network, DiTConfig):
        return DiT(replace(config.network, channels=latents, tokens=text.width, vector=pooled))
    seen = {"nothing": 0, "masked": 1 + latents, "small": config.first_stage.channels}[config.beside]
    ends = replace(config.network, in_channels=latents + seen, out_channels=latents)
    return UNet(replace(ends, context=text.width, vector=pooled))


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
