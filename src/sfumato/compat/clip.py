"""CLIP in transformers' words: ``CLIPModel`` folders, read and written without transformers."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from sfumato.compat import clip_text
from sfumato.compat.part import Format, Keys, Rename, Weights, among, read_json, read_weights, write_weights
from sfumato.core.durable import write_json
from sfumato.data.clip_bpe import ClipTokenizer
from sfumato.errors import DataError, StorageError, UsageError
from sfumato.nn.clip import MEAN, STD, ClipConfig
from sfumato.nn.vit import VitConfig

CLASS = "CLIPModel"
FORMAT = Format(
    "model",
    (Rename(r"^text_model\.", "text.text_model."),),
    (r"text\.text_model\.embeddings\.position_ids", r"vision_model\.embeddings\.position_ids"),
)
PREPARATION = "preprocessor_config.json"
BICUBIC = 3
VISION = Keys(
    read={
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "num_channels": 3,
        "image_size": 224,
        "patch_size": 32,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
    },
    meant={"model_type": ("clip_vision_model",)},
    strict=False,
)
UNKNOWN_END = 2
"""What old files give as the end of a text; transformers then looks for the largest number, the true end."""


@dataclass(frozen=True)
class ClipFolder:
    """A network with its tokenizer, from whichever format."""

    config: ClipConfig
    tokenizer: ClipTokenizer
    weights: Weights

    @classmethod
    def read(cls, folder: Path) -> ClipFolder:
        """A folder as transformers saves a ``CLIPModel`` and its processor; a ``DataError`` for what is not
        understood."""
        where, said = str(folder / "config.json"), read_json(folder / "config.json")
        parts = {name: _part(said, name, where) for name in ("text_config", "vision_config")}
        tokenizer = ClipTokenizer.read(folder)
        text = clip_text.read_clip_text(parts["text_config"], where)
        if tokenizer.length > text.length or len(tokenizer.vocabulary) > text.vocabulary:
            raise DataError(
                f"In '{folder}' the tokenizer has {len(tokenizer.vocabulary)} tokens and texts of "
                f"{tokenizer.length}, but the text tower knows {text.vocabulary} and reads {text.length}; "
                "take both from the same model."
            )
        ends = parts["text_config"].get("eos_token_id", tokenizer.eos)
        if ends not in (UNKNOWN_END, tokenizer.eos):
            raise DataError(
                f"In '{folder}' texts end with token {tokenizer.eos}, but config.json says {ends}; "
                "take both from the same model."
            )
        vision = _read_vision(parts["vision_config"], where)
        mean, std = _read_preparation(folder, vision.size)
        config = ClipConfig(vision, text, int(said.get("projection_dim", 512)), tokenizer.eos, mean, std)
        weights = read_weights(folder, FORMAT)
        return cls(config, tokenizer, replace(weights, tensors=shaped(weights.tensors, (1,))))

    def write(self, folder: Path) -> None:
        """A new folder that transformers opens; all of it, or nothing."""
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(f"'{folder}' is not empty; give a new folder.")
        aside = folder.with_name(folder.name + ".tmp")
        shutil.rmtree(aside, ignore_errors=True)
        configs = self._configs()
        aside.mkdir(parents=True)
        try:
            for name, config in configs.items():
                write_json(aside / name, config)
            tensors = shaped(self.weights.tensors, ())
            theirs = {
                name.removeprefix("text.") if name.startswith("text.") else name: t
                for name, t in tensors.items()
            }
            write_weights(Weights(theirs), aside, FORMAT)
            self.tokenizer.write(aside)
        except StorageError:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        os.replace(aside, folder)

    def _configs(self) -> dict[str, dict[str, Any]]:
        c, t = self.config, self.tokenizer
        height, width = c.vision.size
        if height != width:
            raise UsageError(
                f"A {CLASS} looks at squares, this network at pictures of {height} x {width} pixels; "
                "it cannot be written."
            )
        ids = {"bos_token_id": t.bos, "eos_token_id": t.eos, "pad_token_id": t.pad}
        shared = {"projection_dim": c.dimension}
        text = {k: v for k, v in clip_text.write_clip_text(c.text).items() if k != "architectures"}
        side = {"height": height, "width": width}
        return {
            "config.json": {
                "architectures": [CLASS],
                "model_type": "clip",
                "projection_dim": c.dimension,
                "text_config": text | ids | shared,
                "vision_config": _write_vision(c.vision) | shared,
            },
            PREPARATION: {
                "image_processor_type": "CLIPImageProcessor",
                "do_resize": True,
                "size": {"shortest_edge": height},
                "resample": BICUBIC,
                "do_center_crop": True,
                "crop_size": side,
                "do_rescale": True,
                "rescale_factor": 1 / 255,
                "do_normalize": True,
                "image_mean": list(c.mean),
                "image_std": list(c.std),
                "do_convert_rgb": c.vision.channels == 3,
            },
        }


def _part(said: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    """One tower's settings; old files repeat some under another name, and those count."""
    found = said.get(name) or {}
    more = said.get(f"{name}_dict") or {}
    if not isinstance(found, dict) or not isinstance(more, dict):
        raise DataError(f"'{where}' must hold an object under '{name}'; fetch it again.")
    return found | more


def _read_vision(config: Mapping[str, Any], where: str) -> VitConfig:
    said = VISION.of(config, where)
    return VitConfig(
        channels=said["num_channels"],
        size=(said["image_size"],) * 2,
        patch=said["patch_size"],
        **clip_text.read_tower(said, where),
    )


def _write_vision(config: VitConfig) -> dict[str, Any]:
    if config.stem:
        raise UsageError(
            "Transformers' CLIP cuts squares out of pixels and has no stem of convolutions, so this model "
            "cannot be written for it; train one with an empty network.vision.stem."
        )
    return {
        "model_type": "clip_vision_model",
        "num_channels": config.channels,
        "image_size": config.size[0],
        "patch_size": config.patch,
        **clip_text.write_tower(config),
    }


def _read_preparation(folder: Path, size: tuple[int, int]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation; a ``DataError`` if pictures are prepared otherwise than CLIP does."""
    path = folder / PREPARATION
    if not path.is_file():
        return MEAN, STD
    said = read_json(path)
    side = size[0]
    understood: dict[str, tuple[Any, ...]] = {
        "size": (None, side, {"shortest_edge": side}, {"height": side, "width": side}),
        "crop_size": (None, side, {"height": side, "width": side}),
        "resample": (None, BICUBIC),
        **{f"do_{what}": (None, True) for what in ("resize", "center_crop", "rescale", "normalize")},
    }
    for key, allowed in understood.items():
        among(str(path), {key: said.get(key)}, key, allowed)
    return tuple(said.get("image_mean", MEAN)), tuple(said.get("image_std", STD))


def shaped(tensors: Mapping[str, Tensor], shape: tuple[int, ...]) -> dict[str, Tensor]:
    """The scale is one number in their files and a vector of one here, which can be shared out."""
    return {n: t.reshape(shape) if n == "logit_scale" and t.numel() == 1 else t for n, t in tensors.items()}
