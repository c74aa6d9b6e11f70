"""Single files of Stable Diffusion in the layout of the code it was trained with, and diffusers' names.

CompVis' and Stability's training code keeps U-Net, autoencoder and text towers in one file, under names of
its own. One table a network says which tensors there are which here; it is read in both directions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from sfumato.nn.autoencoder import Autoencoder, AutoencoderConfig
from sfumato.nn.clip_text import ClipText, ClipTextConfig
from sfumato.nn.unet import UNet, UNetConfig


@dataclass(frozen=True)
class Entry:
    """A tensor of theirs and what it is here."""

    theirs: str
    ours: tuple[str, ...]
    """Several where theirs stacks them."""
    form: Literal["same", "turned", "kernel"] = "same"
    """Turned: theirs is the transpose. Kernel: theirs is that of a 1 x 1 convolution."""

    def split(self, tensor: Tensor) -> dict[str, Tensor]:
        """Ours from theirs."""
        if self.form == "turned":
            tensor = tensor.T.contiguous()
        if self.form == "kernel":
            tensor = tensor.flatten(1)
        return dict(zip(self.ours, tensor.chunk(len(self.ours)), strict=True))

    def join(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Theirs from ours."""
        parts = [tensors[name] for name in self.ours]
        tensor = parts[0] if len(parts) == 1 else torch.cat(parts)
        if self.form == "turned":
            return tensor.T.contiguous()
        return tensor[:, :, None, None] if self.form == "kernel" else tensor


Table = tuple[Entry, ...]


def ours(
    table: Table, given: Mapping[str, Tensor], prefix: str, ignore: Sequence[str] = ()
) -> dict[str, Tensor]:
    """The tensors under ``prefix`` by our names; those that the table does not know keep theirs."""
    entries = {entry.theirs: entry for entry in table}
    found: dict[str, Tensor] = {}
    for name, tensor in given.items():
        theirs = name.removeprefix(prefix)
        if not name.startswith(prefix) or any(re.fullmatch(pattern, theirs) for pattern in ignore):
            continue
        found |= entries[theirs].split(tensor) if theirs in entries else {theirs: tensor}
    return found


def theirs(table: Table, tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The same tensors as their file holds them."""
    return {prefix + entry.theirs: entry.join(tensors) for entry in table}


# --- the U-Net ---------------------------------------------------------------------------------------

UNET_ENDS = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "class_embedding": "label_emb",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
UNET_BLOCK = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
"""Inside a residual block; transformers are called the same inside."""


def unet_table(config: UNetConfig) -> Table:
    """Of a U-Net; ``model.diffusion_model.`` stands before all its names."""
    return _table(lambda: UNet(config), UNET_ENDS | dict(_unet_places(config)), UNET_BLOCK)


def _unet_places(config: UNetConfig) -> Iterator[tuple[str, str]]:
    """Blocks by level and number, and the one number that theirs have."""
    number, last = 1, len(config.levels) - 1
    for i, level in enumerate(config.levels):
        for j in range(level.blocks):
            yield f"down_blocks.{i}.resnets.{j}", f"input_blocks.{number}.0"
            yield f"down_blocks.{i}.attentions.{j}", f"input_blocks.{number}.1"
            number += 1
        if i < last:
            yield f"down_blocks.{i}.downsamplers.0.conv", f"input_blocks.{number}.0.op"
            number += 1
    number = 0
    for i, level in enumerate(reversed(config.levels)):
        for j in range(level.blocks + 1):
            yield f"up_blocks.{i}.resnets.{j}", f"output_blocks.{number}.0"
            yield f"up_blocks.{i}.attentions.{j}", f"output_blocks.{number}.1"
            number += 1
        if i < last:
            place = 1 + level.attend
            yield f"up_blocks.{i}.upsamplers.0.conv", f"output_blocks.{number - 1}.{place}.conv"


# --- the autoencoder ---------------------------------------------------------------------------------

VAE_BLOCK = {
    "conv_shortcut": "nin_shortcut",
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}


def vae_table(config: AutoencoderConfig) -> Table:
    """Of an autoencoder; ``first_stage_model.`` stands before all its names."""
    return _table(
        lambda: Autoencoder(config), dict(_vae_places(config)), VAE_BLOCK, kernel=r".*\.to_\w.*weight"
    )


def _vae_places(config: AutoencoderConfig) -> Iterator[tuple[str, str]]:
    for half in ("encoder", "decoder"):
        yield f"{half}.conv_norm_out", f"{half}.norm_out"
        yield f"{half}.mid_block.resnets.0", f"{half}.mid.block_1"
        yield f"{half}.mid_block.attentions.0", f"{half}.mid.attn_1"
        yield f"{half}.mid_block.resnets.1", f"{half}.mid.block_2"
    levels = len(config.widths)
    for i in range(levels):
        for j in range(config.blocks + 1):
            yield f"encoder.down_blocks.{i}.resnets.{j}", f"encoder.down.{i}.block.{j}"
            yield f"decoder.up_blocks.{i}.resnets.{j}", f"decoder.up.{levels - 1 - i}.block.{j}"
        yield f"encoder.down_blocks.{i}.downsamplers.0.conv", f"encoder.down.{i}.downsample.conv"
        yield f"decoder.up_blocks.{i}.upsamplers.0.conv", f"decoder.up.{levels - 1 - i}.upsample.conv"


# --- the text towers ---------------------------------------------------------------------------------

OPEN_CLIP = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
"""Inside a layer; queries, keys and values are stacked in ``attn.in_proj_*``."""
OPEN_CLIP_UNUSED = (r"logit_scale", r"attn_mask")
CLIP_UNUSED = (r"text_model\.embeddings\.position_ids",)


def clip_table(config: ClipTextConfig) -> Table:
    """Of a text tower as transformers calls its parts, and we do."""
    return _table(lambda: ClipText(config), {}, {})


def open_clip_table(config: ClipTextConfig) -> Table:
    """Of a text tower as OpenCLIP calls its parts."""
    return tuple(_open_clip(config))


def _open_clip(config: ClipTextConfig) -> Iterator[Entry]:
    yield Entry("token_embedding.weight", ("text_model.embeddings.token_embedding.weight",))
    yield Entry("positional_embedding", ("text_model.embeddings.position_embedding.weight",))
    for i in range(config.layers):
        here, there = f"text_model.encoder.layers.{i}", f"transformer.resblocks.{i}"
        for leaf in ("weight", "bias"):
            stacked = tuple(f"{here}.self_attn.{part}_proj.{leaf}" for part in "qkv")
            yield Entry(f"{there}.attn.in_proj_{leaf}", stacked)
            for mine, other in OPEN_CLIP.items():
                yield Entry(f"{there}.{other}.{leaf}", (f"{here}.{mine}.{leaf}",))
    for leaf in ("weight", "bias"):
        yield Entry(f"ln_final.{leaf}", (f"text_model.final_layer_norm.{leaf}",))
    if config.projection:
        yield Entry("text_projection", ("text_projection.weight",), "turned")


# --- how tables are made -----------------------------------------------------------------------------


def _table(
    build: Callable[[], nn.Module], places: Mapping[str, str], inside: Mapping[str, str], kernel: str = "(?!)"
) -> Table:
    """One entry for every tensor of a network."""
    with torch.device("meta"):
        names = list(build().state_dict())
    return tuple(
        Entry(_named(name, places, inside), (name,), "kernel" if re.fullmatch(kernel, name) else "same")
        for name in names
    )


def _named(name: str, places: Mapping[str, str], inside: Mapping[str, str]) -> str:
    """Their name: that of the place, that of the part inside, and weight or bias."""
    module, _, leaf = name.rpartition(".")
    place, rest = module, ""
    while place and place not in places:
        place, _, last = place.rpartition(".")
        rest = f"{last}.{rest}" if rest else last
    if not place:
        return name
    return ".".join(part for part in (places[place], inside.get(rest, rest), leaf) if part)
