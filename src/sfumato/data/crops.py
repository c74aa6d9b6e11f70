"""Square crops at many scales of a folder's pictures: a few large pictures make much to learn from."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Int, UInt8
from PIL import Image
from torch import Tensor

from sfumato.data.folder import Folder
from sfumato.data.pictures import MEMORY, THREADS
from sfumato.errors import DataError, UsageError
from sfumato.images import from_levels, to_levels

WITHIN = 6
"""Crops that the shorter side of a picture holds at most; a larger picture is reduced when it is read."""
LENGTHS = {"train": 10_000, "test": 1000}
FLAT, TRIES = 8, 20
"""Grey levels that a square spans in some colour, or it is drawn again, as often as this: nothing can be
learned from an empty one, and norms over single pictures make its gradient infinite."""


class Crops(Folder):
    """Crops of the pictures of a folder, for systems that learn from pieces; crop i is always the same crop.

    Half of those for training are mirrored. Captions and classes are left out, because a piece need not show
    what they say. Reduced pictures are kept in ``memory`` bytes, those beyond it read again at every use.
    Named with its folder, as in ``crops:folder=./photos``. Raises what ``Folder`` raises.
    """

    def __init__(
        self,
        split: str = "train",
        size: int = 64,
        *,
        folder: Sequence[str] = (),
        length: int | None = None,
        memory: int = MEMORY,
    ):
        if len(folder) != 1:
            raise UsageError(
                f"Crops come from one folder of pictures, got {len(folder)}; name it, as in "
                "crops:folder=./photos."
            )
        super().__init__(split, size, path=os.path.expanduser(folder[0]), memory=0)
        self._split = split
        self._length = LENGTHS[split] if length is None else length
        self._reduced: dict[int, Image.Image] = {}
        self._room = memory
        self.facts = replace(
            self.facts,
            fields=frozenset({"image"}),
            classes=(),
            words=(),
            fingerprint=f"crops-{split}-{self._length}-{self.facts.fingerprint}",
        )

    def __len__(self) -> int:
        return self._length

    def batch(self, indices: Int[Tensor, " b"]) -> Mapping[str, Any]:
        with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
            return {"image": from_levels(torch.stack(list(pool.map(self._crop, indices.tolist()))))}

    def _crop(self, index: int) -> UInt8[Tensor, "3 h w"]:
        if not 0 <= index < self._length:
            raise IndexError(f"Crop {index} of {self._length}")
        dice = random.Random(f"crops/{self._split}/{index}")
        first = dice.randrange(len(self._entries))
        for step in range(len(self._entries)):  # one that cannot be read is replaced by the next that can
            picture = self._picture((first + step) % len(self._entries))
            if picture is not None:
                return self._square(picture, dice)
        raise DataError(f"No picture in '{self.path}' can be read; give other data.")

    def _square(self, picture: Image.Image, dice: random.Random) -> UInt8[Tensor, "3 h w"]:
        for _ in range(TRIES):
            levels = to_levels(cut(picture, self._size, dice, mirrored=self._split == "train"))
            low, high = levels.flatten(1).aminmax(dim=1)
            if int((high - low).max()) >= FLAT:
                break
        return levels

    def _picture(self, place: int) -> Image.Image | None:
        if place in self._reduced:
            return self._reduced[place]
        most = WITHIN * self._size
        opened = self._opened(place, most)
        if opened is None:
            return None
        image = opened.convert("RGB")
        scale = most / min(image.size)
        if scale < 1:
            size = (round(image.width * scale), round(image.height * scale))
            image = image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
        with self._lock:
            needed = 3 * image.width * image.height
            if needed <= self._room and place not in self._reduced:
                self._room -= needed
                self._reduced[place] = image
        return image


def cut(image: Image.Image, size: int, dice: random.Random, *, mirrored: bool) -> Image.Image:
    """A square of a picture by chance, all scales alike, at ``size`` pixels a side; ``mirrored`` half of the
    time."""
    most = min(image.size)
    side = round(math.exp(dice.uniform(math.log(min(size, most)), math.log(most))))
    left, top = dice.randint(0, image.width - side), dice.randint(0, image.height - side)
    box = (left, top, left + side, top + side)
    crop = image.resize((size, size), Image.Resampling.BICUBIC, box, reducing_gap=2.0)
    if mirrored and dice.random() < 0.5:
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return crop
