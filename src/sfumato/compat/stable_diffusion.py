"""Folders of Stable Diffusion and SDXL as diffusers saves them: one kind a pipeline, one reader for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from sfumato.compat import clip_text, unet, vae
from sfumato.compat.diffusers import check, pipeline_of, present, scheduler_in, size_of, write
from sfumato.compat.part import DIFFUSERS, Weights, read_json, read_weights
from sfumato.compat.schedulers import CLASS_OF, SchedulerSpec, process_of
from sfumato.data.clip_bpe import ClipTokenizer
from sfumato.errors import DataError, UsageError
from sfumato.nn.autoencoder import AutoencoderConfig
from sfumato.nn.clip_pair import ClipPairConfig
from sfumato.nn.clip_text import ClipTextConfig
from sfumato.nn.transformer import DiTConfig, WordsConfig
from sfumato.nn.unet import UNetConfig

UNREAD = ("safety_checker", "feature_extractor", "image_encoder", "requires_safety_checker", "watermarker")
"""What a folder may hold besides, and nobody reads here."""
TOWER_OF = {"tokenizer": "text_encoder", "tokenizer_2": "text_encoder_2"}
TEXT = {"text_encoder": "CLIPTextModel", "text_encoder_2": clip_text.PROJECTED}


Beside = Literal["nothing", "masked", "small"]
"""What a U-Net reads besides latents: a mask and the latents of what is outside it, or a small picture."""


@dataclass(frozen=True)
class Kind:
    """What is particular to the folders of one pipeline."""

    beside: Beside = "nothing"
    towers: tuple[str, ...] = ("text_encoder",)
    """Parts that read; the first of two may be missing."""
    fixed: bool = True
    """Whether diffusers takes the scheduler's offset as 1 and its clipping as off, whatever its file says."""
    settings: Mapping[str, bool] = field(default_factory=dict)
    """What the index says besides, with what holds where it does not."""
    empty: tuple[str, ...] = ("safety_checker", "feature_extractor", "image_encoder")
    """Parts that the index must name, though we have none."""
    schedulers: tuple[str, ...] = ("scheduler",)
    steps: int = 50
    """How many diffusers' pipeline takes, unless it is told."""
    guidance: float = 7.5
    """Its scale of guidance, unless it is told."""


_XL = Kind(
    towers=tuple(TEXT),
    fixed=False,
    settings={"force_zeros_for_empty_prompt": True},
    empty=("feature_extractor", "image_encoder"),
    guidance=5.0,
)
SAFE = (
    "StableDiffusionPipeline",
    "StableDiffusionImg2ImgPipeline",
    "StableDiffusionInpaintPipeline",
)
"""Pipelines whose index says whether they need a safety checker."""
KINDS = {
    "StableDiffusionPipeline": Kind(),
    "StableDiffusionImg2ImgPipeline": Kind(),
    "StableDiffusionInpaintPipeline": Kind("masked"),
    "StableDiffusionUpscalePipeline": Kind(
        "small",
        fixed=False,
        empty=("safety_checker", "feature_extractor", "watermarker"),
        schedulers=("scheduler", "low_res_scheduler"),
        steps=75,
        guidance=9.0,
    ),
    "StableDiffusionXLPipeline": _XL,
    "StableDiffusionXLImg2ImgPipeline": replace(
        _XL, settings={**_XL.settings, "requires_aesthetics_score": False}, empty=()
    ),
}


@dataclass(frozen=True)
class StableDiffusionFolder:
    """What a pipeline of text and latents is saved as."""

    unet: UNetConfig
    vae: AutoencoderConfig
    texts: Mapping[str, ClipTextConfig]
    """By the name of the part: ``text_encoder``, ``text_encoder_2``."""
    scale: float
    """What a latent is multiplied by on its way into the U-Net."""
    schedulers: Mapping[str, SchedulerSpec]
    """``scheduler``, and for upscalers ``low_res_scheduler``."""
    tokenizers: Mapping[str, ClipTokenizer]
    """``tokenizer``, ``tokenizer_2``."""
    height: int
    """Of a picture, in pixels."""
    width: int
    weights: Mapping[str, Weights]
    """Of ``unet``, ``vae`` and the text encoders."""
    pipeline: str = "StableDiffusionPipeline"
    settings: Mapping[str, bool] = field(default_factory=dict)
    number_width: int = 256
    """Sines and cosines of each number in SDXL's vector."""
    notes: tuple[str, ...] = ()
    """What the folder holds that is not used."""

    @classmethod
    def of(
        cls,
        text: WordsConfig | ClipTextConfig | ClipPairConfig,
        tokenizers: Sequence[Any],
        beside: Beside,
        network: UNetConfig | DiTConfig,
        scaling: tuple[Tensor, Tensor],
        **rest: Any,
    ) -> StableDiffusionFolder:
        """The folder of a model that reads and sees so; ``scaling`` is what latents are shifted and divided
        by, a number a channel. What diffusers has no words for is a ``UsageError``."""
        words = [t for t in tokenizers if isinstance(t, ClipTokenizer)]
        if isinstance(network, DiTConfig) or isinstance(text, WordsConfig) or not words:
            raise UsageError(
                "diffusers' text-to-image pipeline has a U-Net and CLIP's text tower; this model has a "
                "diffusion transformer or a vocabulary of its own, so it cannot be exported."
            )
        mean, std = (numbers.flatten() for numbers in scaling)
        if mean.any() or (std != std[0]).any():
            raise UsageError(
                "diffusers rescales all channels of a latent alike; this model does not, "
                "so it cannot be exported."
            )
        rest |= {"unet": network, "scale": 1 / float(std[0])}
        if isinstance(text, ClipTextConfig):
            [pipeline] = [n for n, k in KINDS.items() if k.beside == beside and len(k.towers) == 1][:1]
            return cls(
                pipeline=pipeline, texts={"text_encoder": text}, tokenizers={"tokenizer": words[0]}, **rest
            )
        told = text.numbers == "aesthetic"
        texts = {"text_encoder_2": text.second}
        if text.first is not None:
            texts = {"text_encoder": text.first, **texts}
        tokenizers = [name for name, tower in TOWER_OF.items() if tower in texts]
        settings = {"force_zeros_for_empty_prompt": text.silent}
        return cls(
            pipeline=f"StableDiffusionXL{'Img2Img' if told or not text.first else ''}Pipeline",
            texts=texts,
            tokenizers=dict(zip(tokenizers, words, strict=True)),
            settings=settings | ({"requires_aesthetics_score": True} if told else {}),
            number_width=text.number_width,
            **rest,
        )

    def described(self) -> dict[str, Any]:
        """What a latent diffusion is told of itself, by the names of its configuration."""
        return {
            "height": self.height,
            "width": self.width,
            "first_stage": self.vae,
            "text": self.text,
            "network": self.unet,
            "process": process_of(self.scheduler),
            "predicts": self.scheduler.predicts,
            "solver": self.scheduler.solver,
            "steps": self.kind.steps,
            "guidance": self.kind.guidance,
            "scheduler": self.scheduler,
            "beside": self.kind.beside,
            "augmentation": process_of(self.schedulers.get("low_res_scheduler", self.scheduler)),
        }

    @property
    def kind(self) -> Kind:
        return KINDS[self.pipeline]

    @property
    def scheduler(self) -> SchedulerSpec:
        return self.schedulers["scheduler"]

    @property
    def text(self) -> ClipTextConfig | ClipPairConfig:
        """How the model reads."""
        if "text_encoder_2" not in self.texts:
            return self.texts["text_encoder"]
        return ClipPairConfig(
            first=self.texts.get("text_encoder"),
            second=self.texts["text_encoder_2"],
            numbers="aesthetic" if self.settings.get("requires_aesthetics_score") else "frame",
            number_width=self.number_width,
            silent=self.settings["force_zeros_for_empty_prompt"],
        )

    @classmethod
    def read(cls, folder: Path) -> StableDiffusionFolder:
        """Everything in the folder; what is not understood is a ``DataError``."""
        pipeline = pipeline_of(folder)
        kind = KINDS.get(pipeline, Kind())
        index = check(folder, pipeline if pipeline in KINDS else "StableDiffusionPipeline", _classes(kind))
        towers = [name for name in kind.towers if present(index, name)]
        parts = ("unet", "vae", *towers)
        where = {name: str(folder / name / "config.json") for name in parts}
        configs = {name: read_json(folder / name / "config.json") for name in parts}
        stage, scale = vae.read_vae(configs["vae"], where["vae"])
        height, width = size_of(configs["unet"].get("sample_size"), folder / "unet")
        tokenizers = {
            name: ClipTokenizer.read(folder / name) for name, tower in TOWER_OF.items() if tower in towers
        }
        texts = {
            tower: clip_text.read_clip_text(
                configs[tower], where[tower], projected=TEXT[tower] != TEXT["text_encoder"]
            )
            for tower in towers
        }
        found = cls(
            unet=unet.read_unet_condition(configs["unet"], where["unet"]),
            vae=stage,
            texts={
                TOWER_OF[name]: replace(texts[TOWER_OF[name]], end=tokenizer.eos)
                for name, tokenizer in tokenizers.items()
            },
            scale=scale,
            schedulers={name: _fixed(scheduler_in(folder, name), kind) for name in kind.schedulers},
            tokenizers=tokenizers,
            height=height * stage.factor,
            width=width * stage.factor,
            weights={
                name: read_weights(folder / name, clip_text.FORMAT if name in TEXT else DIFFUSERS)
                for name in parts
            },
            pipeline=pipeline,
            settings={name: index.get(name, own) for name, own in kind.settings.items()},
            number_width=configs["unet"].get("addition_time_embed_dim") or 256,
            notes=tuple(
                f"'{folder}' has a {name}, which is not used." for name in UNREAD if present(index, name)
            ),
        )
        found._check_joints(folder)
        return found

    def write(self, folder: Path) -> None:
        """A new folder that diffusers opens; all of it, or nothing."""
        kind = KINDS[self.pipeline]
        size = self.height // self.vae.factor, self.width // self.vae.factor
        configs = {
            "unet": unet.write_unet_condition(self.unet, size, self.number_width),
            "vae": vae.write_vae(self.vae, self.scale, (self.height, self.width)),
            **{name: clip_text.write_clip_text(config) for name, config in self.texts.items()},
        }
        tokens = {name: tower for name, tower in TOWER_OF.items() if tower in kind.towers}
        index = {
            "_class_name": self.pipeline,
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
            **{name: _entry("transformers", TEXT[name], name in self.texts) for name in kind.towers},
            **{name: _entry("transformers", "CLIPTokenizer", name in self.tokenizers) for name in tokens},
            **{name: ["diffusers", CLASS_OF.get(spec.solver, "")] for name, spec in self.schedulers.items()},
            **{name: [None, None] for name in kind.empty},
            **self.settings,
        }
        if self.pipeline in SAFE:
            index |= {"requires_safety_checker": False}
        write(folder, index, configs, self.weights, self.schedulers, self.tokenizers)

    def _check_joints(self, folder: Path) -> None:
        """Whether the parts fit each other."""
        latents = self.vae.latent_channels
        read = latents + {"nothing": 0, "masked": 1 + latents, "small": self.vae.channels}[self.kind.beside]
        if (self.unet.in_channels, self.unet.out_channels) != (read, latents):
            raise DataError(
                f"In '{folder}' the U-Net reads {self.unet.in_channels} channels and writes "
                f"{self.unet.out_channels}, but latents have {latents}, and a {self.pipeline} reads {read}; "
                "take both from the same model."
            )
        tokens = sum(config.width for config in self.texts.values())
        if self.unet.context != tokens:
            raise DataError(
                f"In '{folder}' the U-Net reads tokens of width {self.unet.context}, but the text encoder's "
                f"have {tokens}; take both from the same model."
            )
        for name, tokenizer in self.tokenizers.items():
            text = self.texts[TOWER_OF[name]]
            if tokenizer.length > text.length or len(tokenizer.vocabulary) > text.vocabulary:
                raise DataError(
                    f"In '{folder}' the {name} has {len(tokenizer.vocabulary)} tokens and texts of "
                    f"{tokenizer.length}, but the text encoder knows {text.vocabulary} and reads "
                    f"{text.length}; take both from the same model."
                )


def _classes(kind: Kind) -> dict[str, tuple[str | None, ...]]:
    """What the parts of a folder may be."""
    maybe: tuple[str | None, ...] = (None,) if len(kind.towers) > 1 else ()
    tokenizer = ("CLIPTokenizer", "CLIPTokenizerFast")
    found: dict[str, tuple[str | None, ...]] = {
        "unet": ("UNet2DConditionModel",),
        "vae": ("AutoencoderKL",),
    }
    for name, tower in TOWER_OF.items():
        if tower in kind.towers:
            optional = maybe if tower == "text_encoder" else ()
            found |= {tower: (TEXT[tower], *optional), name: (*tokenizer, *optional)}
    return found


def _fixed(spec: SchedulerSpec, kind: Kind) -> SchedulerSpec:
    return replace(spec, offset=1, clip=None) if kind.fixed else spec


def _entry(library: str, name: str, here: bool) -> list[str | None]:
    return [library, name] if here else [None, None]
