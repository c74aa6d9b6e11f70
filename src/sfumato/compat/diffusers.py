"""Folders of diffusers' pipelines, read and written without diffusers."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sfumato.compat import clip_text, unet, vae
from sfumato.compat.part import DIFFUSERS, Weights, read_json, read_weights, write_weights
from sfumato.compat.schedulers import CLASS_OF, SchedulerSpec, read_scheduler, write_scheduler
from sfumato.core.durable import write_json
from sfumato.data.clip_bpe import ClipTokenizer
from sfumato.errors import DataError, StorageError, UsageError
from sfumato.nn.autoencoder import AutoencoderConfig
from sfumato.nn.clip_text import ClipTextConfig
from sfumato.nn.unet import UNetConfig

WRITTEN_FOR = "0.35.0"
"""The oldest version of diffusers that the folders we write are meant for."""
UNREAD = ("safety_checker", "feature_extractor", "image_encoder", "requires_safety_checker")
"""What a folder of Stable Diffusion may hold besides, and nobody reads here."""


@dataclass(frozen=True)
class DDPMFolder:
    """What a ``DDPMPipeline`` is saved as: a U-Net over pixels and a scheduler."""

    unet: UNetConfig
    weights: Weights
    scheduler: SchedulerSpec
    height: int
    width: int

    @classmethod
    def read(cls, folder: Path) -> DDPMFolder:
        """Everything in the folder; what is not understood is a ``DataError``."""
        _check(folder, "DDPMPipeline", {"unet": ("UNet2DModel",)})
        config = read_json(folder / "unet" / "config.json")
        size = config.get("sample_size")
        height, width = _size(size, folder / "unet")
        return cls(
            unet.read_unet(config, str(folder / "unet" / "config.json")),
            read_weights(folder / "unet", DIFFUSERS),
            _scheduler(folder),
            height,
            width,
        )

    def write(self, folder: Path) -> None:
        """A new folder that diffusers opens; all of it, or nothing."""
        if self.unet.classes:
            raise UsageError(
                "A DDPMPipeline cannot be told a label; only models without labels can be exported."
            )
        configs = {"unet": unet.write_unet(self.unet, (self.height, self.width))}
        index = {
            "_class_name": "DDPMPipeline",
            "unet": ["diffusers", "UNet2DModel"],
            "scheduler": ["diffusers", CLASS_OF.get(self.scheduler.solver, "")],
        }
        _write(folder, index, configs, {"unet": self.weights}, self.scheduler, None)


@dataclass(frozen=True)
class StableDiffusionFolder:
    """What a ``StableDiffusionPipeline`` is saved as."""

    unet: UNetConfig
    vae: AutoencoderConfig
    text: ClipTextConfig
    scale: float
    """What a latent is multiplied by on its way into the U-Net."""
    scheduler: SchedulerSpec
    tokenizer: ClipTokenizer
    height: int
    """Of a picture, in pixels."""
    width: int
    weights: Mapping[str, Weights]
    """Of ``unet``, ``vae`` and ``text_encoder``."""
    notes: tuple[str, ...] = ()
    """What the folder holds that is not used."""

    @classmethod
    def read(cls, folder: Path) -> StableDiffusionFolder:
        """Everything in the folder; what is not understood is a ``DataError``.

        As diffusers' pipeline does, the scheduler's offset is taken as 1 and its clipping as off,
        whatever its file says.
        """
        classes = {
            "unet": ("UNet2DConditionModel",),
            "vae": ("AutoencoderKL",),
            "text_encoder": ("CLIPTextModel",),
            "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
        }
        index = _check(folder, "StableDiffusionPipeline", classes)
        configs = {name: read_json(folder / name / "config.json") for name in ("unet", "vae", "text_encoder")}
        where = {name: str(folder / name / "config.json") for name in configs}
        stage, scale = vae.read_vae(configs["vae"], where["vae"])
        height, width = _size(configs["unet"].get("sample_size"), folder / "unet")
        found = cls(
            unet=unet.read_unet_condition(configs["unet"], where["unet"]),
            vae=stage,
            text=clip_text.read_clip_text(configs["text_encoder"], where["text_encoder"]),
            scale=scale,
            scheduler=replace(_scheduler(folder), offset=1, clip=None),
            tokenizer=ClipTokenizer.read(folder / "tokenizer"),
            height=height * stage.factor,
            width=width * stage.factor,
            weights={
                "unet": read_weights(folder / "unet", DIFFUSERS),
                "vae": read_weights(folder / "vae", DIFFUSERS),
                "text_encoder": read_weights(folder / "text_encoder", clip_text.FORMAT),
            },
            notes=tuple(
                f"'{folder}' has a {name}, which is not used." for name in UNREAD if _present(index, name)
            ),
        )
        found._check_joints(folder)
        return found

    def write(self, folder: Path) -> None:
        """A new folder that diffusers opens; all of it, or nothing."""
        size = self.height // self.vae.factor, self.width // self.vae.factor
        configs = {
            "unet": unet.write_unet_condition(self.unet, size),
            "vae": vae.write_vae(self.vae, self.scale, (self.height, self.width)),
            "text_encoder": clip_text.write_clip_text(self.text),
        }
        index = {
            "_class_name": "StableDiffusionPipeline",
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "scheduler": ["diffusers", CLASS_OF.get(self.scheduler.solver, "")],
            "safety_checker": [None, None],
            "feature_extractor": [None, None],
            "image_encoder": [None, None],
            "requires_safety_checker": False,
        }
        _write(folder, index, configs, self.weights, self.scheduler, self.tokenizer)

    def _check_joints(self, folder: Path) -> None:
        """Whether the parts fit each other."""
        latents, tokens = self.vae.latent_channels, self.text.width
        if (self.unet.in_channels, self.unet.out_channels) != (latents, latents):
            raise DataError(
                f"In '{folder}' the U-Net reads {self.unet.in_channels} channels and writes "
                f"{self.unet.out_channels}, but latents have {latents}; this is no text-to-image model."
            )
        if self.unet.context != tokens:
            raise DataError(
                f"In '{folder}' the U-Net reads tokens of width {self.unet.context}, but the text encoder's "
                f"have {tokens}; take both from the same model."
            )
        if self.tokenizer.length > self.text.length or len(self.tokenizer.vocabulary) > self.text.vocabulary:
            raise DataError(
                f"In '{folder}' the tokenizer has {len(self.tokenizer.vocabulary)} tokens and texts of "
                f"{self.tokenizer.length}, but the text encoder knows {self.text.vocabulary} and reads "
                f"{self.text.length}; take both from the same model."
            )


def pipeline_of(folder: Path) -> str:
    """Name of the pipeline whose folder this is."""
    return str(read_json(folder / "model_index.json").get("_class_name"))


def _check(folder: Path, pipeline: str, classes: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    index = read_json(folder / "model_index.json")
    if index.get("_class_name") != pipeline:
        raise DataError(f"'{folder}' holds a {index.get('_class_name')}, but a {pipeline} is needed here.")
    for name, allowed in classes.items():
        entry = index.get(name)
        given = entry[1] if isinstance(entry, list) and len(entry) == 2 else None
        if given not in allowed:
            raise DataError(
                f"'{folder}' has {given or 'nothing'} as its {name}, where a {pipeline} is understood "
                f"with {' or '.join(allowed)} only."
            )
    return index


def _present(index: Mapping[str, Any], name: str) -> bool:
    entry = index.get(name)
    return isinstance(entry, list) and entry[-1] is not None


def _scheduler(folder: Path) -> SchedulerSpec:
    path = folder / "scheduler" / "scheduler_config.json"
    return read_scheduler(read_json(path), str(path))


def _size(size: Any, folder: Path) -> tuple[int, int]:
    if isinstance(size, int):
        return size, size
    if isinstance(size, list) and len(size) == 2 and all(isinstance(side, int) for side in size):
        return size[0], size[1]
    raise DataError(
        f"'{folder / 'config.json'}' sets sample_size to {size!r}; write a number there, or [height, width]."
    )


def _write(
    folder: Path,
    index: Mapping[str, Any],
    configs: Mapping[str, Mapping[str, Any]],
    weights: Mapping[str, Weights],
    scheduler: SchedulerSpec,
    tokenizer: ClipTokenizer | None,
) -> None:
    """Write aside, then rename: a crash or a full disk leaves no half folder under the name."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"'{folder}' is not empty; give a new folder.")
    version = {"_diffusers_version": WRITTEN_FOR}
    spec = write_scheduler(scheduler)
    aside = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        write_json(aside / "model_index.json", {**version, **index})
        for name, config in configs.items():
            form = clip_text.FORMAT if name == "text_encoder" else DIFFUSERS
            write_weights(weights[name], aside / name, form)
            write_json(
                aside / name / "config.json", config if name == "text_encoder" else {**version, **config}
            )
        (aside / "scheduler").mkdir()
        write_json(aside / "scheduler" / "scheduler_config.json", {**version, **spec})
        if tokenizer is not None:
            tokenizer.write(aside / "tokenizer")
    except StorageError:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    os.replace(aside, folder)
