"""Textual inversion: files that hold a new word as one or several vectors of a text tower.

Gal et al.: An Image is Worth One Word, arXiv 2208.01618.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from sfumato.compat.pth import read_pth
from sfumato.errors import DataError

NAMELESS = ("emb_params", "string_to_param/*")
"""What a tensor is called in files that are named after their word."""
TOWERS = {"clip_l": "text_encoder", "clip_g": "text_encoder_2"}
"""What SDXL's files call the towers."""


@dataclass(frozen=True)
class Word:
    """A word and its vectors, by the tower that reads them; the empty name is any that has their width."""

    text: str
    vectors: dict[str, Float[Tensor, "n d"]]


def read_embedding(path: Path, text: str = "") -> Word:
    """The word in a file; ``text`` is what to call it, by default what the file says, or its own name."""
    tensors = read_pth(path)
    if tensors.keys() <= TOWERS.keys():
        return Word(text or path.stem, {TOWERS[name]: _rows(t, path) for name, t in tensors.items()})
    if len(tensors) != 1:
        raise DataError(
            f"'{path}' holds {len(tensors)} tensors, where a word has one, or one a text tower (clip_l, "
            "clip_g); give a file of textual inversion."
        )
    [(name, tensor)] = tensors.items()
    own = path.stem if name in NAMELESS else name
    return Word(text or own, {"": _rows(tensor, path)})


def _rows(tensor: Tensor, path: Path) -> Tensor:
    if tensor.ndim not in (1, 2):
        raise DataError(f"'{path}' holds a tensor of {tensor.ndim} dimensions, which is no word.")
    return tensor.view(-1, tensor.shape[-1])
