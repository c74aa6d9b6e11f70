"""CLIP's text tower in transformers' words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sfumato.compat.part import Format, Keys, Rename, among
from sfumato.errors import UsageError
from sfumato.nn.clip_text import ClipTextConfig
from sfumato.nn.vit import VitConfig

FORMAT = Format(
    "model",
    (Rename(r"^(?!text_model\.|text_projection\.)", "text_model."),),
    (r"text_model\.embeddings\.position_ids",),
)
"""Published files have the prefix, those of transformers 5 have none."""

PROJECTED = "CLIPTextModelWithProjection"
KEYS = Keys(
    read={
        "vocab_size": 49408,
        "max_position_embeddings": 77,
        "hidden_size": 512,
        "num_hidden_layers": 12,
        "num_attention_heads": 8,
        "intermediate_size": 2048,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
        "projection_dim": 512,
    },
    meant={"model_type": ("clip_text_model",), "use_attention_mask": (None, False)},
    strict=False,
)


def read_tower(said: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What towers of texts and of pictures have in common."""
    among(where, said, "hidden_act", ("quick_gelu", "gelu"))
    return {
        "width": said["hidden_size"],
        "layers": said["num_hidden_layers"],
        "heads": said["num_attention_heads"],
        "hidden": said["intermediate_size"],
        "activation": said["hidden_act"],
        "eps": said["layer_norm_eps"],
    }


def write_tower(config: ClipTextConfig | VitConfig) -> dict[str, Any]:
    """The same in transformers' words."""
    return {
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.hidden,
        "hidden_act": config.activation,
        "layer_norm_eps": config.eps,
    }


def read_clip_text(config: Mapping[str, Any], where: str, *, projected: bool = False) -> ClipTextConfig:
    """The shape of a ``CLIPTextModel``, or if ``projected`` of a ``CLIPTextModelWithProjection``."""
    said = KEYS.of(config, where)
    return ClipTextConfig(
        vocabulary=said["vocab_size"],
        length=said["max_position_embeddings"],
        **read_tower(said, where),
        projection=said["projection_dim"] if projected else 0,
    )


def write_clip_text(config: ClipTextConfig) -> dict[str, Any]:
    """``config.json`` of a ``CLIPTextModel``, or of a ``CLIPTextModelWithProjection``."""
    if config.skip:
        raise UsageError(
            f"A CLIPTextModel passes over no layers, this tower over {config.skip}; it cannot be written."
        )
    return {
        "architectures": [PROJECTED if config.projection else "CLIPTextModel"],
        "model_type": "clip_text_model",
        "vocab_size": config.vocabulary,
        "max_position_embeddings": config.length,
        **write_tower(config),
        "projection_dim": config.projection or 512,
        "eos_token_id": config.end,
    }
