"""Latent diffusion: words to pictures, by walking from noise to data in an autoencoder's latents.

Rombach, Blattmann, Lorenz, Esser, Ommer: High-Resolution Image Synthesis with Latent Diffusion Models,
CVPR 2022, arXiv 2112.10752. Stable Diffusion 1.x and 2.x are this system with a U-Net and CLIP's text tower;
the laptop presets have a diffusion transformer (Peebles & Xie 2023) and a text tower of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from sfumato.compat.embedding import read_embedding
from sfumato.compat.lora import merge, read_lora
from sfumato.compat.part import Weights, fill
from sfumato.compat.schedulers import SchedulerSpec, Walk, spec_of, switch_of, walk
from sfumato.compat.single_file import MARK, original_tensors, read_single_file
from sfumato.compat.stable_diffusion import KINDS, StableDiffusionFolder
from sfumato.compat.stable_diffusion import Beside as Named
from sfumato.core import guidance, solvers
from sfumato.core.additions import Additions
from sfumato.core.durable import write_tensors
from sfumato.core.process import Karras, Process
from sfumato.core.request import Generate, Request, Vary
from sfumato.core.steps import Denoise, Solver
from sfumato.core.system import OptimConfig, Preset, TrainConfig
from sfumato.data.dataset import Facts
from sfumato.data.prompt import Tokenizer
from sfumato.errors import UsageError
from sfumato.nn.clip_pair import ClipPair, ClipPairConfig
from sfumato.nn.layers import circular
from sfumato.nn.transformer import DiTConfig, WordsConfig
from sfumato.nn.unet import UNetConfig
from sfumato.systems.diffusion.beside import Beside, Masked, Nothing, Shown, Small
from sfumato.systems.diffusion.latent import SMALL, SMALL_WORDS, Hear, LatentConfig, LatentDiffusion
from sfumato.systems.diffusion.words import Heard, Reader, TextConfig, knowing, widths

CELLS_AT_ONCE = 4096
"""Latent cells sampled together where a model from diffusers does not say: one picture of 512 x 512."""


@dataclass(frozen=True)
class LDMConfig(LatentConfig):
    """The text tower, and what only models from elsewhere have."""

    text: TextConfig = WordsConfig()
    scheduler: SchedulerSpec | None = None
    """How a model from diffusers spreads its steps; ``spacing`` then counts only in requests."""
    beside: Named = "nothing"
    """What the denoiser sees besides: a mask with the latents of what is outside it, or a small picture."""
    augmentation: Process = Process()
    """How a small picture is noised before it is seen."""


class LDM(LatentDiffusion):
    """A text tower and a denoiser over the latents of a frozen autoencoder."""

    tasks = (Generate, Vary)
    Config = LDMConfig
    config: LDMConfig
    reader: Reader
    pipelines = tuple(KINDS)
    published = frozenset({MARK})

    def __init__(self, config: LDMConfig, tokenizers: Sequence[Tokenizer] = ()):
        """``tokenizers`` are needed for CLIP's text towers alone; a tower of words brings its own."""
        reader = Reader.of(config.text, tokenizers)
        super().__init__(config, reader, _beside(config), *widths(config.text))
        self.refiner: tuple[LDM, float] | None = None

    @classmethod
    def fit(cls, config: LDMConfig, facts: Facts) -> LDMConfig:
        if isinstance(config.text, WordsConfig):
            config = replace(config, text=knowing(config.text, facts))
        fitted: LDMConfig = super().fit(config, facts)
        return fitted

    @property
    def can(self) -> tuple[type[Request], ...]:
        return self.beside.tasks

    def _hearing(self, request: Request) -> Hear:
        return self.reader.hear

    @property
    def hears(self) -> frozenset[str]:
        text, more = self.config.text, self.refiner[0].hears if self.refiner else frozenset()
        if isinstance(text, ClipPairConfig):
            more |= {"frame"} | ({"aesthetic"} if text.numbers == "aesthetic" else set())
        return more | {"caption"}

    def preview(self, count: int, seed: int) -> Generate:
        return Generate(count=count, seed=seed, prompt=PREVIEW_PROMPTS if self._knows_shapes() else "")

    def _listening(
        self, request: Generate, size: tuple[int, int], shown: Shown, hear: Hear
    ) -> tuple[Denoise, Heard]:
        denoise, heard = super()._listening(request, size, shown, hear)
        if self.refiner is not None:
            refiner, switch = self.refiner
            late, _ = refiner._listening(request, size, shown, refiner.reader.hear)
            denoise = guidance.experts(denoise, late, switch)
        return denoise, heard

    def _walk(self, request: Generate) -> tuple[Solver, Walk]:
        c, name, steps = self.config, request.solver or self.config.solver, request.steps or self.config.steps
        if c.scheduler is None:
            return super()._walk(request)
        solver = solvers.named(name, eta=request.eta)
        if name == "plms" and c.predicts == "v":
            solver = partial(solvers.plms, of="v")
        return solver, walk(c.scheduler, name, steps, request.spacing)

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
        system.scaled = True
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


def _beside(config: LDMConfig) -> Beside:
    match config.beside:
        case "nothing":
            return Nothing()
        case "masked":
            return Masked(config.first_stage)
        case "small":
            classes = config.network.classes if isinstance(config.network, UNetConfig) else 0
            return Small(config.first_stage, config.augmentation, classes)


_MUON = OptimConfig(kind="muon", lr=3e-3, betas=(0.9, 0.99), weight_decay=0.01, warmup=100, decay=0.3)
_LAPTOP = Preset(
    LDMConfig(
        network=SMALL,
        process=Process(Karras(mean=1.6, std=1.2)),
        settled=0.4,
        settling=9000,
        text=SMALL_WORDS,
        optim=_MUON,
    ),
    data="folder",
    size=64,
    train=TrainConfig(steps=9000, batch=32, ema=0.999),
    base=("kl", "laptop"),
)
LDM.presets = {
    "laptop": _LAPTOP,
    "shapes": replace(_LAPTOP, data="shapes"),
}
