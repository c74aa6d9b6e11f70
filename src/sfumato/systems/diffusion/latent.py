"""What latent diffusions share: a denoiser in the latents of an autoencoder, its training, its sampling.

Rombach, Blattmann, Lorenz, Esser, Ommer: High-Resolution Image Synthesis with Latent Diffusion Models,
CVPR 2022, arXiv 2112.10752. What a model is told besides the noisy latents is of two kinds: what its reader
reads (words, boxes), and what lies beside the latents (a mask, a small picture, a map).
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sfumato.compat.schedulers import Walk
from sfumato.core import guidance, solvers
from sfumato.core.denoiser import Denoiser, Predicts
from sfumato.core.process import Karras, Process, Schedule, Spacing
from sfumato.core.request import Event, Generate, Images, Progress, Request
from sfumato.core.rng import Rng
from sfumato.core.serving import in_parts
from sfumato.core.steps import Denoise, Solver
from sfumato.core.system import Batch, Loss, OptimConfig, Player, System
from sfumato.data.dataset import Dataset, Encoded, Facts
from sfumato.device import autocast
from sfumato.errors import DataError, UsageError
from sfumato.nn.autoencoder import Autoencoder, AutoencoderConfig
from sfumato.nn.condition import Condition
from sfumato.nn.transformer import DiT, DiTConfig, WordsConfig
from sfumato.nn.unet import UNet, UNetConfig
from sfumato.systems.autoencoders import kl
from sfumato.systems.diffusion.beside import Asked, Beside, Shown
from sfumato.systems.diffusion.starts import Given, Latents
from sfumato.systems.diffusion.words import Heard

SMALL = DiTConfig(width=128, depth=6, heads=4, clock_scale=40.0)
SMALL_WORDS = WordsConfig(rotary=True)
"""Denoiser and reader of the laptop presets: of one shape, so that one can build on another."""
SMALL_OPTIM = OptimConfig(kind="muon", lr=2e-3, betas=(0.9, 0.99), weight_decay=0.01, warmup=50, decay=0.6)
"""Of presets that build on a trained denoiser, or are told so much that they learn fast."""

Hear = Callable[[Generate, tuple[int, int]], Heard]
"""The conditions of a request for pictures of a height and width."""


@dataclass(frozen=True)
class LatentConfig:
    """First stage, denoiser, process, and how one samples unless told otherwise."""

    height: int = 64
    """Pixels."""
    width: int = 64
    """Pixels."""
    first_stage: AutoencoderConfig = kl.SMALL
    network: DiTConfig | UNetConfig = DiTConfig()
    process: Process = Process(Karras(mean=1.2, std=1.2))
    settled: float = 0.0
    """Where the centre of ln sigma in training ends, if it moves: much noise teaches what stands where,
    little what it looks like."""
    settling: int = 0
    """Steps over which it moves there, from where ``process`` has it; 0 means that it stays."""
    predicts: Predicts = "edm"
    drop: float = 0.1
    """Share of what is read that is withheld in training, so that guidance has something to guide away
    from."""
    optim: OptimConfig = OptimConfig(lr=1e-4)
    solver: str = "dpmpp_2m"
    steps: int = 20
    spacing: Spacing = "karras"
    guidance: float = 3.0
    chunk: int = 64
    """Pictures sampled at a time."""


@runtime_checkable
class Reads(Protocol):
    """What reads for a denoiser, with a tower that the system moves and saves.

    One that reads prompts also has ``hear``, which says what it makes of a request.
    """

    @property
    def text(self) -> nn.Module:
        """The tower."""
        ...

    def said(self, batch: Any, facts: Facts) -> Tensor:
        """What is said of each picture of a batch, as tokens."""
        ...

    def nothing(self) -> Tensor:
        """The same where nothing is said; one row."""
        ...

    def read(self, ids: Tensor) -> Condition:
        """What the tower makes of it."""
        ...


class LatentDiffusion(System[Request], abc.ABC):
    """A reader and a denoiser over the latents of a frozen autoencoder."""

    config: LatentConfig
    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, config: LatentConfig, reader: Reads, beside: Beside, pooled: int, tokens: int):
        """``pooled`` and ``tokens`` are the widths of what the reader makes of a text, and of its parts."""
        super().__init__()
        if config.settling and not isinstance(config.process.schedule, Karras):
            raise UsageError("Only the noise of Karras has a centre that can settle; set settling to 0.")
        self.config, self.reader = config, reader
        latents = config.first_stage.latent_channels
        self.first_stage = Autoencoder(config.first_stage).requires_grad_(False)
        self.text = reader.text
        self.beside = beside
        self.notes: tuple[str, ...] = ()
        self.scaled = False
        network = network_of(config, beside.channels, pooled, tokens)
        self.denoiser: Denoiser[Any] = Denoiser(network, config.process, config.predicts)
        self.register_buffer("latent_mean", torch.zeros(latents, 1, 1))
        self.register_buffer("latent_std", torch.ones(latents, 1, 1))

    @classmethod
    def fit(cls, config: Any, facts: Facts) -> Any:
        stage = replace(config.first_stage, channels=facts.channels)
        fitted = replace(config, height=facts.height, width=facts.width, first_stage=stage)
        latent_shape(fitted, facts.height, facts.width)
        return fitted

    @property
    def channels(self) -> int:
        return self.config.first_stage.channels

    def players(self) -> dict[str, Player]:
        network = self.denoiser.network
        return {"denoiser": Player((network, self.text), self.config.optim, network.ends)}

    @classmethod
    def built_on(cls, config: Any, base: System[Any]) -> Any:
        """With a tower of words like the base's, so that it can be taken over."""
        mine, theirs = (getattr(c, "text", None) for c in (config, base.config))
        if isinstance(mine, WordsConfig) and isinstance(theirs, WordsConfig):
            return replace(config, text=replace(theirs, vocabulary=mine.vocabulary))
        return config

    def adopt(self, base: System[Any]) -> None:
        """Take over a trained first stage; of another latent diffusion also the denoiser, where it has the
        same shape apart from what is told, and the tower that reads, where that is the same.

        A denoiser that sees more beside the latents than its base does not heed it at first (as Stable
        Diffusion's inpainting models began); one that reads less forgets the rest.
        """
        stage = self.config.first_stage
        if isinstance(base, LatentDiffusion) and base.config.first_stage == stage:
            self.first_stage.load_state_dict(base.first_stage.state_dict())
            self.latent_mean.copy_(base.latent_mean)
            self.latent_std.copy_(base.latent_std)
            mine, theirs = self.denoiser.network, base.denoiser.network
            if untold(mine.config) == untold(theirs.config):
                mine.load_state_dict(widened(theirs.state_dict(), mine.state_dict()))
                self.scaled = True
            told, learned = (getattr(tower, "config", None) for tower in (self.text, base.text))
            if told == learned:
                self.text.load_state_dict(base.text.state_dict())
            return
        if not isinstance(base, kl.KL) or base.config.network != stage:
            raise DataError(
                f"Latent diffusion needs a trained first stage of its own shape, got a {type(base).__name__} "
                "that differs; train one with 'sfumato train kl' and the same settings."
            )
        self.first_stage.load_state_dict(base.network.state_dict())

    @torch.no_grad()
    def prepare(self, data: Dataset) -> Dataset:
        """Encode every picture and what is said of it once, and measure the latents (section G's rescaling)
        unless their scale is that of a denoiser which was taken over."""
        means, stds, ids = [], [], []
        for rows in torch.arange(len(data)).split(128):
            batch = data.batch(rows)
            with autocast("auto", self.device):
                mean, logvar = self.first_stage.encode(batch["image"].to(self.device))
            means.append(mean.half().cpu())
            stds.append((logvar.float() / 2).exp().half().cpu())
            ids.append(self.reader.said(batch, data.facts))
        mean, std = torch.cat(means), torch.cat(stds)
        if not self.scaled:
            axes = (0, 2, 3)
            self.latent_mean.copy_(mean.float().mean(axes, keepdim=True)[0])
            power = mean.float().var(axes, keepdim=True) + std.float().square().mean(axes, keepdim=True)
            self.latent_std.copy_(power.sqrt()[0])
        self.beside.measure(data)
        return Encoded(data, {"mean": mean, "std": std, "ids": torch.cat(ids)}, {}, live=self.beside.fields)

    def losses(self, batch: Batch, step: int) -> Iterator[Loss]:
        """Section 3.3, eq. 3, on what ``prepare`` encoded; now and then without what is read."""
        mean, std, rng = batch["mean"].float(), batch["std"].float(), batch.rng
        z = mean + std * rng.normal(*mean.shape[1:]).to(mean)
        z = (z - self.latent_mean) / self.latent_std
        keep = (rng.uniform() >= self.config.drop).to(z.device)
        ids, nothing = batch["ids"], self.reader.nothing().to(z.device)
        read = self.reader.read(torch.where(keep.view(-1, *[1] * (ids.ndim - 1)), ids, nothing))
        shown = self.beside.shown(batch, self._encode)
        cond = replace(
            read, spatial=shown.spatial, vector=read.vector if shown.vector is None else shown.vector
        )
        t = self._noises(step).times(rng)
        yield Loss.sum("denoiser", mse=self.denoiser.loss(z, t, cond, rng))

    def _noises(self, step: int) -> Schedule:
        """The schedule whose training times are drawn at a step."""
        c, schedule = self.config, self.config.process.schedule
        if not c.settling:
            return schedule
        assert isinstance(schedule, Karras)
        share = min(1.0, step / c.settling)
        return replace(schedule, mean=schedule.mean + share * (c.settled - schedule.mean))

    def run(self, request: Request) -> Iterator[Event]:
        """New pictures, or others in place of given ones."""
        first = request.seed
        (asked, begin), hear = self._asked(request), self._hearing(request)

        def serve(part: Generate) -> Iterator[Event]:
            start = part.seed - first
            return self._serve(part, begin(range(start, start + part.count)), hear)

        return in_parts(serve, asked, self.config.chunk, self.hears)

    def _asked(self, request: Request) -> Asked:
        """A request as one for new pictures, and what those of its rows start from."""
        return self.beside.asked(request)

    @abc.abstractmethod
    def _hearing(self, request: Request) -> Hear:
        """What reads the parts of a request."""

    @property
    def hears(self) -> frozenset[str]:
        return frozenset({"caption"})

    @torch.no_grad()
    def _serve(self, request: Generate, given: Given, hear: Hear) -> Iterator[Event]:
        c, rng = self.config, Rng.sampling(request.seed, request.count)
        size = request.height or c.height, request.width or c.width
        shape = latent_shape(c, *size)
        solver, (times, scale) = self._walk(request)

        def prior(rng: Rng) -> Tensor:
            like = torch.empty(len(rng), *shape, device=self.device)
            return scale * c.process.prior(like, rng)

        times = given.times(times)
        z, spatial, vector = given.start(Latents(self._encode, prior, c.process), times, rng)
        denoise, heard = self._listening(request, size, Shown(spatial, vector), hear)
        for step in solver(denoise, c.process, z, times, rng=rng):
            yield Progress(1 - step.t / float(times[0]), partial(self._decode, step.x0))
        pixels = given.finished(self._decode(step.x))
        yield Images(pixels, captions=heard.prompts, notes=heard.notes + self.notes)

    def _listening(
        self, request: Generate, size: tuple[int, int], shown: Shown, hear: Hear
    ) -> tuple[Denoise, Heard]:
        """What a walk asks about every step, and what was heard."""
        heard = hear(request, size).beside(shown.spatial, shown.vector)
        return self._guided(request, heard), heard

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
        grid = c.process.schedule.grid(steps, request.spacing or c.spacing)
        return solvers.named(name, eta=request.eta), Walk(grid, 1.0)

    @torch.no_grad()
    def _decode(self, z: Float[Tensor, "b z i j"]) -> Float[Tensor, "b c h w"]:
        latent = (z * self.latent_std + self.latent_mean).to(self.dtype)
        return self.first_stage.decode(latent).float().clamp(-1, 1)

    @torch.no_grad()
    def _encode(self, images: Float[Tensor, "b c h w"], rng: Rng) -> Float[Tensor, "b z i j"]:
        mean, logvar = self.first_stage.encode(images.to(self.device, self.dtype))
        drawn = mean.float() + (logvar.float() / 2).exp() * rng.normal(*mean.shape[1:]).to(mean.device)
        return (drawn - self.latent_mean) / self.latent_std


def network_of(config: LatentConfig, beside: int, pooled: int, tokens: int) -> DiT | UNet:
    """The denoiser, for latents with ``beside`` channels more, and texts of these widths."""
    latents = config.first_stage.latent_channels
    if isinstance(config.network, DiTConfig):
        return DiT(replace(config.network, channels=latents, beside=beside, tokens=tokens, vector=pooled))
    ends = replace(config.network, in_channels=latents + beside, out_channels=latents)
    return UNet(replace(ends, context=tokens, vector=pooled))


def latent_shape(config: LatentConfig, height: int, width: int) -> tuple[int, int, int]:
    """Channels, height and width of the latents of pictures of this size."""
    stage, network = config.first_stage, config.network
    factor = stage.factor * (network.patch if isinstance(network, DiTConfig) else 1)
    if height % factor or width % factor:
        raise UsageError(
            f"Height and width must be multiples of {factor}, got {height} x {width}; choose another size."
        )
    return stage.latent_channels, height // stage.factor, width // stage.factor


def untold(config: DiTConfig | UNetConfig) -> DiTConfig | UNetConfig:
    """The same denoiser, whatever it is told."""
    if isinstance(config, DiTConfig):
        return replace(config, beside=0, tokens=0, vector=0)
    return replace(config, in_channels=0)


def widened(theirs: dict[str, Tensor], mine: dict[str, Tensor]) -> dict[str, Tensor]:
    """Their tensors where we have such, with zeros after their columns where ours are wider: what is new is
    not heeded, and what is wanting is forgotten."""
    grown = dict(mine)
    for name in mine.keys() & theirs.keys():
        grown[name] = torch.zeros_like(mine[name])
        both = zip(theirs[name].shape, mine[name].shape, strict=True)
        part = tuple(slice(0, min(lengths)) for lengths in both)
        grown[name][part] = theirs[name][part]
    return grown
