"""OpenAI's dVAE of DALL-E: two modules pickled whole, ``encoder.pkl`` and ``decoder.pkl``.

Weights and biases are called ``w`` and ``b`` there. The encoder's last convolution gives the logits, which is
our ``quant_conv``; the decoder's first, over numbers as one-hot vectors, is our book.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sfumato.compat.pth import read_pth
from sfumato.errors import DataError
from sfumato.nn.dvae import DVAEConfig

ENCODER, DECODER = "encoder.pkl", "decoder.pkl"
PUBLISHED = frozenset({"blocks.group_1.block_1.res_path.conv_1.w"})
"""A name that both files have, by which they are known."""
LOGITS, BOOK = "blocks.output.conv", "blocks.input"
_SUFFIX = {"w": "weight", "b": "bias"}
_BLOCK = re.compile(r"blocks\.group_(\d+)\.block_(\d+)\.")


@dataclass(frozen=True)
class DVAEFiles:
    """What both files hold: the shape, the number of codes, and the tensors under our names."""

    network: DVAEConfig
    codes: int
    tensors: Mapping[str, Tensor]


def read(path: Path) -> DVAEFiles:
    """Both files of a folder, or of the folder of one of them; ``DataError`` if one is missing or differs."""
    folder = path if path.is_dir() else path.parent
    for name in (ENCODER, DECODER):
        if not (folder / name).is_file():
            raise DataError(f"'{folder}' has no '{name}'; DALL-E's dVAE is both '{ENCODER}' and '{DECODER}'.")
    encoder, decoder = (read_pth(folder / name) for name in (ENCODER, DECODER))
    for name, tensors in ((ENCODER, encoder), (DECODER, decoder)):
        if missing := {f"{LOGITS}.w", f"{BOOK}.w", f"{LOGITS}.b", f"{BOOK}.b"} - tensors.keys():
            raise DataError(f"'{folder / name}' is no part of DALL-E's dVAE: it has no '{min(missing)}'.")
    logits, book = encoder[f"{LOGITS}.w"], decoder[f"{BOOK}.w"]
    if len(logits) != book.shape[1]:
        raise DataError(
            f"The files in '{folder}' are of two models: the encoder knows {len(logits)} codes, the decoder "
            f"{book.shape[1]}; take both from the same model."
        )
    places = [match.groups() for name in encoder if (match := _BLOCK.match(name))]
    network = DVAEConfig(
        channels=encoder[f"{BOOK}.w"].shape[1],
        latent_channels=len(book),
        width=len(encoder[f"{BOOK}.w"]),
        levels=max((int(group) for group, _ in places), default=0),
        blocks=max((int(block) for _, block in places), default=0),
    )
    return DVAEFiles(network, len(logits), renamed(encoder, decoder))


def renamed(encoder: Mapping[str, Tensor], decoder: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All tensors under our names, in fp32."""
    book = decoder[f"{BOOK}.w"].float()[:, :, 0, 0].T + decoder[f"{BOOK}.b"].float()
    ours = {
        "soft.weight": book.contiguous(),
        "post_quant_conv.weight": torch.eye(book.shape[1])[:, :, None, None],
        "post_quant_conv.bias": torch.zeros(book.shape[1]),
    }
    for name, tensor in encoder.items():
        head, _, last = name.rpartition(".")
        where = "quant_conv" if head == LOGITS else f"encoder.{head}"
        ours[f"{where}.{_SUFFIX.get(last, last)}"] = tensor.float()
    for name, tensor in decoder.items():
        head, _, last = name.rpartition(".")
        if head != BOOK:
            ours[f"decoder.{head}.{_SUFFIX.get(last, last)}"] = tensor.float()
    return ours
