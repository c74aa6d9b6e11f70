"""OpenAI's CLIP weight files, opened as our network and tokenizer."""

from __future__ import annotations

import gzip
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from sfumato.compat.clip import ClipFolder, shaped
from sfumato.compat.part import Weights
from sfumato.compat.pth import SUFFIXES, read_pth
from sfumato.data.clip_bpe import FILES, ONE_FILE, ClipTokenizer
from sfumato.errors import DataError
from sfumato.nn.clip import ClipConfig
from sfumato.nn.clip_text import ClipTextConfig
from sfumato.nn.vit import VitConfig

CLASS_TOKEN, ATTENTION_POOL = "visual.class_embedding", "visual.attnpool.positional_embedding"
PUBLISHED = frozenset({CLASS_TOKEN, ATTENTION_POOL})
"""Tensors by which OpenAI's files are known: those of vision transformers, those of ResNets."""
OPENAI_HEAD = 64
"""Width of an attention head in all of OpenAI's models; their files do not say it."""
OPENAI_MERGES = 48_894
"""Lines of OpenAI's own vocabulary file that count, after the first."""
VOCABULARIES = ("bpe_simple_vocab_16e6.txt.gz", "bpe_simple_vocab_16e6.txt")
SETTINGS = ("input_resolution", "context_length", "vocab_size")
"""Numbers that OpenAI's files hold beside the weights."""


def read_openai(path: Path) -> ClipFolder:
    """A model of OpenAI's from its file (``ViT-B-32.pt``, TorchScript or state dict) or the folder around it.

    The tokenizer lies beside it: vocab.json with merges.txt, or OpenAI's bpe_simple_vocab_16e6.txt.gz. Files
    of OpenCLIP have the same names but another activation, which they do not tell: use their folders for
    transformers.
    """
    folder = path if path.is_dir() else path.parent
    files = sorted(f for f in path.glob("*") if f.suffix in SUFFIXES) if path.is_dir() else [path]
    if len(files) != 1:
        raise DataError(f"'{path}' holds {len(files)} weight files; name the one that is meant.")
    held = {n: t for n, t in read_pth(files[0]).items() if n not in SETTINGS}
    if ATTENTION_POOL in held:
        raise DataError(
            f"'{files[0]}' is a CLIP whose image tower is a ResNet; only vision transformers (ViT-B/32, "
            "ViT-B/16, ViT-L/14 ...) are understood."
        )
    config = _openai_config(held, files[0])
    tokenizer = _openai_tokenizer(folder, config.text.length)
    if len(tokenizer.vocabulary) != config.text.vocabulary:
        raise DataError(
            f"The tokenizer beside '{files[0]}' has {len(tokenizer.vocabulary)} tokens, the model "
            f"{config.text.vocabulary}; take both from the same model."
        )
    tensors = {ours: t for name, tensor in held.items() for ours, t in _openai_names(name, tensor)}
    return ClipFolder(replace(config, end=tokenizer.eos), tokenizer, Weights(shaped(tensors, (1,)), files[0]))


def _openai_config(held: Mapping[str, Tensor], file: Path) -> ClipConfig:
    def layers(prefix: str) -> int:
        return len({m[1] for m in (re.match(rf"{prefix}resblocks\.(\d+)\.", n) for n in held) if m})

    try:
        (width, channels, patch, _), places = (
            held["visual.conv1.weight"].shape,
            held["visual.positional_embedding"],
        )
        length, reading = held["positional_embedding"].shape
        vocabulary, dimension = len(held["token_embedding.weight"]), held["text_projection"].shape[1]
        hidden = (
            len(held["visual.transformer.resblocks.0.mlp.c_fc.bias"]),
            len(held["transformer.resblocks.0.mlp.c_fc.bias"]),
        )
    except (KeyError, ValueError) as error:
        raise DataError(
            f"'{file}' lacks {error} of a CLIP with a vision transformer; fetch it again."
        ) from error
    side = patch * round((len(places) - 1) ** 0.5)
    deep = layers(r"visual\.transformer\."), layers(r"transformer\.")
    return ClipConfig(
        VitConfig(channels, (side, side), patch, width, deep[0], max(1, width // OPENAI_HEAD), hidden[0]),
        ClipTextConfig(vocabulary, length, reading, deep[1], max(1, reading // OPENAI_HEAD), hidden[1]),
        dimension,
    )


OPENAI = (
    (r"^visual\.class_embedding$", "vision_model.embeddings.class_embedding"),
    (r"^visual\.positional_embedding$", "vision_model.embeddings.position_embedding.weight"),
    (r"^visual\.conv1\.", "vision_model.embeddings.patch_embedding."),
    (r"^visual\.ln_pre\.", "vision_model.pre_layrnorm."),
    (r"^visual\.ln_post\.", "vision_model.post_layernorm."),
    (r"^visual\.proj$", "visual_projection.weight"),
    (r"^visual\.transformer\.resblocks\.", "vision_model.encoder.layers."),
    (r"^transformer\.resblocks\.", "text.text_model.encoder.layers."),
    (r"^token_embedding\.", "text.text_model.embeddings.token_embedding."),
    (r"^positional_embedding$", "text.text_model.embeddings.position_embedding.weight"),
    (r"^ln_final\.", "text.text_model.final_layer_norm."),
    (r"^text_projection$", "text_projection.weight"),
    (r"\.attn\.", ".self_attn."),
    (r"\.ln_([12])\.", r".layer_norm\1."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
)


def _openai_names(name: str, tensor: Tensor) -> list[tuple[str, Tensor]]:
    """What a tensor of OpenAI's is called here; queries, keys and values are three tensors, and projections
    stand the other way round."""
    ours = name
    for theirs, mine in OPENAI:
        ours = re.sub(theirs, mine, ours)
    if joint := re.fullmatch(r"(.*\.self_attn)\.in_proj_(weight|bias)", ours):
        parts = tensor.chunk(3)
        return [(f"{joint[1]}.{k}_proj.{joint[2]}", t.clone()) for k, t in zip("qkv", parts, strict=True)]
    return [(ours, tensor.mT.contiguous() if ours.endswith("_projection.weight") else tensor)]


def _openai_tokenizer(folder: Path, length: int) -> ClipTokenizer:
    if (folder / ONE_FILE).is_file() or all((folder / name).is_file() for name in FILES[:2]):
        return ClipTokenizer.read(folder)
    for file in (folder / name for name in VOCABULARIES):
        if file.is_file():
            raw = file.read_bytes()
            text = gzip.decompress(raw) if file.suffix == ".gz" else raw
            return ClipTokenizer.of(text.decode("utf-8").split("\n")[1 : OPENAI_MERGES + 1], length)
    raise DataError(
        f"OpenAI's file does not hold its tokenizer; put vocab.json and merges.txt, or {VOCABULARIES[0]} "
        f"from the same source, into '{folder}'."
    )
