"""Where latent diffusion starts: with noise, a picture under noise, a masked or a small picture, a map."""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import interpolate, one_hot

from sfumato.core.generate import Generate
from sfumato.core.process import Process
from sfumato.core.request import Edit, Translate, Upscale, Vary
from sfumato.core.rng import Rng
from sfumato.errors import UsageError

Encode = Callable[[Tensor, Rng], Tensor]
"""Pictures to latents, drawn from what the first stage is unsure of."""
NOISE = 20
"""How much noise an upscaler takes a picture for, as a time of the process it was trained with."""


class Start(NamedTuple):
    """What a walk begins with, and what the network is told besides words."""

    z: Float[Tensor, "b z i j"]
    spatial: Float[Tensor, "b k i j"] | None = None
    vector: Float[Tensor, "b d"] | None = None


@dataclass(frozen=True)
class Latents:
    """What a start needs of a system."""

    encode: Encode
    prior: Callable[[Rng], Tensor]
    """Nothing but noise, as the walk wants it."""
    process: Process

    def under_noise(self, images: Tensor, times: Tensor, rng: Rng) -> Tensor:
        """Pictures with as much noise over them as there is at the first of ``times`` (Meng et al. 2022,
        SDEdit)."""
        z0 = self.encode(images, rng)
        return self.process.noise(z0, times[:1].expand(len(z0)), rng)


@dataclass(frozen=True)
class Given(abc.ABC):
    """Pictures of a request, one for each of those to be made; or none, from which new ones are made."""

    images: Float[Tensor, "b c h w"]
    strength: float = 1.0
    """The share of the steps that is walked."""

    def times(self, times: Float[Tensor, " s"]) -> Float[Tensor, " r"]:
        """The end of a walk, as far as ``strength`` says; at least one step."""
        steps = len(times) - 1
        return times[steps - max(1, min(int(steps * self.strength), steps)) :]

    @abc.abstractmethod
    def start(self, latents: Latents, times: Float[Tensor, " s"], rng: Rng) -> Start:
        """Where a walk over these times begins."""

    def finished(self, made: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c i j"]:
        """The answer, agreeing with what was given."""
        return made


@dataclass(frozen=True)
class Nothing(Given):
    """Noise alone."""

    def start(self, latents: Latents, times: Float[Tensor, " s"], rng: Rng) -> Start:
        return Start(latents.prior(rng))


@dataclass(frozen=True)
class Varied(Given):
    """A picture under noise."""

    def start(self, latents: Latents, times: Float[Tensor, " s"], rng: Rng) -> Start:
        return Start(latents.under_noise(self.images, times, rng))


@dataclass(frozen=True, kw_only=True)
class Masked(Given):
    """Noise, or the picture under noise; beside it the mask, 1 where we may paint, and the latents of the
    picture without what is inside (Stable Diffusion's inpainting models)."""

    mask: Float[Tensor, "b 1 h w"]
    keep: bool
    """Whether to put back what is outside."""

    def start(self, latents: Latents, times: Float[Tensor, " s"], rng: Rng) -> Start:
        part = self.strength < 1
        z = latents.under_noise(self.images, times, rng) if part else latents.prior(rng)
        return Start(z, outside(self.images, self.mask, latents.encode, rng))

    def finished(self, made: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c i j"]:
        mask = self.mask.to(made)
        return mask * made + (1 - mask) * self.images.to(made) if self.keep else made


@dataclass(frozen=True, kw_only=True)
class Small(Given):
    """Noise; beside it the small picture under noise of its own, of which the network is told how much."""

    noise: int
    augmentation: Process
    classes: int
    """Amounts of noise there are; 0 means that the picture is clean."""

    def start(self, latents: Latents, times: Float[Tensor, " s"], rng: Rng) -> Start:
        noise = torch.full((len(self.images),), self.noise) if self.classes else None
        spatial, vector = noised(self.images, noise, self.augmentation, self.classes, rng)
        return Start(latents.prior(rng), spatial, vector)


@dataclass(frozen=True, kw_only=True)
class Mapped(Given):
    """Noise; beside it the shares of labels in a map."""

    shares: Callable[[Tensor], Tensor]

    def start(self, latents: Latents, times: Float[Tensor, " s"], rng: Rng) -> Start:
        return Start(latents.prior(rng), self.shares(self.images))


def outside(
    images: Float[Tensor, "b c h w"], mask: Float[Tensor, "b 1 h w"], encode: Encode, rng: Rng
) -> Float[Tensor, "b k i j"]:
    """The mask, and the latents of pictures that are grey inside of it."""
    known = encode(images * (1 - mask.to(images)), rng)
    return torch.cat([interpolate(mask, known.shape[2:]).to(known), known], 1)


def noised(
    small: Float[Tensor, "b c i j"],
    noise: Int[Tensor, " b"] | None,
    augmentation: Process,
    classes: int,
    rng: Rng,
) -> tuple[Float[Tensor, "b c i j"], Float[Tensor, "b k"] | None]:
    """Small pictures with as much noise over them as is named, and what the network is told of it."""
    if noise is None:
        return small, None
    spatial = augmentation.noise(small, (noise + 1).double() / classes, rng)
    return spatial, one_hot(noise, classes).to(spatial)


def nothing(rows: range) -> Given:
    """New pictures."""
    return Nothing(torch.empty(len(rows), 0, 0, 0))


def varied(request: Vary, rows: range) -> Given:
    """Pictures ``rows`` of a request, from those given in turn."""
    return Varied(_turn(request.images, rows), _share(request.strength))


def masked(request: Edit, rows: range) -> Given:
    """The same with a mask."""
    if request.images is None or request.mask is None:
        raise UsageError("This model paints inside a mask of a given picture; give both.")
    if request.mask.shape[-2:] != request.images.shape[-2:]:
        raise UsageError(
            f"The mask has {_size(request.mask)} pixels and the picture {_size(request.images)}; "
            "give a mask of the picture's size."
        )
    mask = (_turn(request.mask, rows) >= 0.5).float()
    return Masked(_turn(request.images, rows), _share(request.strength), mask=mask, keep=request.keep)


def small(request: Upscale, rows: range, augmentation: Process, classes: int) -> Given:
    """The same for pictures to be enlarged."""
    if not classes and request.noise is not None:
        raise UsageError("This model takes pictures as they are and knows no noise; leave it out.")
    noise = (NOISE if classes else 0) if request.noise is None else request.noise
    if classes and not 0 <= noise < classes:
        raise UsageError(f"noise must be from 0 to {classes - 1}, got {noise}.")
    return Small(_turn(request.images, rows), noise=noise, augmentation=augmentation, classes=classes)


def mapped(request: Translate, rows: range, shares: Callable[[Tensor], Tensor]) -> Given:
    """The same for maps of labels."""
    return Mapped(_turn(request.images, rows), shares=shares)


def plain(request: Any, factor: int = 1) -> Generate:
    """A request that starts from pictures as one for new pictures, ``factor`` times as large as those."""
    named = {field.name for field in fields(Generate)} & {field.name for field in fields(request)}
    size = [] if request.images is None else [factor * side for side in request.images.shape[2:]]
    told = {name: getattr(request, name) for name in named}
    return Generate(**told, **dict(zip(("height", "width"), size, strict=False)))


def _turn(given: Tensor, rows: range) -> Tensor:
    return given[[i % len(given) for i in rows]]


def _share(strength: float) -> float:
    if not 0 < strength <= 1:
        raise UsageError(f"strength must be above 0 and at most 1, got {strength}.")
    return strength


def _size(x: Tensor) -> str:
    return f"{x.shape[-2]} x {x.shape[-1]}"
