"""A system tried on examples of its data: what it is given, what it makes of them, what should have come."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import interpolate

from sfumato.core.request import Edit, Letters, Reconstruct, Request, Stylize, Translate, Upscale
from sfumato.core.system import System
from sfumato.data.dataset import Dataset, Facts

SMALLER = 4
"""How many times smaller examples become for systems that enlarge."""


@dataclass(frozen=True)
class Trial:
    """Examples as a request."""

    request: Request
    given: Float[Tensor, "n c h w"]
    wanted: Float[Tensor, "n k i j"] | None
    """What should come; None where data has no answer, because its pictures are no pairs."""
    simple: Float[Tensor, "n k i j"] | None = None
    """What comes without learning anything, of the same size as ``wanted``."""


def trial(system: System[Any], batch: Mapping[str, Any], seed: int) -> Trial | None:
    """The request that examples make of a system which answers pictures with pictures; else None.

    Systems that make new pictures too, as a VAE does, are judged by those and by how near this comes.
    """
    if Reconstruct in system.tasks:
        x = batch["image"]
        return Trial(Reconstruct(images=x, count=len(x), seed=seed), x, x)
    if Translate in system.tasks:
        paired = "source" in batch
        x = batch["source" if paired else "a"]
        wanted = batch["image"] if paired else None
        return Trial(Translate(images=x, count=len(x), seed=seed), x, wanted, x if paired else None)
    if Stylize in system.tasks:
        x = batch["a"] if "a" in batch else batch["image"]
        styles = tuple(batch["b"][:1]) if "style" in system.hears else ()
        return Trial(Stylize(images=x, styles=styles, count=len(x), seed=seed), x, None)
    if Letters in system.tasks:
        x, fonts = batch["source"], tuple(batch["label"].tolist())
        return Trial(Letters(images=x, font=fonts, count=len(x), seed=seed), x, batch["image"], x)
    if Upscale in system.tasks:
        return _enlarging(batch["image"], seed)
    if system.tasks == (Edit,):
        return _holed(batch["image"], seed)
    return None


def _enlarging(x: Tensor, seed: int) -> Trial:
    """Made smaller by the antialiased bicubic filter, to whole grey levels, as files have them."""
    x = x[:, :, : x.shape[2] // SMALLER * SMALLER, : x.shape[3] // SMALLER * SMALLER]
    size = (x.shape[2] // SMALLER, x.shape[3] // SMALLER)
    small = interpolate(x.float(), size, mode="bicubic", antialias=True)
    small = ((small.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1
    plain = interpolate(small, x.shape[2:], mode="bicubic", antialias=True).clamp(-1, 1)
    return Trial(Upscale(images=small, count=len(x), seed=seed), small, x, plain)


def _holed(x: Tensor, seed: int) -> Trial:
    """With a hole in the middle, of half the height and width, and not a word of what was there."""
    height, width = x.shape[2:]
    mask = torch.zeros_like(x[:, :1])
    mask[:, :, height // 4 : height - height // 4, width // 4 : width - width // 4] = 1
    grey = x * (1 - mask)
    return Trial(Edit(prompt="", images=x, mask=mask, count=len(x), seed=seed), grey, x, grey)


def side_by_side(trial: Trial, answer: Float[Tensor, "n k i j"]) -> Float[Tensor, "m k i j"]:
    """For each example what was given, what came, and what should have come if that is something else."""
    given = interpolate(trial.given.float(), answer.shape[2:], mode="nearest")
    columns = [given.expand_as(answer), answer.float().cpu()]
    if trial.wanted is not None and trial.wanted is not trial.given and trial.wanted.shape == answer.shape:
        columns.append(trial.wanted)
    return torch.stack(columns, dim=1).flatten(0, 1)


@dataclass(frozen=True)
class Targets:
    """A dataset of what a system should make: of two domains, the pictures of the second."""

    whole: Dataset

    @property
    def facts(self) -> Facts:
        return dataclasses.replace(self.whole.facts, fields=frozenset({"image"}))

    def __len__(self) -> int:
        return len(self.whole)

    def batch(self, indices: Int[Tensor, " b"]) -> Mapping[str, Any]:
        return {"image": self.whole.batch(indices)["b"]}
