"""Pictures that somebody gives: files and folders, read as a model takes them, a few at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato import images
from sfumato.data.scan import pictures
from sfumato.errors import DataError, UsageError

if TYPE_CHECKING:
    from sfumato.apps.ask import Asked

PIXELS = 16 * 256 * 256
"""Most pixels read at a time, unless a single picture has more."""


@dataclass(frozen=True)
class Given:
    """A picture on disk."""

    path: Path
    name: Path
    """Where its answer goes, without the suffix; pictures of a folder keep their subfolders."""
    named: bool
    """Whether it was named itself, not found in a folder."""


@dataclass(frozen=True)
class Part:
    """A few pictures of one size, as a model takes them."""

    first: int
    """How many lie before them."""
    given: tuple[Given, ...]
    pixels: Float[Tensor, "n c h w"]


def listed(places: Sequence[Path]) -> list[Given]:
    """Files as they are named, and all pictures of the folders among them."""
    if not places:
        raise UsageError("Which pictures? Give files, or a folder of JPEG, PNG or WebP files")
    found: list[Given] = []
    for place in (place.expanduser() for place in places):
        if place.is_dir():
            found += [Given(place / name, Path(name).with_suffix(""), False) for name in pictures(place)]
        elif place.exists():
            found.append(Given(place, Path(place.stem), True))
        else:
            raise DataError(f"There is no picture and no folder '{place}'; give the path of one")
    return found


def parts(
    given: Sequence[Given],
    channels: int,
    size: int | None,
    skipped: list[str],
    *,
    read: Callable[[Path], Tensor] | None = None,
    or_none: bool = False,
) -> Iterator[Part]:
    """Read pictures in their order, as many of one size together as fit.

    ``size`` scales and crops them to squares; None leaves them as they are; ``read`` prepares them in a way
    of its own. Pictures of a folder that cannot be read are left out and told in ``skipped``; one that was
    named itself raises a ``PictureError``. If none can be read, that is a ``DataError`` unless ``or_none``.
    """
    waiting: list[tuple[Given, Tensor]] = []
    first = 0
    for one in given:
        try:
            pixels = prepare(one.path, channels, size) if read is None else read(one.path)
        except images.PictureError as error:
            if one.named:
                raise
            skipped.append(f"left out: {error}")
            continue
        full = waiting and (
            pixels.shape != waiting[0][1].shape or pixels[0].numel() * (len(waiting) + 1) > PIXELS
        )
        if full:
            yield _part(first, waiting)
            first, waiting = first + len(waiting), []
        waiting.append((one, pixels))
    if waiting:
        yield _part(first, waiting)
    elif not first and not or_none:
        raise DataError(f"None of the {len(given)} pictures can be read: {skipped[0]}; give others")


def _part(first: int, waiting: Sequence[tuple[Given, Tensor]]) -> Part:
    return Part(first, tuple(one for one, _ in waiting), torch.stack([pixels for _, pixels in waiting]))


def prepare(path: Path, channels: int, size: int | None) -> Float[Tensor, "c h w"]:
    """One picture, scaled and cropped to a square unless ``size`` is None."""
    if size is None:
        return images.to_tensor(images.open_image(path), channels)
    return images.to_tensor(images.fit(images.open_image(path, at_least=(size, size)), size, size), channels)


def read_all(places: Sequence[Path], asked: Asked) -> Float[Tensor, "n c h w"]:
    """Pictures at the size the model learned from, together."""
    if asked.size is None:
        raise UsageError("This model does not say at which size it learned; give a run folder")
    return torch.stack([prepare(one.path, asked.system.channels, asked.size) for one in listed(places)])
