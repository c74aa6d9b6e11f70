"""What lies beside the latents that a diffusion denoises: nothing, a masked or a small picture, a map.

Rombach et al. 2022, sections 4.3.2, 4.4 and 4.5, by concatenation. Each says what it needs in training, how
it looks there, and how a request with such a thing becomes one for new pictures.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from functools import partial
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import interpolate

from sfumato.core.generate import Generate
from sfumato.core.masks import drawn
from sfumato.core.process import Process
from sfumato.core.request import Edit, Request, Translate, Upscale, Vary
from sfumato.core.system import Batch
from sfumato.data.dataset import Dataset
from sfumato.errors import DataError, UsageError
from sfumato.nn.autoencoder import AutoencoderConfig
from sfumato.systems.diffusion import starts
from sfumato.systems.diffusion.starts import Encode, Given

Asked = tuple[Generate, Callable[[range], Given]]
"""A request as one for new pictures, and what those of its rows start from."""


class Shown(NamedTuple):
    """What a network is told besides what is read."""

    spatial: Float[Tensor, "b k i j"] | None = None
    vector: Float[Tensor, "b d"] | None = None


class Beside(nn.Module, abc.ABC):
    """What lies beside the latents."""

    tasks: ClassVar[tuple[type[Request], ...]]
    fields: ClassVar[tuple[str, ...]] = ()
    """Of a batch: what it is made of in training."""
    channels: int = 0

    def measure(self, data: Dataset) -> None:
        """Learn, before training, what holds for all of the data."""

    @abc.abstractmethod
    def shown(self, batch: Batch, encode: Encode) -> Shown:
        """What the network sees of a batch in training."""

    @abc.abstractmethod
    def asked(self, request: Request) -> Asked:
        """A request of one of the ``tasks``; others raise a ``UsageError``."""


class Nothing(Beside):
    """New pictures, and others like given ones."""

    tasks = (Generate, Vary)

    def shown(self, batch: Batch, encode: Encode) -> Shown:
        return Shown()

    def asked(self, request: Request) -> Asked:
        match request:
            case Vary():
                return starts.plain(request), partial(starts.varied, request)
            case Generate():
                return request, starts.nothing
        raise _no(request)


class Masked(Beside):
    """The mask, 1 where we may paint, and the latents of the picture without what is inside: the order of
    Stable Diffusion's inpainting models. Masks are drawn at random in training."""

    tasks = (Edit,)
    fields = ("image",)

    def __init__(self, stage: AutoencoderConfig):
        super().__init__()
        self.channels = 1 + stage.latent_channels

    def shown(self, batch: Batch, encode: Encode) -> Shown:
        images = batch["image"]
        mask = drawn(batch.rng, *images.shape[2:])
        return Shown(starts.outside(images, mask, encode, batch.rng))

    def asked(self, request: Request) -> Asked:
        if not isinstance(request, Edit):
            raise _no(request)
        return starts.plain(request), partial(starts.masked, request)


class Small(Beside):
    """The picture at the size of the latents, under noise where the network can be told how much."""

    tasks = (Upscale,)
    fields = ("image",)

    def __init__(self, stage: AutoencoderConfig, augmentation: Process = Process(), classes: int = 0):
        """``classes`` are the amounts of noise that there are; 0 means that it is always clean."""
        super().__init__()
        self.channels, self.factor = stage.channels, stage.factor
        self.augmentation, self.classes = augmentation, classes

    def shown(self, batch: Batch, encode: Encode) -> Shown:
        images = batch["image"]
        size = images.shape[2] // self.factor, images.shape[3] // self.factor
        small = interpolate(images, size, mode="bicubic", antialias=True).clamp(-1, 1)
        noise = batch.rng.integers(0, self.classes) if self.classes else None
        return Shown(*starts.noised(small, noise, self.augmentation, self.classes, batch.rng))

    def asked(self, request: Request) -> Asked:
        if not isinstance(request, Upscale):
            raise _no(request)
        begin = partial(starts.small, request, augmentation=self.augmentation, classes=self.classes)
        return starts.plain(request, self.factor), begin


class Map(Beside):
    """A map of labels, each a flat colour of its own, as the share of each label in a cell of the latents
    (section 4.3.2: one-hot, then resized)."""

    tasks = (Translate,)
    fields = ("source",)
    palette: Tensor

    def __init__(self, stage: AutoencoderConfig, labels: int):
        super().__init__()
        self.channels, self.factor = labels, stage.factor
        self.register_buffer("palette", torch.full((labels, stage.channels), FAR))

    def measure(self, data: Dataset) -> None:
        """Find the colours that maps have.

        Raises ``DataError`` if they are more than there is room for.
        """
        found = torch.zeros(0, dtype=torch.long)
        for rows in torch.arange(min(len(data), SEEN)).split(128):
            found = torch.cat([found, _numbered(data.batch(rows)["source"])]).unique()
            if len(found) > self.channels:
                raise DataError(
                    f"The maps of '{data.facts.name}' have more than {self.channels} colours; each label "
                    "needs one flat colour, without antialiasing, or give more --labels."
                )
        digits = torch.stack([found // 256**k % 256 for k in range(self.palette.shape[1])], 1)
        self.palette.fill_(FAR)[: len(found)] = (digits / 127.5 - 1).to(self.palette)

    def shown(self, batch: Batch, encode: Encode) -> Shown:
        return Shown(self.shares(batch["source"]))

    def shares(self, maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k i j"]:
        """How much of each cell has each label; a colour that is none is taken for the nearest."""
        pixels, palette = maps.movedim(1, 3).to(self.palette.device), self.palette.float()
        label = torch.cdist(pixels.flatten(1, 2), palette).argmin(2)
        hot = nn.functional.one_hot(label, len(self.palette)).unflatten(1, maps.shape[2:])
        return nn.functional.avg_pool2d(hot.movedim(3, 1).float(), self.factor)

    def asked(self, request: Request) -> Asked:
        if not isinstance(request, Translate):
            raise _no(request)
        if request.direction:
            raise UsageError(
                f"A map becomes a picture and no picture a map, got direction '{request.direction}'; "
                "leave it out."
            )
        return starts.plain(request), partial(starts.mapped, request, shares=self.shares)


FAR = 9.0
"""A colour that nothing is near: of labels that do not occur."""
SEEN = 4096
"""Maps among which colours are sought."""


def _numbered(maps: Float[Tensor, "b c h w"]) -> Int[Tensor, " n"]:
    """The colours of maps, each once, as numbers whose digits to the base of 256 are its channels."""
    levels = ((maps + 1) * 127.5).round().long()
    powers = 256 ** torch.arange(maps.shape[1])
    return (levels * powers.view(-1, 1, 1)).sum(1).unique()


def _no(request: Request) -> UsageError:
    return UsageError(
        f"This latent diffusion does not serve a {type(request).__name__}; ask for another task."
    )
