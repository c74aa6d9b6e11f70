"""Crops of the real photographs that come with scikit-image and scikit-learn: nothing is downloaded."""

from __future__ import annotations

import hashlib
import importlib.util
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from PIL import Image
from torch import Tensor

from sfumato.data.crops import LENGTHS, cut
from sfumato.data.dataset import Facts
from sfumato.data.labelled import check_split
from sfumato.errors import MissingExtraError, UsageError
from sfumato.images import from_levels, open_image, to_levels

PHOTOS = {
    "astronaut": ("skimage", "data/astronaut.png"),
    "cat": ("skimage", "data/chelsea.png"),
    "coffee": ("skimage", "data/coffee.png"),
    "rocket": ("skimage", "data/rocket.jpg"),
    "motorcycle": ("skimage", "data/motorcycle_left.png"),
    "galaxies": ("skimage", "data/hubble_deep_field.jpg"),
    "retina": ("skimage", "data/retina.jpg"),
    "tissue": ("skimage", "data/ihc.png"),
    "temple": ("sklearn", "datasets/images/china.jpg"),
    "flower": ("sklearn", "datasets/images/flower.jpg"),
}
"""All colour photographs of both packages; of the stereo pair of a motorcycle, one."""
LARGEST = 256
TEST = 0.3
"""Share of every photograph, on its right, that is never trained on."""
HELD_OUT = ("cat", "coffee", "temple")
"""The photographs that ``photographs`` keeps for testing, whole."""


class Photos:
    """Square crops at many scales, labelled with their photograph; crop i is always the same crop.

    The left 70 % of every photograph are for training (half of the crops mirrored), the rest for testing.
    Where the rest is narrower than a crop, it grows to its width, but not beyond half of the photograph.
    With ``apart``, the photographs of ``HELD_OUT`` are for testing and all others for training, uncut.
    Raises ``MissingExtraError`` without scikit-image or scikit-learn.
    """

    def __init__(
        self, split: str = "train", size: int = 64, *, length: int | None = None, apart: bool = False
    ):
        check_split("photos", split)
        if not 1 <= size <= LARGEST:
            raise UsageError(
                f"Crops of photos have 1 to {LARGEST} pixels a side, not {size}; give another --size."
            )
        self._split, self._size = split, size
        self._length = LENGTHS[split] if length is None else length
        names = [n for n in PHOTOS if (n in HELD_OUT) == (split == "test")] if apart else list(PHOTOS)
        photos = [open_photo(name) for name in names]
        self._regions = photos if apart else [_region(photo, split, size) for photo in photos]
        self._labels = [list(PHOTOS).index(name) for name in names]
        digest = hashlib.blake2b(f"{split} {size} {self._length}".encode(), digest_size=8)
        for region in self._regions:
            digest.update(region.tobytes())
        self.facts = Facts(
            name="photographs" if apart else "photos",
            channels=3,
            height=size,
            width=size,
            fields=frozenset({"image", "label"}),
            classes=tuple(PHOTOS),
            fingerprint=digest.hexdigest(),
        )

    def __len__(self) -> int:
        return self._length

    def batch(self, indices: Int[Tensor, " b"]) -> Mapping[str, Any]:
        crops = [self._crop(int(index)) for index in indices]
        levels = torch.stack([to_levels(image) for image, _ in crops])
        return {"image": from_levels(levels), "label": torch.tensor([label for _, label in crops])}

    def _crop(self, index: int) -> tuple[Image.Image, int]:
        if not 0 <= index < self._length:
            raise IndexError(f"Crop {index} of {self._length}")
        dice = random.Random(f"photos/{self._split}/{index}")  # a stream of its own for every crop
        place = dice.randrange(len(self._regions))
        crop = cut(self._regions[place], self._size, dice, mirrored=self._split == "train")
        return crop, self._labels[place]


def photographs(split: str = "train", size: int = 64, *, length: int | None = None) -> Photos:
    """Crops of photographs of which three (``HELD_OUT``) are kept whole for testing."""
    return Photos(split, size, length=length, apart=True)


def open_photo(name: str) -> Image.Image:
    """One of ``PHOTOS``, whole; ``MissingExtraError`` without its package."""
    return open_image(_find(*PHOTOS[name])).convert("RGB")


def _region(photo: Image.Image, split: str, size: int) -> Image.Image:
    border = photo.width - round(max(photo.width * TEST, min(size, photo.width / 2)))
    ends = (0, border) if split == "train" else (border, photo.width)
    return photo.crop((ends[0], 0, ends[1], photo.height))


def _find(package: str, file: str) -> Path:
    """Path of a package's own file, without the seconds that importing the package takes."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(
            "The photographs come with scikit-image and scikit-learn, which are not both installed; "
            "install the extra 'data': pip install 'sfumato[data]'"
        )
    return Path(spec.submodule_search_locations[0]) / file
