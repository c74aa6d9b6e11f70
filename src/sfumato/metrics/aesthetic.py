"""Linear heads on CLIP's embeddings: how much a picture is liked, or how likely it is unsafe.

LAION-Aesthetics (a companion of LAION-5B, Schuhmann et al. 2022, arXiv 2210.08402) scores pictures by one
linear layer on the unit embeddings of CLIP ViT-L/14. Its public files are read as they are; from a few
scores of one's own, ridge regression makes a head for any CLIP.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sfumato.compat.pth import read_pth
from sfumato.errors import DataError, UsageError

RIDGES = tuple(10.0**k for k in range(-6, 4))
"""Strengths of the penalty that are tried, by the mean square of the embeddings."""
FEWEST = 8
"""Scores below which no head is fitted."""
_LAYER = re.compile(r"(?:.*\.)?(?:(\d+)\.)?weight")


@dataclass(frozen=True)
class Head:
    """score = weight . embedding + bias."""

    weight: Float[Tensor, " d"]
    bias: float

    def __call__(self, embeddings: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Scores of unit embeddings, in double precision so that their order does not depend on the batch."""
        if embeddings.shape[1] != len(self.weight):
            raise DataError(
                f"The head reads embeddings of {len(self.weight)} numbers, this CLIP gives "
                f"{embeddings.shape[1]}; give the CLIP that it was fitted to."
            )
        return embeddings.double() @ self.weight.double() + self.bias

    def tensors(self) -> dict[str, Tensor]:
        """As ``torch.nn.Linear(d, 1)`` names them, which ``read_head`` reads."""
        return {"weight": self.weight[None].float().contiguous(), "bias": torch.tensor([self.bias])}


def read_head(path: Path) -> Head:
    """A head from .safetensors or PyTorch's .pth: one linear layer, or several in a row, multiplied out.

    LAION's first predictor is one layer (``sa_0_4_vit_l_14_linear.pth``), its second five with nothing but
    dropout between them (``...linearMSE.pth``), which are one layer too. The variant with ReLUs has the same
    names and cannot be told by its content; files with "relu" in their name are refused.
    """
    if "relu" in path.name.lower():
        raise DataError(
            f"'{path}' has ReLUs between its layers, so it is no linear head; give a linearMSE file."
        )
    tensors = _read(path)
    weights = sorted((int(m[1] or 0), name) for name in tensors if (m := _LAYER.fullmatch(name)))
    total: Tensor | None = None
    offset = torch.zeros(1, dtype=torch.float64)
    for _, name in weights:
        layer = tensors[name].double()
        bias = tensors.get(name.removesuffix("weight") + "bias", torch.zeros(len(layer))).double()
        if layer.dim() != 2 or (total is not None and layer.shape[1] != len(total)):
            raise _no_head(path, tensors)
        offset = bias if total is None else layer @ offset + bias
        total = layer if total is None else layer @ total
    if total is None or len(total) != 1:
        raise _no_head(path, tensors)
    return Head(total[0], float(offset[0]))


def _read(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise DataError(f"There is no head '{path}'; give a .safetensors or .pth file.")
    if path.suffix != ".safetensors":
        return read_pth(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise DataError(f"'{path}' is no safetensors file ({error}); give another.") from error


def _no_head(path: Path, tensors: Mapping[str, Tensor]) -> DataError:
    shapes = ", ".join(f"{name} {tuple(t.shape)}" for name, t in list(tensors.items())[:4])
    return DataError(f"'{path}' is no linear head onto one number (it holds {shapes}); give another file.")


@dataclass(frozen=True)
class Fit:
    """A head and how well it foretells scores it was not fitted to."""

    head: Head
    ridge: float
    spearman: float
    """Rank correlation of each score with what a head fitted to all others says."""
    n: int


def fit_head(embeddings: Float[Tensor, "n d"], scores: Sequence[float]) -> Fit:
    """Ridge regression: the penalty is the one with the least error when each score in turn is left out.

    Leaving out costs nothing: the error of row i is e_i / (1 - H_ii) with the hat matrix H (Allen 1974).
    Raises ``UsageError`` for fewer than 8 scores or scores that are all the same.
    """
    y = torch.tensor(list(scores), dtype=torch.float64)
    if len(y) < FEWEST or len(y) != len(embeddings) or bool((y == y[0]).all()):
        raise UsageError(
            f"A head needs at least {FEWEST} scores that differ, one a picture; got {len(y)} for "
            f"{len(embeddings)} pictures."
        )
    x = embeddings.double()
    mean, centre = x.mean(0), y.mean()
    u, s, v = torch.linalg.svd(x - mean, full_matrices=False)
    power = s.square().mean()
    best: tuple[float, Tensor, Tensor, float] | None = None
    for ridge in RIDGES:
        shrink = s.square() / (s.square() + ridge * power)
        fitted = u @ (shrink * (u.mT @ (y - centre)))
        leverage = (u.square() @ shrink) + 1 / len(y)
        left_out = (y - centre - fitted) / (1 - leverage).clamp_min(1e-9)
        error = float(left_out.square().mean())
        if best is None or error < best[0]:
            slope = v.mT @ ((shrink / s.clamp_min(1e-12)) * (u.mT @ (y - centre)))
            best = (error, slope, y - left_out, ridge)
    assert best is not None
    _, weight, foretold, ridge = best
    head = Head(weight, float(centre - mean @ weight))
    return Fit(head, ridge, spearman(foretold, y), len(y))


def spearman(a: Float[Tensor, " n"], b: Float[Tensor, " n"]) -> float:
    """Rank correlation; equal values share the mean of their ranks.

    >>> spearman(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([10.0, 30.0, 20.0]))
    0.5
    """
    ranks = torch.stack([_ranks(a), _ranks(b)])
    return round(float(torch.corrcoef(ranks)[0, 1]), 12)


def _ranks(values: Tensor) -> Tensor:
    _, inverse, counts = torch.unique(values, return_inverse=True, return_counts=True)
    return (counts.cumsum(0) - (counts - 1) / 2).double()[inverse]
