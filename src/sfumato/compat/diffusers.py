"""Folders of diffusers' pipelines, read and written without diffusers: what all have, and DDPM's."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfumato.compat import clip_text, unet
from sfumato.compat.part import DIFFUSERS, Weights, read_json, read_weights, write_weights
from sfumato.compat.schedulers import CLASS_OF, SchedulerSpec, read_scheduler, write_scheduler
from sfumato.core.durable import write_json
from sfumato.data.clip_bpe import ClipTokenizer
from sfumato.errors import DataError, StorageError, UsageError
from sfumato.nn.unet import UNetConfig

WRITTEN_FOR = "0.35.0"
"""The oldest version of diffusers that the folders we write are meant for."""


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
        check(folder, "DDPMPipeline", {"unet": ("UNet2DModel",)})
        config = read_json(folder / "unet" / "config.json")
        size = config.get("sample_size")
        height, width = size_of(size, folder / "unet")
        return cls(
            unet.read_unet(config, str(folder / "unet" / "config.json")),
            read_weights(folder / "unet", DIFFUSERS),
            scheduler_in(folder),
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
        write(folder, index, configs, {"unet": self.weights}, {"scheduler": self.scheduler}, {})


def pipeline_of(folder: Path) -> str:
    """Name of the pipeline whose folder this is."""
    return str(read_json(folder / "model_index.json").get("_class_name"))


def check(folder: Path, pipeline: str, classes: Mapping[str, tuple[str | None, ...]]) -> dict[str, Any]:
    """The index of a folder of this pipeline, whose parts must be of these classes."""
    index = read_json(folder / "model_index.json")
    if index.get("_class_name") != pipeline:
        raise DataError(f"'{folder}' holds a {index.get('_class_name')}, but a {pipeline} is needed here.")
    for name, allowed in classes.items():
        entry = index.get(name)
        given = entry[1] if isinstance(entry, list) and len(entry) == 2 else None
        if given not in allowed:
            raise DataError(
                f"'{folder}' has {given or 'nothing'} as its {name}, where a {pipeline} is understood "
                f"with {' or '.join(str(name) for name in allowed)} only."
            )
    return index


def present(index: Mapping[str, Any], name: str) -> bool:
    """Whether the folder has such a part."""
    entry = index.get(name)
    return isinstance(entry, list) and entry[-1] is not None


def scheduler_in(folder: Path, part: str = "scheduler") -> SchedulerSpec:
    """The scheduler that a part of a folder describes."""
    path = folder / part / "scheduler_config.json"
    return read_scheduler(read_json(path), str(path))


def size_of(size: Any, folder: Path) -> tuple[int, int]:
    """Height and width as ``sample_size`` says them."""
    if isinstance(size, int):
        return size, size
    if isinstance(size, list) and len(size) == 2 and all(isinstance(side, int) for side in size):
        return size[0], size[1]
    raise DataError(
        f"'{folder / 'config.json'}' sets sample_size to {size!r}; write a number there, or [height, width]."
    )


def write(
    folder: Path,
    index: Mapping[str, Any],
    configs: Mapping[str, Mapping[str, Any]],
    weights: Mapping[str, Weights],
    schedulers: Mapping[str, SchedulerSpec],
    tokenizers: Mapping[str, ClipTokenizer],
) -> None:
    """Write aside, then rename: a crash or a full disk leaves no half folder under the name."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"'{folder}' is not empty; give a new folder.")
    version = {"_diffusers_version": WRITTEN_FOR}
    specs = {name: write_scheduler(scheduler) for name, scheduler in schedulers.items()}
    aside = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        write_json(aside / "model_index.json", {**version, **index})
        for name, config in configs.items():
            text = name.startswith("text_encoder")
            write_weights(weights[name], aside / name, clip_text.FORMAT if text else DIFFUSERS)
            write_json(aside / name / "config.json", config if text else {**version, **config})
        for name, spec in specs.items():
            (aside / name).mkdir()
            write_json(aside / name / "scheduler_config.json", {**version, **spec})
        for name, tokenizer in tokenizers.items():
            tokenizer.write(aside / name)
    except StorageError:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    os.replace(aside, folder)
